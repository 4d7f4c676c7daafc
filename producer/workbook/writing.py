"""A fresh workbook, written in one pass in little memory, and put in its place in one step."""

import datetime
import math
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from itertools import chain, count, islice
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import xlsxwriter
from xlsxwriter.exceptions import XlsxWriterException
from xlsxwriter.utility import xl_rowcol_to_cell_fast
from xlsxwriter.worksheet import CellStringTuple, Worksheet

from workers.contract.errors import WorkbookError

from .cells import Cell, CellError, as_text
from .limits import MAX_ROWS, MAX_SHEET_NAME, cut_for_excel
from .replacing import replacing
from .text_xml import text_xml
from .widths import Columns, columns_for

#: Dates before it have no number in Excel; they are written as text.
_FIRST_YEAR = 1900
_DATE_FORMATS = {
    datetime.datetime: "yyyy-mm-dd hh:mm:ss",
    datetime.date: "yyyy-mm-dd",
    datetime.time: "hh:mm:ss",
    datetime.timedelta: "[h]:mm:ss",
}
#: The errors that a cell of an .xlsx can hold; those of other programs are written as text.
_ERRORS = ("#NULL!", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#N/A", "#GETTING_DATA")

# XlsxWriter has no option for how hard it compresses: at zlib's level 4 long answers take a quarter of the time, and a sixth more room.
xlsxwriter.workbook.ZipFile = partial(ZipFile, compresslevel=4)


class Table:
    """One sheet to write: its name, its headers, its rows as they come, which of its columns hold long text, whether it has filters."""

    def __init__(
        self, name: str, headers: Sequence[str], rows: Iterable[Sequence[Cell]], wide: Iterable[int] = (), filtered: bool = False
    ) -> None:
        self.name, self.headers, self.rows, self.wide, self.filtered = name, headers, rows, frozenset(wide), filtered


def write_tables(path: Path, tables: Sequence[Table], created: datetime.datetime, most_rows: int = MAX_ROWS) -> list[str]:
    """Write a workbook and replace ``path`` by it at once; what was there before stays whole until then.

    A table of more than ``most_rows`` rows, header included, goes on in further sheets. Return what the user should be told.
    Raises WorkbookError if the place cannot be written.
    """
    notices: list[str] = []
    with replacing(path) as work:
        options = {
            "constant_memory": True,
            "strings_to_formulas": False,
            "strings_to_urls": False,
            "strings_to_numbers": False,
            "tmpdir": str(work.parent),
        }
        workbook = xlsxwriter.Workbook(str(work), options)
        workbook.use_zip64()  # a sheet of more than 2 GiB, which is a million long answers
        workbook.set_properties({"created": created})
        try:
            names = {table.name.casefold() for table in tables}
            for table in tables:
                notices += _write_table(workbook, table, most_rows, names)
            workbook.close()
        except XlsxWriterException as error:
            raise WorkbookError(f"cannot write {path}: {error}") from error
        finally:
            for sheet in workbook.worksheets():  # where constant_memory keeps its rows; closed already when all went well
                sheet.row_data_fh.close()
            workbook.fileclosed = True
    return notices


class _LiteralSheet(Worksheet):  # type: ignore[misc]  # XlsxWriter has no types
    """A sheet that writes what it is given: XlsxWriter takes ``<r>...</r>`` for markup of its own, and rounds numbers to 16 digits."""

    def _write_cell(self, row: int, col: int, cell: Any) -> None:
        """Write a text in half of XlsxWriter's time, and anything else as it does. Texts are nearly all that there is."""
        if not isinstance(cell, CellStringTuple):
            super()._write_cell(row, col, cell)
            return
        place, style = xl_rowcol_to_cell_fast(row, col), cell.format._get_xf_index()
        self.fh.write(f'<c r="{place}" s="{style}" t="inlineStr"><is>{text_xml(cell.string)}</is></c>')

    def _xml_number_element(self, number: float, attributes: Sequence[tuple[str, str]] = ()) -> None:
        super()._xml_number_element(_Exact(number), attributes)

    def _xml_formula_element(self, _: str, result: str, attributes: Sequence[tuple[str, str]] = ()) -> None:
        # XlsxWriter knows errors as results of formulas only; we write no formula, and read formulas by their results
        self._xml_start_tag("c", attributes)
        self._xml_data_element("v", result)
        self._xml_end_tag("c")


class _Exact(float):
    """A number that is written with all its digits."""

    def __format__(self, _: str) -> str:
        return repr(float(self))


def _write_table(workbook: Any, table: Table, most_rows: int, taken: set[str]) -> list[str]:
    """Write a table to as many sheets as it needs; say so if it needs more than one. ``taken`` are the names of all sheets."""
    columns, rows = columns_for(table.headers, table.rows, table.wide, table.filtered)
    names = [table.name]
    while True:
        _write_sheet(workbook, names[-1], table, columns, islice(rows, most_rows - 1))
        upcoming = next(rows, None)
        if upcoming is None:
            break
        rows = chain([upcoming], rows)
        names.append(_further_name(table.name, len(names) + 1, taken))
        taken.add(names[-1].casefold())
    if len(names) == 1:
        return []
    listed = ", ".join(repr(name) for name in names)
    return [f"{table.name!r} has more rows than a sheet can hold ({most_rows - 1:,} below its header); it goes over the sheets {listed}"]


def _further_name(name: str, number: int, taken: Collection[str]) -> str:
    """Return a name such as ``質問 (2)`` that no other sheet has."""
    for suffix in chain([f" ({number})"], (f" ({number}.{more})" for more in count(1))):
        cut = name.encode("utf-16-le")[: 2 * (MAX_SHEET_NAME - len(suffix))].decode("utf-16-le", "ignore")
        if f"{cut}{suffix}".casefold() not in taken:
            return f"{cut}{suffix}"
    raise AssertionError("numbers never end")


def _write_sheet(workbook: Any, name: str, table: Table, columns: Columns, rows: Iterable[Sequence[Cell]]) -> None:
    sheet = workbook.add_worksheet(name, worksheet_class=_LiteralSheet)
    bold = workbook.add_format({"bold": True})
    wrapped = workbook.add_format({"text_wrap": True, "valign": "top"})
    dates = {kind: workbook.add_format({"num_format": text, "valign": "top"}) for kind, text in _DATE_FORMATS.items()}
    plain = workbook.add_format({"valign": "top"})
    for column, width in enumerate(columns.widths):
        sheet.set_column(column, column, width)
    sheet.freeze_panes(1, 0)
    for column, header in enumerate(table.headers):
        _check(sheet.write_string(0, column, cut_for_excel(header), bold), name, 0)
    number = 0
    for number, row in enumerate(rows, start=1):
        for column, cell in enumerate(row):
            own_format = wrapped if column in columns.wrapped else plain
            _check(_write_cell(sheet, number, column, cell, own_format, dates), name, number)
    if table.filtered:
        _check(sheet.autofilter(0, 0, number, len(table.headers) - 1), name, 0)


def _write_cell(sheet: Any, row: int, column: int, cell: Cell, own_format: Any, dates: dict[type, Any]) -> int:
    match cell:
        case "":
            return 0
        case CellError() if cell in _ERRORS:
            return int(sheet.write_formula(row, column, f"={cell}", own_format, str(cell)))
        case str():
            return int(sheet.write_string(row, column, cut_for_excel(cell), own_format))
        case bool():
            return int(sheet.write_boolean(row, column, cell, own_format))
        case float() if not math.isfinite(cell):
            return int(sheet.write_string(row, column, str(cell), own_format))
        case int() | float():
            return int(sheet.write_number(row, column, cell, own_format))
        case datetime.datetime() | datetime.date() if cell.year < _FIRST_YEAR:
            return int(sheet.write_string(row, column, as_text(cell), own_format))
        case _:
            return int(sheet.write_datetime(row, column, cell, dates[type(cell)]))


def _check(code: int, name: str, row: int) -> None:
    if code != 0:  # xlsxwriter drops a cell that it cannot write and says so only here
        raise WorkbookError(f"a cell in row {row + 1} of sheet {name!r} could not be written (XlsxWriter code {code})")
