"""What stands in cells that the library reads amiss, errors above all; a sheet can hold millions of them."""

from array import array
from bisect import bisect_left
from collections.abc import Iterator

from .cells import Cell

_ROWS, _COLUMNS = 1 << 20, 1 << 14


class Corrections:
    """Cells by their row and column, from 0, at ten bytes each and every value once."""

    def __init__(self) -> None:
        self._rows, self._columns, self._which = array("I"), array("H"), array("I")
        self._values: list[Cell] = []
        self._known: dict[tuple[type, Cell], int] = {}  # with the type: an error is another thing than its text
        self._in_order = True

    def add(self, row: int, column: int, value: Cell) -> None:
        """Note a cell; one that no sheet can have is passed over."""
        if not (0 <= row < _ROWS and 0 <= column < _COLUMNS):
            return
        key = (type(value), value)
        if key not in self._known:
            self._known[key] = len(self._values)
            self._values.append(value)
        self._in_order = self._in_order and not (self._rows and row < self._rows[-1])
        self._rows.append(row)
        self._columns.append(column)
        self._which.append(self._known[key])

    def __len__(self) -> int:
        return len(self._rows)

    def of_row(self, row: int) -> Iterator[tuple[int, Cell]]:
        """Yield column and value of each cell of a row."""
        if not self._in_order:
            self._put_in_order()
        for place in range(bisect_left(self._rows, row), len(self._rows)):
            if self._rows[place] != row:
                break
            yield self._columns[place], self._values[self._which[place]]

    def _put_in_order(self) -> None:
        order = sorted(range(len(self)), key=self._rows.__getitem__)
        for name in ("_rows", "_columns", "_which"):
            places: array[int] = getattr(self, name)
            setattr(self, name, array(places.typecode, (places[place] for place in order)))
        self._in_order = True
