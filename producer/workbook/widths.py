"""How wide the columns of a sheet of ours are: as wide as what stands in its first rows, up to where it is wrapped."""

import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple

from .cells import Cell, as_text

#: In narrow characters: the least, and what is wrapped beyond.
NARROW, WIDE = 10, 60
#: What a header leaves free beside it, and a button for its filter takes.
_MARGIN, _BUTTON = 2, 3
#: Rows that are looked at, and characters of a text.
_ROWS, _CHARACTERS = 100, 1000


class Columns(NamedTuple):
    """How the columns of a sheet look."""

    widths: list[int]
    #: Those whose texts are wrapped.
    wrapped: frozenset[int]


def columns_for(
    headers: Sequence[str], rows: Iterable[Sequence[Cell]], wide: Collection[int], filtered: bool = False
) -> tuple[Columns, Iterator[Sequence[Cell]]]:
    """Return how columns look, and all the rows again. Those that are to hold long text are wide whatever the first rows say."""
    upcoming = iter(rows)
    first = list(islice(upcoming, _ROWS))
    taken = [width_of_header(header) + _BUTTON * filtered for header in headers]
    wrapped = set(wide)
    for row in first:
        for place, cell in enumerate(row):
            if cell != "":
                text = as_text(cell)[:_CHARACTERS]
                taken[place] = max(taken[place], _taken(text) + 1)
                if taken[place] > WIDE or "\n" in text:
                    wrapped.add(place)
    widths = [WIDE if place in wide else min(width, WIDE) for place, width in enumerate(taken)]
    return Columns(widths, frozenset(wrapped)), chain(first, upcoming)


def width_of_header(header: str) -> int:
    """Return how wide a column is that holds nothing wider than its header."""
    return min(max(_taken(header) + _MARGIN, NARROW), WIDE)


def _taken(text: str) -> int:
    """Return how wide the widest line of a text is; a Japanese letter takes the room of two."""
    return max((sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in line[:WIDE]) for line in text.splitlines()), default=0)
