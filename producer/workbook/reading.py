"""A workbook as it is: sheets, headers, typed cells, and plain words for everything that can be wrong with a file."""

import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Self

from workers.contract.errors import WorkbookError

from .cells import Cell, CellError, Stream, as_text, is_filled
from .charsets import encoding_of, name_of
from .columns import ERRORS_HEADERS, find_question_column, normalised
from .delimited import read_delimited
from .formats import Format, format_of
from .headers import find_header_row
from .json_lines import read_json_lines, whole_text
from .old_excel import OldWorkbook
from .parquet import TypedColumns, read_parquet
from .spreadsheets import Workbook
from .texts import Texts
from .totals import TotalRow, totals_of

#: Sheets, and headers of each, that a line lists to choose from.
_SHOWN = 8

__all__ = ["Cell", "Sheet", "as_text", "read_sheet", "text_encoding"]


@dataclass(frozen=True)
class Sheet:
    """One sheet of questions. An empty cell is ``""``; trailing empty rows and columns are left out."""

    name: str
    headers: list[str]
    question_column: int
    #: The number that a spreadsheet program shows beside the header, from 1.
    header_row: int
    #: How many data rows there are; the first has the number 0.
    height: int
    #: Of each column the types of the cells that hold anything; none in a column that is empty.
    kinds: list[frozenset[type]]
    texts: Texts
    #: None once the rows are let go of.
    stream: Stream | None
    #: The total rows of tables, by their data rows.
    total_rows: tuple[TotalRow, ...] = ()
    #: Of a file whose columns have types of their own.
    typed: TypedColumns | None = None

    def rows(self) -> Iterator[list[Cell]]:
        """Begin a pass over the data rows in file order, each as long as ``headers``: tables that are no workbooks are read again.

        The file must still be there, as it was. Raises WorkbookError.
        """
        assert self.stream is not None, "the rows have been let go of"
        width = len(self.headers)
        for row in islice(self.stream(), self.header_row, self.header_row + self.height):
            yield row if len(row) == width else row[:width] + [""] * (width - len(row))

    def without_rows(self) -> Self:
        """Return all but the rows: those of a workbook take much memory for as long as anybody holds them."""
        return replace(self, stream=None, typed=None)

    def questions(self) -> Sequence[str]:
        """Return the question of every row as text; empty where there is none."""
        return self.texts

    def totals(self, columns: Collection[int]) -> frozenset[int]:
        """Return the rows that add up one of these columns: they hold no question whatever stands there."""
        return totals_of(self.total_rows, columns)

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
            return _as_sheet(path, whole_text(path.stem), read_delimited(path, question_column, header_row), question_column, header_row)
        case Format.JSON_LINES | Format.PARQUET:
            if header_row not in (None, 1):
                raise WorkbookError(f"{path} names its columns itself; leave out --header-row {header_row}")
            stream, typed = (read_json_lines(path), None) if kind is Format.JSON_LINES else read_parquet(path)
            return replace(_as_sheet(path, whole_text(path.stem), stream, question_column, 1), typed=typed)


def text_encoding(path: Path) -> str | None:
    """Return what a file is encoded in if it is text, and not in UTF-8."""
    return name_of(encoding_of(path)) if format_of(path) in (Format.DELIMITED, Format.JSON_LINES) else None


def _read_workbook(path: Path, kind: Format, sheet: str | None, question_column: str | None, header_row: int | None) -> Sheet:
    workbook = OldWorkbook(path) if kind is Format.XLS else Workbook.open(path, kind)
    if sheet is not None:
        if sheet not in workbook.names:
            raise WorkbookError(f"{path} has no sheet {sheet!r}; it has: {_listed(workbook.names)}")
        return _as_sheet(path, sheet, workbook.stream(sheet), question_column, header_row, workbook.total_rows(sheet))
    seen: dict[str, list[str]] = {}  # the headers of each sheet that holds anything
    candidates: list[str] = []
    for name in workbook.visible:
        stream = workbook.stream(name)
        if any(is_filled(cell) for row in stream() for cell in row):
            headers = seen[name] = _headers(stream, _header_index(stream, question_column, header_row))
            if find_question_column(headers, question_column) is not None and tuple(headers[:4]) != ERRORS_HEADERS[:4]:
                candidates.append(name)
        if len(workbook.visible) > 1:  # of several sheets none is held, or together they would take all memory
            del stream
    if not seen:
        raise WorkbookError(f"{path} has no visible sheet with anything in it")
    if len(candidates) > 1:
        raise WorkbookError(f"{path} has questions on {len(candidates)} sheets; choose one with --sheet: {_listed(candidates)}")
    if not candidates and len(seen) > 1:
        raise _no_candidate(path, seen, question_column)
    name = next(iter(candidates or seen))
    if len(workbook.visible) > 1:
        stream = workbook.stream(name)
    return _as_sheet(path, name, stream, question_column, header_row, workbook.total_rows(name))


def _height(stream: Stream) -> int:
    """Return the number of the last row that holds something, from 1; below it formulas that are filled down may leave errors."""
    return max((number for number, row in enumerate(stream(), start=1) if any(is_filled(cell) for cell in row)), default=0)


def _header_index(stream: Stream, wanted: str | None, header_row: int | None) -> int:
    return (find_header_row(stream(), wanted) or 0) if header_row is None else header_row - 1


def _headers(stream: Stream, index: int) -> list[str]:
    """Return a row as text, up to the last cell that holds anything."""
    headers = [as_text(cell) for row in islice(stream(), index, index + 1) for cell in row]
    while headers and not headers[-1]:
        headers.pop()
    return headers


def _as_sheet(
    path: Path, name: str, stream: Stream, wanted: str | None, header_row: int | None, total_rows: Iterable[TotalRow] = ()
) -> Sheet:
    index = _header_index(stream, wanted, header_row)
    headers = _headers(stream, index)
    if not headers:
        raise _no_header(path, name, index, _height(stream))
    column = find_question_column(headers, wanted)
    if column is None:
        what = f"column {wanted!r}" if wanted else "question column"
        where = "" if index == 0 else f" in row {index + 1}"
        conversations = next(
            (f", the one with conversations with --messages-column {h!r}" for h in headers if normalised(h) == "messages"), ""
        )
        raise WorkbookError(
            f"sheet {name!r} of {path} has no {what}; its columns{where} are: {_listed([h for h in headers if h])};"
            f" name the one with the questions with --question-column{conversations}, or the header's row with --header-row"
        )
    totals = tuple(total._replace(row=total.row - index - 1) for total in total_rows)
    try:
        kinds, texts = _survey(stream, index + 1, column, totals_of(totals, [column]))
    except OSError as error:
        raise WorkbookError(f"cannot read {path}: {error.strerror} (the questions are kept in {tempfile.gettempdir()})") from error
    if not texts:
        raise WorkbookError(f"sheet {name!r} of {path} has a header and no rows below it")
    width = max(len(headers), len(kinds))
    kinds += [frozenset()] * (width - len(kinds))
    return Sheet(name, headers + [""] * (width - len(headers)), column, index + 1, len(texts), kinds, texts, stream, totals)


def _survey(stream: Stream, start: int, column: int, totals: Collection[int]) -> tuple[list[frozenset[type]], Texts]:
    """Return which types each column holds, up to the last that holds anything, and the questions, up to the last row that does."""
    first: list[dict[type, int]] = []  # of each column, in which row a type appears
    texts, height = Texts(), 0
    for number, row in enumerate(islice(stream(), start, None), start=1):
        texts.append(as_text(row[column]) if column < len(row) and number - 1 not in totals else "")
        for place, cell in enumerate(row):
            if cell != "":
                if place >= len(first):
                    first += [{} for _ in range(place + 1 - len(first))]
                first[place].setdefault(type(cell), number)
                if type(cell) is not CellError:
                    height = number
    texts.cut(height)
    kinds = [frozenset(kind for kind, number in types.items() if number <= height) for types in first]
    while kinds and not kinds[-1]:
        kinds.pop()
    return kinds, texts


def _no_candidate(path: Path, seen: Mapping[str, Sequence[str]], wanted: str | None) -> WorkbookError:
    what = f"column {wanted!r}" if wanted else "question column"
    some = islice(seen.items(), _SHOWN)
    known = "; ".join(f"{name!r} has {_listed([header for header in headers if header][:_SHOWN])}" for name, headers in some)
    return WorkbookError(
        f"no sheet of {path} has a {what}: {known}; choose one with --sheet, and the column with the questions with --question-column"
    )


def _no_header(path: Path, name: str, index: int, height: int) -> WorkbookError:
    if not height:
        return WorkbookError(f"sheet {name!r} of {path} is empty")
    if index < height:
        return WorkbookError(f"row {index + 1} of sheet {name!r} of {path} is empty: it cannot be the header; give another --header-row")
    return WorkbookError(f"sheet {name!r} of {path} ends in row {height}; row {index + 1} cannot be its header (--header-row)")


def _listed(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names)
