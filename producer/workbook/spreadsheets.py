"""Sheets of the workbooks that spreadsheet programs write: .xlsx, .xlsm, .xls and .ods."""

import datetime
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Self

from python_calamine import (
    CalamineError,
    CalamineSheet,
    CalamineWorkbook,
    PasswordError,
    SheetTypeEnum,
    SheetVisibleEnum,
    WorksheetNotFound,
    XmlError,
    ZipError,
)

from workers.contract.errors import WorkbookError

from .cells import Cell, Stream, tidy
from .corrections import Corrections
from .formats import Format
from .ods_xml import measure_ods
from .package import Package
from .package_xml import refuse_large_lists, sheet_parts
from .shared_texts import shared_text
from .sheet_xml import Extent, measure
from .strange_sheets import without_strange_sheets
from .totals import TotalRow, total_rows
from .xls_records import corrections_of

#: calamine lays a sheet out as a full grid, and ends the process where there is no room. Up to so many cells that is fine however empty
#: they are, and beyond only if a tenth of them hold something.
SPARSE_CELLS = 8_000_000
#: Bytes that it takes for a cell of the grid, and for one that holds something, beside its text.
_GRID_CELL, _FILLED_CELL = 32, 40
#: Bytes that a sheet may take: a small file so many; a larger one so many times its size, up to so many.
SHEET_BYTES, _TIMES, _MOST_BYTES = 704 << 20, 16, 4 << 30
#: Bytes of text that many cells share, each of which gets its own, that need no counting.
_HARMLESS = 64 << 20
_MAX_ROWS, _MAX_COLUMNS = 1_048_576, 16_384
#: What the library says of errors that it does not know, such as #SPILL!.
_NEW_ERROR = "Unsupported cell error value"
_CELL_TAG = re.compile(rb"<(?:\w+:)?c\s[^>]*>")
_IS_ERROR = re.compile(rb"""(\st\s*=\s*["'])e(["'])""")
_DURATION = re.compile(r"(-?)PT(\d{1,6})H(\d{1,2})M(\d{1,2}(?:\.\d{1,9})?)S")


class Workbook:
    """An open workbook. Raises WorkbookError, in one line, for everything that is wrong with the file."""

    def __init__(self, path: Path, kind: Format, calamine: CalamineWorkbook, package: Package | None, extents: dict[str, Extent]) -> None:
        self._path, self._kind, self._calamine, self._package, self._extents = path, kind, calamine, package, extents
        self._parts = sheet_parts(package) if package and kind is Format.XLSX else {}
        sheets = [meta for meta in calamine.sheets_metadata if meta.typ == SheetTypeEnum.WorkSheet]
        self.names = [meta.name for meta in sheets]
        self.visible = [meta.name for meta in sheets if meta.visible == SheetVisibleEnum.Visible]

    @classmethod
    def open(cls, path: Path, kind: Format) -> Self:
        """Open a workbook after a look at what it would cost."""
        package, extents = None, {}
        if kind is not Format.XLS:
            package = Package(path)
            package.refuse_dishonest_parts()
        if package is not None and kind is Format.XLSX:
            refuse_large_lists(package)
        if package is not None and kind is Format.ODS:
            if "meta-inf/manifest.xml" in package.names() and b":encryption-data" in b"".join(package.chunks("meta-inf/manifest.xml")):
                raise WorkbookError(f"{path} is protected with a password; save a copy without one")
            extents = measure_ods(package)
            taken = 0
            for name, extent in extents.items():  # calamine lays out all of them at once
                taken += 2 * _bytes(extent)  # once as they are read, and once as a grid
                _refuse_too_large(path, name, extent, taken)
        try:
            with _readable(path, kind, package) as named:
                calamine = CalamineWorkbook.from_path(str(named))
            if kind is Format.XLS:
                extents = _extents_of_xls(path, calamine)
            return cls(path, kind, calamine, package, extents)
        except PasswordError as error:
            raise WorkbookError(f"{path} is protected with a password; save a copy without one") from error
        except (CalamineError, ZipError, XmlError, OSError) as error:
            raise WorkbookError(
                f"{path} is a damaged workbook ({_first_line(error)}); open it in a spreadsheet program and save it anew"
            ) from error

    def stream(self, name: str) -> Stream:
        """Return the rows of a sheet from A1 on. Its cells are in memory as the library has them, and become Python's row by row."""
        extent = self._extent(name)
        if extent is not None:
            _refuse_too_large(self._path, name, extent, _bytes(extent))
        with _explaining(self._path, name):
            try:
                sheet = self._calamine.get_sheet_by_name(name)
            except CalamineError as error:
                if self._package is None or _NEW_ERROR not in str(error):
                    raise
                sheet = self._with_errors_as_text(name, self._package)
        return partial(_rows, self._path, self._kind, sheet, extent.corrected if extent else Corrections())

    def _with_errors_as_text(self, name: str, package: Package) -> CalamineSheet:
        """Return a sheet whose errors are texts: the library refuses those of newer programs, and we know where errors stand."""
        with tempfile.TemporaryDirectory(prefix="kotae-read-") as folder:
            plain = Path(folder) / "workbook.xlsx"
            package.copy(plain, without_strange_sheets(package) | {self._parts[name]: _errors_as_text})
            return CalamineWorkbook.from_path(str(plain)).get_sheet_by_name(name)

    def total_rows(self, name: str) -> list[TotalRow]:
        """Return the total rows of the tables on a sheet."""
        part = self._parts.get(name)
        return total_rows(self._package, part) if self._package and part else []

    def _extent(self, name: str) -> Extent | None:
        if self._kind is not Format.XLSX:
            return self._extents.get(name)
        if self._package is None or not self._parts:
            return None
        part = self._parts.get(name)
        if part is None:
            raise WorkbookError(f"{self._path} is a damaged workbook: there is nothing of sheet {name!r}; save it anew")
        extent = measure(self._package, part)
        return extent._replace(text=extent.text + shared_text(self._package, part, extent.cells, _HARMLESS))


def _extents_of_xls(path: Path, calamine: CalamineWorkbook) -> dict[str, Extent]:
    """Return what is read amiss of each sheet; how large they are is known once they are read, in a process that may not take much."""
    corrections = corrections_of(path)
    if len(corrections) != len(calamine.sheet_names):
        return {}
    return {name: Extent(0, 0, 0, 0, corrected) for name, corrected in zip(calamine.sheet_names, corrections, strict=True)}


def _rows(path: Path, kind: Format, sheet: CalamineSheet, corrected: Corrections) -> Iterator[list[Cell]]:
    convert = _from_ods if kind is Format.ODS else tidy
    anything_amiss = len(corrected) > 0  # of a million rows the question alone takes time
    margin: list[Cell] = [""] * (sheet.start[1] if sheet.start else 0)  # iter_rows begins with row 1, but not with column A
    with _explaining(path, sheet.name):
        for number, cells in enumerate(sheet.iter_rows()):
            row = margin + [convert(cell) for cell in cells]
            for column, cell in corrected.of_row(number) if anything_amiss else ():
                row.extend([""] * (column + 1 - len(row)))
                row[column] = cell
            yield row


@contextmanager
def _explaining(path: Path, name: str) -> Iterator[None]:
    try:
        yield
    except (CalamineError, WorksheetNotFound, XmlError, ZipError, OSError, OverflowError, ValueError) as error:
        raise WorkbookError(f"sheet {name!r} of {path} cannot be read: {_first_line(error)}") from error


def _bytes(extent: Extent) -> int:
    """Return what the library takes for a sheet."""
    return _GRID_CELL * extent.rows * extent.columns + _FILLED_CELL * extent.cells + extent.text


def _refuse_too_large(path: Path, name: str, extent: Extent, taken: int) -> None:
    """Raise WorkbookError if a sheet is too large; ``taken`` bytes are what it takes with those that are laid out beside it."""
    area = extent.rows * extent.columns
    if extent.rows > _MAX_ROWS or extent.columns > _MAX_COLUMNS:
        raise WorkbookError(f"{path} is a damaged workbook: sheet {name!r} has cells where no sheet has any; save it anew")
    room = min(max(SHEET_BYTES, _TIMES * path.stat().st_size), _MOST_BYTES)
    if taken > room or (area > SPARSE_CELLS and extent.cells * 10 < area):
        raise WorkbookError(
            f"sheet {name!r} of {path} reaches over {extent.rows:,} rows and {extent.columns:,} columns, with {extent.cells:,} cells that"
            f" hold anything, {taken / 2**20:,.0f} MB in memory: more than can be read; delete values that stand far away from the others,"
            " or save the sheet as .csv"
        )


def _from_ods(cell: Cell) -> Cell:
    """calamine gives times of a day and more as they are written in the file."""
    if isinstance(cell, str) and (match := _DURATION.fullmatch(cell)):
        span = datetime.timedelta(hours=int(match[2]), minutes=int(match[3]), seconds=float(match[4]))
        return -span if match[1] else span
    return tidy(cell)


def _errors_as_text(xml: bytes) -> bytes:
    return _CELL_TAG.sub(lambda tag: _IS_ERROR.sub(rb"\1str\2", tag[0]), xml)


@contextmanager
def _readable(path: Path, kind: Format, package: Package | None) -> Iterator[Path]:
    """Give the file by a name that says what it is, since calamine believes names, and without sheets that it stumbles over."""
    changes = without_strange_sheets(package) if package and kind is Format.XLSX else {}
    if path.suffix.lower() == f".{kind}" and not changes:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="kotae-read-") as folder:
        named = Path(folder) / f"workbook.{kind}"
        if package is not None and changes:
            package.copy(named, changes)
        else:
            named.symlink_to(path.resolve())
        yield named


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
