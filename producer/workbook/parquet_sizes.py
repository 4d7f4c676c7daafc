"""What a Parquet file unpacks to: a dictionary lets a file of a few KB hold gigabytes."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from workers.contract.errors import WorkbookError

from .limits import MAX_COLUMNS
from .package import is_bomb

#: Values of columns that hold one in each row; and of others, unless the file has a byte for each of theirs.
_MOST_VALUES, _MOST_NESTED = 100_000_000, 16_000_000
#: Bytes that any value takes at least once it is a cell.
_VALUE = 16
#: Bytes of the largest row, and of as many rows as become cells at a time.
_LARGEST_ROW, _PIECE = 1 << 25, 1 << 23
#: Rows that are unpacked at a time: the most, the fewest, and the bytes of them that are meant. A group that is packed more tightly than
#: so many times hides where its bytes are.
_ROWS, _FEW_ROWS, _BATCH_BYTES, _TIGHT = 1024, 16, 1 << 25, 20


def refuse_large(path: Path, metadata: Any) -> None:
    """Raise WorkbookError if what a file says of itself is more than can be read."""
    if metadata.num_columns > MAX_COLUMNS:
        raise WorkbookError(f"{path} has {metadata.num_columns:,} columns, nested ones counted; at most {MAX_COLUMNS:,} can be read")
    values = nested = unpacked = 0
    for group, column in _chunks(metadata):
        values += column.num_values
        nested += column.num_values if column.num_values > group.num_rows else 0
        unpacked += column.total_uncompressed_size + _VALUE * column.num_values
    packed = max(path.stat().st_size, 1)
    if values - nested > _MOST_VALUES or nested > max(_MOST_NESTED, packed):
        raise WorkbookError(f"{path} has {values:,} values: more than can be read")
    if is_bomb(unpacked, packed):
        raise _bomb(path, unpacked, packed)


class Dictionaries(NamedTuple):
    """The columns of texts that hold each distinct one once: what they say of their size is not what they unpack to."""

    #: Paths of those with one value in each row.
    flat: list[str]
    #: Paths of those within lists. Read as dictionaries they take no more memory than the file says.
    nested: list[str]


def dictionaries(file: Any) -> Dictionaries:
    """Return the columns that have a dictionary in some group."""
    schema = file.schema
    texts = (column for _, column in _chunks(file.metadata) if column.physical_type == "BYTE_ARRAY")
    paths = {column.path_in_schema for column in texts if column.has_dictionary_page}
    found = [schema.column(place) for place in range(len(schema)) if schema.column(place).path in paths]
    flat = [column.path for column in found if not column.max_repetition_level]
    return Dictionaries(flat, [column.path for column in found if column.max_repetition_level])


def rows_at_a_time(group: Any, longest: int) -> int:
    """Return how many rows of a group to unpack at once, so that long ones take little memory.

    ``longest`` is the size in bytes of the largest text in the dictionaries of its flat columns.
    """
    unpacked, height = int(group.total_byte_size), int(group.num_rows)
    packed = sum(group.column(place).total_compressed_size for place in range(group.num_columns))
    rows = min(_ROWS, max(_BATCH_BYTES // max(longest, 1), 1))
    if unpacked > _BATCH_BYTES and unpacked > _TIGHT * packed:
        return min(rows, _FEW_ROWS)
    return min(rows, max(_BATCH_BYTES * height // max(unpacked, 1), 1))


def is_small(group: Any) -> bool:
    """Say whether rows of a group take little memory even if each has all the bytes of the group, however often they stand there."""
    return int(group.total_byte_size) * min(int(group.num_rows), _ROWS) <= _BATCH_BYTES


def longest_text(pyarrow: Any, file: Any, group: int, columns: Sequence[str]) -> int:
    """Return the bytes of the largest text in the dictionaries of flat columns; ``file`` reads these as dictionaries.

    A group says how many bytes it holds, and not that each of a million rows means the same five million of them. All rows cannot be
    read as dictionaries: a column with more texts than its dictionary takes would gather all of them.
    """
    return max((_longest_of(pyarrow, file, group, column) for column in columns), default=0)


def _longest_of(pyarrow: Any, file: Any, group: int, column: str) -> int:
    """Look at rows until one has a value, since the dictionary comes with the first."""
    sizes: Iterator[int] = (
        _largest(pyarrow, batch.column(0)) for batch in file.iter_batches(batch_size=_ROWS, row_groups=[group], columns=[column])
    )
    return next(filter(None, sizes), 0)


class Pieces:
    """Cuts batches into pieces of little memory, and counts what they unpack to."""

    def __init__(self, path: Path) -> None:
        self._path, self._packed = path, max(path.stat().st_size, 1)
        self._row = self._unpacked = 0

    def of(self, pyarrow: Any, batch: Any) -> Iterator[Any]:
        """Yield the pieces of a batch. Raises WorkbookError for a row that is too large, and once all rows together are."""
        start = size = 0
        sizes = [_sizes(pyarrow, column).to_pylist() for column in batch.columns]
        for number, row in enumerate(zip(*sizes, strict=True)):
            self._row += 1
            large = sum(row)
            self._unpacked += large
            if large > _LARGEST_ROW:
                raise WorkbookError(f"{self._path}: row {self._row} holds {large / 2**20:,.0f} MB; no question is that long")
            if is_bomb(self._unpacked, self._packed):
                raise _bomb(self._path, self._unpacked, self._packed)
            if size + large > _PIECE and number > start:
                yield batch.slice(start, number - start)
                start, size = number, 0
            size += large
        yield batch.slice(start)


def _chunks(metadata: Any) -> Iterator[tuple[Any, Any]]:
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for place in range(group.num_columns):
            yield group, group.column(place)


def _largest(pyarrow: Any, array: Any) -> int:
    if pyarrow.types.is_dictionary(array.type):
        return int(pyarrow.compute.max(pyarrow.compute.binary_length(array.dictionary)).as_py() or 0)
    if pyarrow.types.is_struct(array.type):
        return max((_largest(pyarrow, child) for child in array.flatten()), default=0)
    return 0


def _sizes(pyarrow: Any, array: Any) -> Any:
    """Return the bytes that each value of an array takes as a cell."""
    of, compute, kind = pyarrow.types, pyarrow.compute, array.type
    if of.is_dictionary(kind):
        return compute.fill_null(compute.take(_sizes(pyarrow, array.dictionary), array.indices), _VALUE)
    if of.is_struct(kind):
        total = pyarrow.repeat(pyarrow.scalar(_VALUE, pyarrow.int64()), len(array))
        for child in array.flatten():
            total = compute.add(total, _sizes(pyarrow, child))
        return total
    if of.is_list(kind) or of.is_large_list(kind) or of.is_map(kind):
        children = [array.keys, array.items] if of.is_map(kind) else [array.values]
        ends = compute.cast(array.offsets, pyarrow.int64())
        total = pyarrow.repeat(pyarrow.scalar(_VALUE, pyarrow.int64()), len(array))
        for child in children:
            sums = pyarrow.concat_arrays([pyarrow.array([0], pyarrow.int64()), compute.cumulative_sum(_sizes(pyarrow, child))])
            total = compute.add(total, compute.subtract(compute.take(sums, ends.slice(1)), compute.take(sums, ends.slice(0, len(array)))))
        return total
    if of.is_string(kind) or of.is_large_string(kind) or of.is_binary(kind) or of.is_large_binary(kind):
        return compute.add(compute.cast(compute.fill_null(compute.binary_length(array), 0), pyarrow.int64()), _VALUE)
    return pyarrow.repeat(pyarrow.scalar(_VALUE, pyarrow.int64()), len(array))


def _bomb(path: Path, unpacked: int, packed: int) -> WorkbookError:
    return WorkbookError(
        f"{path} unpacks to {unpacked / 2**20:,.0f} MB or more, {unpacked / packed:,.0f} times its size; that is no table but a bomb"
    )
