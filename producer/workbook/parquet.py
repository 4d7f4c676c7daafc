"""Parquet files, by a library that is installed only by those who want it."""

import datetime
import decimal
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from workers.contract.errors import WorkbookError

from .cells import Cell, EmptyText, Stream, tidy
from .json_lines import as_cell
from .own_process import answer, ask_own_process
from .parquet_sizes import Dictionaries, Pieces, dictionaries, is_small, longest_text, refuse_large, rows_at_a_time

#: Bytes that are read at a time of each column.
_BUFFER = 1 << 20


class TypedColumns(NamedTuple):
    """The columns of a file that has types of its own, as they stand there."""

    #: An arrow schema.
    schema: Any
    #: Begins a pass over all rows, as record batches of little memory; texts may be dictionaries in them.
    batches: Callable[[], Iterator[Any]]


def read_parquet(path: Path) -> tuple[Stream, TypedColumns]:
    """Return the columns' names and below them the values; and the columns as they are. Raises WorkbookError."""
    with _opened(path) as file:
        schema = file.schema_arrow
    found = ask_own_process(__name__, path)  # the library ends its process over columns that contradict their schema
    if found is None:
        raise WorkbookError(f"{path} is a damaged Parquet file (what it says of its columns contradicts itself)")
    batches = partial(_batches, path, Dictionaries(*found))
    return partial(_rows, schema.names, batches), TypedColumns(schema, batches)


def _look_at(path: Path) -> tuple[list[str], list[str]]:
    with _opened(path) as file:
        refuse_large(path, file.metadata)
        flat, nested = dictionaries(file)
        return flat, nested


@contextmanager
def _opened(path: Path, as_dictionaries: Sequence[str] = ()) -> Iterator[Any]:
    """Open a file so that its columns are read bit by bit: programs write a million rows as one group."""
    try:
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError as error:
        raise WorkbookError(f"{path} is a Parquet file, which needs pyarrow: pip install 'kotae[parquet]', or save it as .jsonl") from error
    try:
        with pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER, read_dictionary=list(as_dictionaries)) as file:
            yield file
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise WorkbookError(f"{path} is a damaged Parquet file ({(str(error).splitlines() or [''])[0]})") from error


def _batches(path: Path, found: Dictionaries) -> Iterator[Any]:
    import pyarrow

    with _opened(path, found.nested) as file, _opened(path, found.flat) as looked_into:
        pieces = Pieces(path)
        for group in range(file.num_row_groups):  # each for itself: it cannot join dictionaries that stand within lists
            known = file.metadata.row_group(group)
            rows = rows_at_a_time(known, 0 if is_small(known) else longest_text(pyarrow, looked_into, group, found.flat))
            for batch in file.iter_batches(batch_size=rows, row_groups=[group]):
                yield from pieces.of(pyarrow, batch)


def _rows(names: Sequence[str], batches: Callable[[], Iterator[Any]]) -> Iterator[list[Cell]]:
    import pyarrow

    yield list(names)
    for batch in batches():
        for row in zip(*(_cells(pyarrow, column) for column in batch.columns), strict=True):
            yield list(row)


def _cells(pyarrow: Any, column: Any) -> list[Cell]:
    if pyarrow.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pyarrow.types.is_string(column.type) or pyarrow.types.is_large_string(column.type):
        return ["" if value is None else value or EmptyText() for value in column.to_pylist()]
    return [_cell(value) for value in _values(pyarrow, column)]


def _values(pyarrow: Any, column: Any) -> list[Any]:
    """Return a column's values; as text where Python has no such dates, or no such time zone."""
    try:
        values: list[Any] = column.cast(_with_times(pyarrow, column.type, _in_micros), safe=False).to_pylist()
    except (OverflowError, ValueError, KeyError):
        values = column.cast(_with_times(pyarrow, column.type, lambda *_: pyarrow.string())).to_pylist()
    return values


def _with_times(pyarrow: Any, kind: Any, change: Callable[[Any, Any], Any]) -> Any:
    """Return a type with the times, spans and dates in it changed, at any depth."""
    of = pyarrow.types
    if of.is_temporal(kind):
        return change(pyarrow, kind)
    if of.is_map(kind):
        return pyarrow.map_(_with_times(pyarrow, kind.key_type, change), _with_times(pyarrow, kind.item_type, change))
    if of.is_struct(kind):
        return pyarrow.struct([field.with_type(_with_times(pyarrow, field.type, change)) for field in kind])
    if of.is_list(kind) or of.is_large_list(kind):
        inner = kind.value_field.with_type(_with_times(pyarrow, kind.value_type, change))
        return pyarrow.list_(inner) if of.is_list(kind) else pyarrow.large_list(inner)
    return kind


def _in_micros(pyarrow: Any, kind: Any) -> Any:
    """Python's times end at microseconds."""
    if getattr(kind, "unit", "") != "ns":
        return kind
    if pyarrow.types.is_timestamp(kind):
        return pyarrow.timestamp("us", kind.tz)
    return pyarrow.duration("us") if pyarrow.types.is_duration(kind) else pyarrow.time64("us")


def _cell(value: Any) -> Cell:
    match value:
        case datetime.datetime() if value.tzinfo is not None:
            return value.isoformat(" ")  # no cell has a time zone
        case datetime.datetime() | datetime.date() | datetime.time() | datetime.timedelta():
            return value
        case decimal.Decimal():
            return tidy(float(value)) if decimal.Decimal(repr(float(value))) == value else str(value)
        case bytes():
            return value.decode("utf-8", "backslashreplace")
        case uuid.UUID():
            return str(value)
        case _:
            return as_cell(value)


if __name__ == "__main__":
    answer(Path(sys.argv[1]), _look_at)
