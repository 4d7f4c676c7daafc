"""Tables as text, with commas, tabs or the like between their cells: .csv and .tsv."""

import csv
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO

from workers.contract.errors import WorkbookError

from .cells import Cell, Grid, Stream
from .charsets import LONGEST, encoding_of, whole_lines
from .columns import find_question_column
from .delimited_limits import NarrowLines, refuse_emptiness
from .headers import find_header_row
from .quoting import quoted_from_the_start, stands_off

_DELIMITERS = (",", "\t", ";", "|")
#: Between the cells of a table that has one column: stands in no text.
_NONE = "\x1f"
#: Characters, and rows of them, that the delimiter is guessed from.
_SAMPLE, _SAMPLED_ROWS = 1 << 18, 200
_SEP_LINE = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)


def read_delimited(path: Path, question_column: str | None, header_row: int | None) -> Stream:
    """Return the rows, every cell as the text it is. Raises WorkbookError where the text is none, or a quotation is never closed."""
    csv.field_size_limit(LONGEST)
    encoding = encoding_of(path)
    with _opened(path, encoding) as (file, told):
        sample = file.read(_SAMPLE)
    delimiter = told or _delimiter(path, sample, question_column, header_row)
    lines = partial(quoted_from_the_start, delimiter=delimiter) if stands_off(sample, delimiter) else iter
    rows = partial(_rows, path, encoding, delimiter, lines, strict=True)
    try:
        refuse_emptiness(path, rows())
    except csv.Error:  # a quotation mark in the middle of a cell: what it means is plain enough
        rows = partial(_rows, path, encoding, delimiter, lines, strict=False)
        refuse_emptiness(path, rows())
    return rows


@contextmanager
def _opened(path: Path, encoding: str) -> Iterator[tuple[IO[str], str | None]]:
    """Open the text behind a first line such as ``sep=;``, by which Excel is told the delimiter; it is no row in Excel either."""
    with path.open(encoding=encoding, newline="") as file:
        told = _SEP_LINE.fullmatch(file.readline(8))
        if told is None:
            file.seek(0)
        yield file, told[1] if told else None


def _rows(
    path: Path, encoding: str, delimiter: str, lines: Callable[[Iterator[str]], Iterator[str]], *, strict: bool
) -> Iterator[list[Cell]]:
    with _opened(path, encoding) as (file, _):
        narrow = NarrowLines(path, lines(whole_lines(path, file)), delimiter)
        reader = csv.reader(narrow, delimiter=delimiter, strict=strict)
        begins = 1
        try:
            for row in reader:
                narrow.end_row(len(row))
                yield row  # type: ignore[misc]  # a list of texts, which is nobody else's
                begins = reader.line_num + 1
        except csv.Error as error:
            if "field larger" in str(error):
                raise WorkbookError(
                    f"{path}: a cell in line {begins} has more than {LONGEST:,} characters; no question is that long"
                ) from error
            if "unexpected end" not in str(error):
                raise
            raise WorkbookError(
                f'{path}: in line {begins} a quotation mark (") is opened that is never closed; close it, or double it inside a cell'
            ) from error


def _delimiter(path: Path, sample: str, question_column: str | None, header_row: int | None) -> str:
    """Return the delimiter by which the header has a question column, most rows have as many cells as it, and those are most.

    A header of one cell needs none, whatever stands in the questions. That of a .tsv that says nothing else is the tab.
    """
    best: tuple[bool, float, int, bool] | None = None
    found = _NONE
    for delimiter in _DELIMITERS:
        lines = quoted_from_the_start(sample.splitlines(keepends=True), delimiter)
        rows: Grid = [list(row) for row in islice(csv.reader(lines, delimiter=delimiter), _SAMPLED_ROWS)]
        index = (find_header_row(rows, question_column) or 0) if header_row is None else header_row - 1
        if index >= len(rows) or len(rows[index]) < 2:
            continue
        header = [str(cell) for cell in rows[index]]
        try:
            known = find_question_column(header, question_column) is not None
        except WorkbookError:  # it stands there twice, which is for others to say
            known = True
        below = [row for row in rows[index + 1 :] if row]
        alike = sum(len(row) == len(header) for row in below) / max(len(below), 1)
        score = (known, alike, len(header), delimiter == "\t" and path.suffix.lower() == ".tsv")
        if best is None or score > best:
            best, found = score, delimiter
    return found
