"""Parquet files, by a library that is installed only by those who want it."""

import datetime
import decimal
from pathlib import Path
from typing import Any

from workers.contract.errors import WorkbookError

from .cells import Cell, Grid, tidy
from .json_lines import as_cell

#: A small file can hold a billion equal values.
_MOST_CELLS = 100_000_000
_BATCH = 4096


def read_parquet(path: Path) -> Grid:
    """Return the columns' names and below them the values. Raises WorkbookError."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise WorkbookError(f"{path} is a Parquet file, which needs pyarrow: pip install 'kotae[parquet]', or save it as .jsonl") from error
    rows: Grid = []
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            shape = file.metadata.num_rows, file.metadata.num_columns
            if shape[0] * shape[1] > _MOST_CELLS:
                raise WorkbookError(f"{path} has {shape[0]:,} rows and {shape[1]:,} columns: more than can be read")
            schema = file.schema_arrow
            rows.append(list(schema.names))
            for batch in file.iter_batches(batch_size=_BATCH):
                columns = [_values(pyarrow, column) for column in batch.columns]
                rows.extend([_cell(value) for value in row] for row in zip(*columns, strict=True))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise WorkbookError(f"{path} is a damaged Parquet file ({(str(error).splitlines() or [''])[0]})") from error
    return rows


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
