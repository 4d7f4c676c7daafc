"""New cells in a sheet's XML: beside its rows, in its header row, and in columns that are filled in place; all else stays as it is."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from workers.contract.errors import WorkbookError

from .cell_xml import cell_xml
from .places import column_index, column_name, row_number
from .reading import Cell
from .tags import Piece, Root, Tag, cut, joined, root_of
from .widths import WIDE, width_of_header

_NAMES = ["dimension", "cols", "col", "sheetData", "row", "c"]


class NewColumn(NamedTuple):
    """One of our columns in a sheet that is there."""

    #: From 0.
    place: int
    #: None if the sheet's own column is filled in place: its header, its width and its cells' styles stay.
    header: str | None
    wide: bool
    #: Of cells that have none of their own.
    style: str | None


class Patch(NamedTuple):
    """What a sheet gets."""

    columns: Sequence[NewColumn]
    #: From 1, as in the file.
    header_row: int
    #: How many rows there are below the header.
    height: int
    #: For each of these rows a value for each column.
    rows: Iterable[Sequence[Cell]]


class _New(NamedTuple):
    """One of our cells."""

    column: NewColumn
    value: Cell
    is_header: bool

    def xml(self, row: int, own: str | None, left: str | None, root: Root) -> str:
        """Return it as XML. ``own`` is the style of the cell that stood there, ``left`` that of the cell to the left."""
        if self.is_header:
            style = left
        elif self.column.header is None and own not in (None, "0"):
            style = own
        else:
            style = self.column.style if self.value != "" else own
        return cell_xml(self.column.place, row, self.value, style, root.prefix)


class _Row(NamedTuple):
    """A row as it stands in the file."""

    number: int
    start: Tag
    #: Up to the end tag, without it.
    content: list[Piece]
    #: Empty if the row is one tag (``<row/>``).
    end: bytes


def patch_sheet(chunks: Iterator[bytes], patch: Patch, part: str) -> Iterator[bytes]:
    """Yield a sheet's XML with new cells, in one pass. Its rows are known to stand in their order. Raises WorkbookError."""
    first = next(chunks, b"")
    root = root_of(first, part)
    pieces = cut(chain([first], chunks), root.prefix, _NAMES)
    head: list[Piece] = []
    data = _until_data(pieces, head, part)
    yield joined(_patched_head(head, patch, root))
    yield data.opened().raw
    new = _new_rows(patch)
    if data.opening:
        yield from _patched_rows(pieces, new, root)
    yield from (_new_row(number, cells, root) for number, cells in new)
    yield f"</{root.prefix}sheetData>".encode()
    yield from (joined([piece]) for piece in pieces)


def _until_data(pieces: Iterator[Piece], head: list[Piece], part: str) -> Tag:
    for piece in pieces:
        if isinstance(piece, Tag) and piece.name == "sheetData":
            return piece
        head.append(piece)
    raise WorkbookError(f"--keep-format: the part {part} of the workbook is no sheet with cells")


# -- what stands before the rows


def _patched_head(head: list[Piece], patch: Patch, root: Root) -> list[Piece]:
    pieces = [_larger(piece, patch) if isinstance(piece, Tag) and piece.name == "dimension" else piece for piece in head]
    new = [column for column in patch.columns if column.header is not None]
    if not new:
        return pieces
    ends = [number for number, piece in enumerate(pieces) if isinstance(piece, Tag) and piece.name == "cols"]
    known = [piece for piece in pieces if isinstance(piece, Tag) and piece.name == "col" and not piece.closing]
    widths = joined(_widths(known, new, root))
    if ends:  # from <cols> to </cols>, or <cols/>
        return [*pieces[: ends[0]], _cols(widths, root), *pieces[ends[-1] + 1 :]]
    return [*pieces, _cols(widths, root)]  # what may stand between them and the rows: nothing


def _cols(widths: bytes, root: Root) -> bytes:
    return f"<{root.prefix}cols>".encode() + widths + f"</{root.prefix}cols>".encode()


def _larger(dimension: Tag, patch: Patch) -> Tag:
    if dimension.closing:
        return dimension
    start, _, end = (dimension.get("ref") or "A1").partition(":")
    end = end or start
    columns = [column_index(start), column_index(end), *(column.place for column in patch.columns)]
    rows = [row_number(start), row_number(end), patch.header_row, patch.header_row + patch.height]
    return dimension.having(ref=f"{column_name(min(columns))}{min(rows)}:{column_name(max(columns))}{max(rows)}")


def _widths(known: Sequence[Tag], new: Sequence[NewColumn], root: Root) -> list[Piece]:
    """Return the widths of all columns; where old ones span ours they are split."""
    first, last = new[0].place + 1, new[-1].place + 1
    kept: list[tuple[int, Tag]] = []
    for tag in known:
        low, high = int(tag.get("min") or 0), int(tag.get("max") or 0)
        for start, end in ((low, min(high, first - 1)), (max(low, last + 1), high)):
            if start <= end:
                one = tag if tag.empty else Tag(tag.raw[:-1] + b"/>", tag.name, False, True)
                kept.append((start, one if (start, end) == (low, high) else one.having(min=str(start), max=str(end))))
    for column in new:
        n, width = column.place + 1, WIDE if column.wide else width_of_header(column.header or "")
        xml = f'<{root.prefix}col min="{n}" max="{n}" width="{width}.7109375" customWidth="1"/>'
        kept.append((n, Tag(xml.encode(), "col", False, True)))
    return [tag for _, tag in sorted(kept, key=lambda item: item[0])]


# -- the rows


def _new_rows(patch: Patch) -> Iterator[tuple[int, list[_New]]]:
    """Yield the number of each row and its cells, from left to right."""
    order = sorted(range(len(patch.columns)), key=lambda place: patch.columns[place].place)
    columns = [patch.columns[place] for place in order]
    yield patch.header_row, [_New(column, column.header, True) for column in columns if column.header is not None]
    for number, values in enumerate(patch.rows, start=patch.header_row + 1):
        yield number, [_New(column, values[place], False) for column, place in zip(columns, order, strict=True)]


def _patched_rows(pieces: Iterator[Piece], new: Iterator[tuple[int, list[_New]]], root: Root) -> Iterator[bytes]:
    """Yield the rows up to the end of the data; what remains in ``new`` is below them all."""
    number, upcoming = 0, next(new, None)
    for piece in pieces:
        if not isinstance(piece, Tag):
            yield piece
        elif piece.name == "sheetData":
            break
        elif piece.name == "row":
            row = _read_row(piece, pieces, number)
            number = row.number
            while upcoming is not None and upcoming[0] < number:
                yield _new_row(*upcoming, root)
                upcoming = next(new, None)
            if upcoming is not None and upcoming[0] == number:
                yield _patched_row(row, upcoming[1], root)
                upcoming = next(new, None)
            else:
                yield joined([row.start, *row.content, row.end])
    if upcoming is not None:
        yield _new_row(*upcoming, root)


def _read_row(start: Tag, pieces: Iterator[Piece], before: int) -> _Row:
    number = start.get("r")
    content: list[Piece] = []
    end = b""
    if start.opening:
        for piece in pieces:
            if isinstance(piece, Tag) and piece.name == "row":
                end = piece.raw
                break
            content.append(piece)
    return _Row(int(number) if number else before + 1, start, content, end)


def _new_row(number: int, cells: list[_New], root: Root) -> bytes:
    xml = "".join(cell.xml(number, None, None, root) for cell in cells)
    return f'<{root.prefix}row r="{number}">{xml}</{root.prefix}row>'.encode() if xml else b""


def _patched_row(row: _Row, cells: list[_New], root: Root) -> bytes:
    if not cells:
        return joined([row.start, *row.content, row.end])
    patched: list[Piece] = []
    waiting = deque(cells)
    left: str | None = None
    for column, style, cell in _cells(row.content):
        while waiting and waiting[0].column.place < column:
            patched.append(waiting.popleft().xml(row.number, None, left, root).encode())
        if waiting and waiting[0].column.place == column:
            # An empty cell stays one, since those after it may count from it
            xml = waiting.popleft().xml(row.number, style, left, root) or f'<{root.prefix}c r="{column_name(column)}{row.number}"/>'
            patched.append(xml.encode())
        else:
            patched += cell
            left = style if cell and isinstance(cell[0], Tag) else left
    patched += [cell.xml(row.number, None, left, root).encode() for cell in waiting]
    start = row.start.opened().having(spans=None)  # which columns are in use is a hint that would be wrong now
    return joined([start, *patched, row.end or f"</{root.prefix}row>".encode()])


def _cells(content: list[Piece]) -> Iterator[tuple[int, str | None, list[Piece]]]:
    """Yield a row's cells with their columns and styles, and what stands between them as column -1."""
    column = -1
    pieces = iter(content)
    for piece in pieces:
        if not (isinstance(piece, Tag) and piece.name == "c"):
            yield -1, None, [piece]
            continue
        cell: list[Piece] = [piece]
        if piece.opening:
            for inner in pieces:
                cell.append(inner)
                if isinstance(inner, Tag) and inner.name == "c":
                    break
        reference = piece.get("r")
        column = column_index(reference) if reference else column + 1
        yield column, piece.get("s"), cell
