"""Parquet files, by a library that is installed only by those who want it."""

import datetime
import decimal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from workers.contract.errors import WorkbookError

from .cells import Cell, EmptyText, Stream, tidy
from .json_lines import as_cell

#: A small file can hold a billion equal values.
_MOST_CELLS = 100_000_000
#: Rows that are unpacked at a time, and bytes that are read at a time of each column.
_BATCH = 1024
_BUFFER = 1 << 20


def read_parquet(path: Path) -> Stream:
    """Return the columns' names and below them the values. Raises WorkbookError."""
    with _opened(path) as file:
        shape = file.metadata.num_rows, file.metadata.num_columns
    if shape[0] * shape[1] > _MOST_CELLS:
        raise WorkbookError(f"{path} has {shape[0]:,} rows and {shape[1]:,} columns: more than can be read")
    return partial(_rows, path)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file so that its columns are read bit by bit: programs write a million rows as one group."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise WorkbookError(f"{path} is a Parquet file, which needs pyarrow: pip install 'kotae[parquet]', or save it as .jsonl") from error
    try:
        with pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER) as file:
            yield file
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise WorkbookError(f"{path} is a damaged Parquet file ({(str(error).splitlines() or [''])[0]})") from error


def _rows(path: Path) -> Iterator[list[Cell]]:
    import pyarrow

    with _opened(path) as file:
        yield list(file.schema_arrow.names)
        for batch in file.iter_batches(batch_size=_BATCH):
            for row in zip(*(_cells(pyarrow, column) for column in batch.columns), strict=True):
                yield list(row)


def _cells(pyarrow: Any, column: Any) -> list[Cell]:
    values = _values(pyarrow, column)
    if pyarrow.types.is_string(column.type) or pyarrow.types.is_large_string(column.type):
        return ["" if value is None else value or EmptyText() for value in values]
    return [_cell(value) for value in values]


def _values(pyarrow: Any, column: Any) -> list[Any]:
    """Return a column's values; as text where Python has no such dates, or no such time zone."""
    try:
        values: list[Any] = _micro(pyarrow, column).to_pylist()
    except (OverflowError, ValueError, KeyError):
        values = column.cast(pyarrow.string()).to_pylist()
    return values


def _micro(pyarrow: Any, column: Any) -> Any:
    """Python's times end at microseconds."""
    kind = column.type
    if pyarrow.types.is_timestamp(kind) and kind.unit == "ns":
        return column.cast(pyarrow.timestamp("us", kind.tz), safe=False)
    if pyarrow.types.is_duration(kind) and kind.unit == "ns":
        return column.cast(pyarrow.duration("us"), safe=False)
    if pyarrow.types.is_time64(kind) and kind.unit == "ns":
        return column.cast(pyarrow.time64("us"), safe=False)
    return column


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
        case _:
            return as_cell(value)
