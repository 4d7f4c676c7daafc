"""What no table of text may be: wider than any sheet, or empty for longer than one."""

import functools
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Self

from workers.contract.errors import WorkbookError

from .cells import Cell
from .limits import MAX_COLUMNS, MAX_ROWS


class NarrowLines:
    """Lines on their way to a reader that would lay out as many cells as they hold. Raises WorkbookError where that are too many."""

    def __init__(self, path: Path, lines: Iterable[str], delimiter: str) -> None:
        self._path, self._lines, self._delimiter = path, iter(lines), delimiter
        self._number = self._cells = 0
        self._inside = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._number += 1
        # A line that a quotation goes on in counts in full only where it ends there
        if '"' in line if self._inside else line.count(self._delimiter) >= MAX_COLUMNS:
            self._cells += _count(line, self._delimiter, self._inside, MAX_COLUMNS + 1)
            self._refuse(self._cells)
        self._inside = True
        return line

    def end_row(self, cells: int) -> None:
        """Take notice that the lines so far are a row of so many cells."""
        self._refuse(cells)
        self._inside, self._cells = False, 0

    def _refuse(self, cells: int) -> None:
        if cells > MAX_COLUMNS:
            raise WorkbookError(f"{self._path}: the row in line {self._number} has more than {MAX_COLUMNS:,} cells: more than can be read")


def refuse_emptiness(path: Path, rows: Iterator[list[Cell]]) -> None:
    """Read all rows once. Raises WorkbookError where more of them than a sheet has rows are empty, one after the other."""
    empty = 0
    for row in rows:
        empty = 0 if any(row) else empty + 1
        if empty > MAX_ROWS:
            raise WorkbookError(f"{path} has more than {MAX_ROWS:,} empty rows one after the other; delete them")


def _count(line: str, delimiter: str, inside: bool, most: int) -> int:
    """Return how many cells begin or end in a line, up to so many."""
    begun = _REST.match(line) if inside else None
    found = _cell(delimiter).finditer(line, begun.end() if begun else 0)
    return sum(1 for _ in islice(found, most))


#: The rest of a quotation that was opened in an earlier line.
_REST = re.compile(r'(?:[^"]|"")*+')


@functools.cache
def _cell(delimiter: str) -> re.Pattern[str]:
    mark = re.escape(delimiter)
    return re.compile(rf'(?:"(?:[^"]|"")*+"?)?[^{mark}]*(?:{mark}|\Z)')
