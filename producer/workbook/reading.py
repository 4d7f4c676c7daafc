"""A workbook as it is: sheets, headers, typed cells, and plain words for everything that can be wrong with a file."""

from pathlib import Path
from typing import NamedTuple

from workers.contract.errors import WorkbookError

from .cells import Cell, Grid, as_text, is_filled
from .charsets import encoding_of, name_of
from .columns import ERRORS_HEADERS, find_question_column
from .delimited import read_delimited
from .formats import Format, format_of
from .headers import find_header_row
from .json_lines import read_json_lines
from .old_excel import OldWorkbook
from .parquet import read_parquet
from .spreadsheets import Workbook

__all__ = ["Cell", "Sheet", "as_text", "read_sheet", "text_encoding"]


class Sheet(NamedTuple):
    """One sheet of questions. An empty cell is ``""``; trailing empty rows and columns are left out."""

    name: str
    headers: list[str]
    #: Data rows in file order, each as long as ``headers``; the first has the number 0.
    rows: list[list[Cell]]
    question_column: int
    #: The number that a spreadsheet program shows beside the header, from 1.
    header_row: int = 1
    #: The rows that are totals of a table, and hold no question whatever stands there.
    totals: frozenset[int] = frozenset()

    def questions(self) -> list[str]:
        """Return the question of every row as text; empty where there is none."""
        return ["" if number in self.totals else as_text(row[self.question_column]) for number, row in enumerate(self.rows)]

    def shown_row(self, row: int) -> int:
        """Return the number that a spreadsheet program shows beside a data row of the source."""
        return self.header_row + 1 + row


def read_sheet(path: Path, sheet: str | None = None, question_column: str | None = None, header_row: int | None = None) -> Sheet:
    """Read the sheet with the questions: the named one, or the only visible one that has a question column.

    Its header is in row ``header_row``, counted from 1, or is found. A file that is one table, such as a .csv,
    is one sheet, whatever ``sheet`` says, and called as the file is. Raises WorkbookError, in one line that says what to do.
    """
    kind = format_of(path)
    match kind:
        case Format.XLSX | Format.XLS | Format.ODS:
            return _read_workbook(path, kind, sheet, question_column, header_row)
        case Format.DELIMITED:
            return _as_sheet(path, path.stem, _trimmed(read_delimited(path, question_column, header_row)), question_column, header_row)
        case Format.JSON_LINES | Format.PARQUET:
            if header_row not in (None, 1):
                raise WorkbookError(f"{path} names its columns itself; leave out --header-row {header_row}")
            grid = read_json_lines(path) if kind is Format.JSON_LINES else read_parquet(path)
            return _as_sheet(path, path.stem, _trimmed(grid), question_column, 1)


def text_encoding(path: Path) -> str | None:
    """Return what a file is encoded in if it is text, and not in UTF-8."""
    return name_of(encoding_of(path)) if format_of(path) in (Format.DELIMITED, Format.JSON_LINES) else None


def _read_workbook(path: Path, kind: Format, sheet: str | None, question_column: str | None, header_row: int | None) -> Sheet:
    workbook = OldWorkbook(path) if kind is Format.XLS else Workbook.open(path, kind)
    if sheet is not None:
        if sheet not in workbook.names:
            raise WorkbookError(f"{path} has no sheet {sheet!r}; it has: {_listed(workbook.names)}")
        return _without_totals(workbook, _as_sheet(path, sheet, _trimmed(workbook.grid(sheet)), question_column, header_row))
    candidates: dict[str, Grid] = {}
    filled: tuple[str, Grid] | None = None
    for name in workbook.visible:
        grid = _trimmed(workbook.grid(name))
        if grid and filled is None:
            filled = (name, grid)
        headers = _headers(grid, _header_index(grid, question_column, header_row))
        if find_question_column(headers, question_column) is not None and tuple(headers[:3]) != ERRORS_HEADERS[:3]:
            candidates[name] = grid
    if filled is None:
        raise WorkbookError(f"{path} has no visible sheet with anything in it")
    if len(candidates) > 1:
        raise WorkbookError(f"{path} has questions on {len(candidates)} sheets; choose one with --sheet: {_listed(list(candidates))}")
    name, grid = next(iter(candidates.items()), filled)
    return _without_totals(workbook, _as_sheet(path, name, grid, question_column, header_row))


def _without_totals(workbook: Workbook | OldWorkbook, sheet: Sheet) -> Sheet:
    if isinstance(workbook, OldWorkbook):
        return sheet
    found = [total for total in workbook.total_rows(sheet.name) if total.first <= sheet.question_column <= total.last]
    return sheet._replace(totals=frozenset(total.row - sheet.header_row for total in found))


def _trimmed(grid: Grid) -> Grid:
    """Take away the rows at the end that hold nothing, or only errors: formulas are filled down far below the data."""
    while grid and not any(is_filled(cell) for cell in grid[-1]):
        grid.pop()
    return grid


def _header_index(grid: Grid, wanted: str | None, header_row: int | None) -> int:
    return (find_header_row(grid, wanted) or 0) if header_row is None else header_row - 1


def _as_sheet(path: Path, name: str, grid: Grid, wanted: str | None, header_row: int | None) -> Sheet:
    if not grid:
        raise WorkbookError(f"sheet {name!r} of {path} is empty")
    index = _header_index(grid, wanted, header_row)
    headers = _headers(grid, index)
    if not any(headers):
        raise WorkbookError(
            f"row {index + 1} of sheet {name!r} of {path} is empty: it cannot be the header; give another --header-row"
            if index < len(grid)
            else f"sheet {name!r} of {path} ends in row {len(grid)}; row {index + 1} cannot be its header (--header-row)"
        )
    column = find_question_column(headers, wanted)
    if column is None:
        what = f"column {wanted!r}" if wanted else "question column"
        where = "" if index == 0 else f" in row {index + 1}"
        raise WorkbookError(
            f"sheet {name!r} of {path} has no {what}; its columns{where} are: {_listed([h for h in headers if h])};"
            " name the one with the questions with --question-column, or the header's row with --header-row"
        )
    width = len(headers)
    del grid[: index + 1]
    for i, row in enumerate(grid):
        if len(row) != width:
            grid[i] = row[:width] + [""] * (width - len(row))
    if not grid:
        raise WorkbookError(f"sheet {name!r} of {path} has a header and no rows below it")
    return Sheet(name, headers, grid, column, index + 1)


def _headers(grid: Grid, index: int) -> list[str]:
    """Return a row as text, as wide as the widest row from there on that holds anything."""
    if index >= len(grid):
        return []
    width = max((i for row in grid[index:] for i, cell in enumerate(row, start=1) if cell != ""), default=0)
    return [as_text(cell) for cell in grid[index][:width]] + [""] * (width - len(grid[index]))


def _listed(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names)
