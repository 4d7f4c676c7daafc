"""What a sheet's XML holds that its values do not show: formulas, errors, and cells beyond the last column with a value."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from workers.contract.errors import WorkbookError

from .places import column_index, row_number
from .tags import Piece, Tag, cut, root_of

#: Kinds of formulas that stand in one cell for an area.
_FOR_SEVERAL_CELLS = ("shared", "array", "dataTable")


class Survey(NamedTuple):
    """What stands in the rows of the questions, headers included; columns count from 0."""

    #: From 1.
    header_row: int
    #: The last column with a cell that is not empty, or that is merged with one; -1 if there is none.
    last_column: int
    #: Columns with a formula.
    formulas: frozenset[int]
    #: Columns with a formula, an error, or merged cells of which only the first is seen: they are not free, even if they read as empty.
    unseen: frozenset[int]
    #: Column and area of formulas that are written once for several cells.
    shared: tuple[tuple[int, str], ...]


def survey(chunks: Iterator[bytes], header_row: int, count: int, part: str) -> Survey:
    """Look through a sheet's XML once, in little memory. Raises WorkbookError."""
    first = next(chunks, b"")
    pieces = cut(chain([first], chunks), root_of(first, part).prefix, ["sheetData", "row", "c", "f", "mergeCell"])
    last, formulas, unseen = -1, set[int](), set[int]()
    shared: list[tuple[int, str]] = []
    for row, column, cell, formula in _cells(pieces, part):
        if not header_row <= row <= header_row + count:
            continue
        if formula is not None:
            filled = [column]
            if formula.get("t") in _FOR_SEVERAL_CELLS and (area := formula.get("ref")):
                shared.append((column, area))
                filled += _area(area)[0]
            formulas.update(filled)
            last = max(last, *filled)
        elif cell.opening:
            last = max(last, column)
            if cell.get("t") == "e":
                unseen.add(column)
    for columns, rows in _merged(pieces):
        if rows[-1] >= header_row and rows[0] <= header_row + count:
            # Of merged cells only the first is seen.
            unseen.update(columns if len(rows) > 1 else columns[1:])
            last = max(last, columns[-1])
    return Survey(header_row, last, frozenset(formulas), frozenset(formulas | unseen), tuple(shared))


def refuse_to_tear_formulas(found: Survey, replaced: Sequence[int], count: int) -> None:
    """Raise WorkbookError if a formula that is written once for several cells would lose its place and still be needed."""
    for column, area in found.shared:
        columns, rows = _area(area)
        inside = all(index in replaced for index in (column, *columns)) and rows[-1] <= found.header_row + count
        if any(index in replaced for index in (column, *columns)) and not inside:
            raise WorkbookError(f"--keep-format cannot replace a formula that {area} share; leave out --overwrite or --keep-format")


def _area(reference: str) -> tuple[range, range]:
    """Return columns, from 0, and rows, from 1, of an area such as ``B2:C5``."""
    start, _, end = reference.partition(":")
    columns = range(column_index(start), column_index(end or start) + 1)
    return columns, range(row_number(start), row_number(end or start) + 1)


def _merged(pieces: Iterable[Piece]) -> Iterator[tuple[range, range]]:
    """Yield the areas of merged cells, which a sheet names after its cells."""
    for piece in pieces:
        if isinstance(piece, Tag) and piece.name == "mergeCell" and (reference := piece.get("ref")):
            columns, rows = _area(reference)
            if columns and rows:
                yield columns, rows


def _cells(pieces: Iterable[Piece], part: str) -> Iterator[tuple[int, int, Tag, Tag | None]]:
    """Yield row, column and tag of every cell, and once more with its formula if it has one."""
    row, column = 0, -1
    cell: Tag | None = None
    for piece in pieces:
        if not isinstance(piece, Tag) or piece.closing:
            if isinstance(piece, Tag) and piece.name == "sheetData":
                return
            continue
        if piece.name == "row":
            before, number = row, piece.get("r")
            row, column = int(number) if number else row + 1, -1
            if row <= before:  # no spreadsheet program writes that, and one pass could not mend it
                raise WorkbookError(
                    f"--keep-format: row {row} stands out of order in {part}; save the workbook anew in a spreadsheet program"
                )
        elif piece.name == "c":
            reference = piece.get("r")
            column, cell = column_index(reference) if reference else column + 1, piece
            yield row, column, cell, None
        elif cell is not None:
            yield row, column, cell, piece
