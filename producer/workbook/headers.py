"""Which row of a sheet is its header."""

from collections.abc import Iterable, Sequence

from .cells import Cell, as_text, is_filled
from .columns import QUESTION_HEADERS, normalised

#: How many rows of a sheet may stand above its header: a title, a date, who it is for.
_SEARCHED = 20


def find_header_row(rows: Iterable[Sequence[Cell]], wanted: str | None = None) -> int | None:
    """Return the index of the header row; None if nothing is filled.

    It is the first of the first rows that has a column of questions (``wanted``, or one of the known names) beside others and has
    only narrower rows above it, as titles are; then one whose only column it is; then the first that is not empty. A cell "question" in a
    row of data has rows as wide as its own above it.
    """
    names = {normalised(wanted)} if wanted is not None else set(QUESTION_HEADERS)
    first: int | None = None
    lonely: int | None = None
    widest = 0
    for i, row in enumerate(rows):
        if first is not None and i >= first + _SEARCHED:
            break
        filled = sum(is_filled(cell) for cell in row)
        if not filled:
            continue
        first = i if first is None else first
        if any(isinstance(cell, str) and normalised(as_text(cell)) in names for cell in row):
            if filled > max(widest, 1):
                return i
            if filled == 1 and widest <= 1 and lonely is None:
                lonely = i
        widest = max(widest, filled)
    return first if lonely is None else lonely
