"""A workbook as it is: sheets, headers, typed cells, and plain words for everything that can be wrong with a file."""

import datetime
from pathlib import Path
from typing import NamedTuple, TypeAlias

from python_calamine import (
    CalamineError,
    CalamineWorkbook,
    PasswordError,
    SheetTypeEnum,
    SheetVisibleEnum,
    WorksheetNotFound,
    XmlError,
    ZipError,
)

from workers.contract.errors import WorkbookError

from .columns import ERRORS_HEADERS, find_question_column

Cell: TypeAlias = str | int | float | bool | datetime.datetime | datetime.date | datetime.time | datetime.timedelta

_XLSX = b"PK\x03\x04"
_KNOWN = {
    b"\xd0\xcf\x11\xe0": "an old or a password-protected Excel file",
    b"PAR1": "a Parquet file",
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture",
}


class Sheet(NamedTuple):
    """One sheet of questions. An empty cell is ``""``; trailing empty rows and columns are left out."""

    name: str
    headers: list[str]
    #: Data rows in file order, each as long as ``headers``; the first has the number 0.
    rows: list[list[Cell]]
    question_column: int

    def questions(self) -> list[str]:
        """Return the question of every row as text; empty where there is none."""
        return [as_text(row[self.question_column]) for row in self.rows]


def read_sheet(path: Path, sheet: str | None = None, question_column: str | None = None) -> Sheet:
    """Read the sheet with the questions: the named one, or the only visible one that has a question column.

    Raises WorkbookError, in one line that says what to do.
    """
    workbook = _open(path)
    names = [meta.name for meta in workbook.sheets_metadata if meta.typ == SheetTypeEnum.WorkSheet]
    visible = [meta.name for meta in workbook.sheets_metadata if meta.visible == SheetVisibleEnum.Visible and meta.name in names]
    if sheet is not None:
        if sheet not in names:
            raise WorkbookError(f"{path} has no sheet {sheet!r}; it has: {_listed(names)}")
        return _as_sheet(path, sheet, _grid(path, workbook, sheet), question_column)
    grids = {name: _grid(path, workbook, name) for name in visible}
    filled = {name: grid for name, grid in grids.items() if grid}
    if not filled:
        raise WorkbookError(f"{path} has no visible sheet with anything in it")
    headers = {name: _headers(grid) for name, grid in filled.items()}
    candidates = [n for n, h in headers.items() if find_question_column(h, question_column) is not None and tuple(h) != ERRORS_HEADERS]
    if len(candidates) > 1:
        raise WorkbookError(f"{path} has questions on {len(candidates)} sheets; choose one with --sheet: {_listed(candidates)}")
    name = candidates[0] if candidates else next(iter(filled))
    return _as_sheet(path, name, filled[name], question_column)


def as_text(cell: Cell) -> str:
    """Return a cell as the text a person sees in it; dates as ISO 8601."""
    match cell:
        case str():
            return cell
        case bool():
            return str(cell).upper()
        case datetime.datetime() | datetime.date() | datetime.time():
            return cell.isoformat(" ") if isinstance(cell, datetime.datetime) else cell.isoformat()
        case _:
            return str(cell)


def _open(path: Path) -> CalamineWorkbook:
    if path.is_dir():
        raise WorkbookError(f"{path} is a folder; give a workbook (.xlsx)")
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except FileNotFoundError as error:
        raise WorkbookError(f"there is no file {path}") from error
    except OSError as error:
        raise WorkbookError(f"cannot read {path}: {error.strerror}") from error
    try:
        workbook = CalamineWorkbook.from_path(str(path))
    except PasswordError as error:
        raise WorkbookError(f"{path} is protected with a password; save a copy without one") from error
    except (CalamineError, ZipError, XmlError, OSError) as error:
        what = _KNOWN.get(start) or ("an empty file" if not start else "something else" if start != _XLSX else "a damaged workbook")
        raise WorkbookError(f"{path} is not a workbook (.xlsx) that can be read: it looks like {what} ({_first_line(error)})") from error
    if start != _XLSX:
        raise WorkbookError(f"{path} is {_KNOWN.get(start, 'not an .xlsx workbook')}; save it as .xlsx")
    return workbook


def _grid(path: Path, workbook: CalamineWorkbook, name: str) -> list[list[Cell]]:
    """Return all cells of a sheet from column A on, without the empty rows at its beginning and its end."""
    try:
        rows: list[list[Cell]] = workbook.get_sheet_by_name(name).to_python(skip_empty_area=False)
    except (CalamineError, WorksheetNotFound, XmlError, ZipError, OverflowError, ValueError) as error:
        raise WorkbookError(f"sheet {name!r} of {path} cannot be read: {_first_line(error)}") from error
    while rows and not any(cell != "" for cell in rows[-1]):
        rows.pop()
    first = next((i for i, row in enumerate(rows) if any(cell != "" for cell in row)), 0)
    return rows[first:]


def _as_sheet(path: Path, name: str, grid: list[list[Cell]], wanted: str | None) -> Sheet:
    if not grid:
        raise WorkbookError(f"sheet {name!r} of {path} is empty")
    headers = _headers(grid)
    column = find_question_column(headers, wanted)
    if column is None:
        what = f"column {wanted!r}" if wanted else "question column"
        raise WorkbookError(
            f"sheet {name!r} of {path} has no {what}; its columns are: {_listed([h for h in headers if h])};"
            " name the one with the questions with --question-column"
        )
    width = len(headers)
    rows = [[_tidy(cell) for cell in row[:width]] + [""] * (width - len(row)) for row in grid[1:]]
    if not rows:
        raise WorkbookError(f"sheet {name!r} of {path} has a header and no rows below it")
    return Sheet(name, headers, rows, column)


def _headers(grid: list[list[Cell]]) -> list[str]:
    """Return the first row as text, as wide as the widest row that holds anything."""
    width = max((i for row in grid for i, cell in enumerate(row, start=1) if cell != ""), default=0)
    return [as_text(_tidy(cell)) for cell in grid[0][:width]] + [""] * (width - len(grid[0]))


def _tidy(cell: Cell) -> Cell:
    """calamine reads every number as a float; a whole one is shown, and asked, without its point."""
    return int(cell) if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53 else cell


def _listed(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
