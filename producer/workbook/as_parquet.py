"""Answers as a Parquet file: columns with types, and in the file's metadata where they come from."""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from .cells import Cell, EmptyText, Turns, WholeNumber, as_text
from .json_lines import whole_text
from .parquet import TypedColumns
from .replacing import replacing

#: Rows that become columns at a time, and the bytes or rows of a group in the file.
_BATCH = 512
_GROUP_BYTES, _GROUP_ROWS = 32 << 20, 100_000


def write_parquet(
    out: Path, headers: Sequence[str], kinds: Sequence[Collection[type]], rows: Iterable[Sequence[Cell]], record: dict[str, Any]
) -> None:
    """Write rows as columns, and replace ``out`` by them at once. ``headers`` differ; ``kinds`` says of each column what it holds.

    ``record`` stands as JSON under the key ``kotae.run`` of the file's metadata. Raises WorkbookError.
    """
    import pyarrow  # installed only by those who want it, as was checked before anything was asked

    types = [_type(pyarrow, held) for held in kinds]
    upcoming = iter(rows)
    columns = (_columns(pyarrow, types, batch) for batch in iter(lambda: list(islice(upcoming, _BATCH)), []))
    _write(out, [pyarrow.field(whole_text(header), kind) for header, kind in zip(headers, types, strict=True)], columns, record)


class Beside(NamedTuple):
    """Our columns beside those of a file that has types of its own."""

    source: TypedColumns
    #: Where each of ours goes among the columns of the output, and what it holds.
    places: Sequence[int]
    kinds: Sequence[Collection[type]]
    #: For every row of the output a cell for each.
    rows: Iterable[Sequence[Cell]]


def write_parquet_beside(out: Path, headers: Sequence[str], ours: Beside, record: dict[str, Any]) -> None:
    """Write columns of ours beside those of the source, which keep type and value, as ``write_parquet`` does."""
    import pyarrow

    types = [_type(pyarrow, held) for held in ours.kinds]
    fields = {place: field for place, field in enumerate(ours.source.schema) if place < len(headers)}
    fields |= {place: pyarrow.field("", kind) for place, kind in zip(ours.places, types, strict=True)}
    ordered = [fields[place].with_name(whole_text(header)) for place, header in enumerate(headers)]
    upcoming = iter(ours.rows)

    def columns() -> Iterator[list[Any]]:
        for batch in ours.source.batches():
            rows = list(islice(upcoming, batch.num_rows))
            if not rows:  # those at the end, in which nothing stands, are left out
                return
            own = dict(zip(ours.places, _columns(pyarrow, types, rows), strict=True))
            yield [
                own[place] if place in own else _as(pyarrow, batch.column(place).slice(0, len(rows)), field.type)
                for place, field in enumerate(ordered)
            ]

    _write(out, ordered, columns(), record)


def _write(out: Path, fields: Sequence[Any], batches: Iterable[Sequence[Any]], record: dict[str, Any]) -> None:
    import pyarrow.parquet

    schema = pyarrow.schema(fields, metadata={"kotae.run": json.dumps(record, ensure_ascii=False)})
    with replacing(out) as work, work.open("wb") as file, pyarrow.parquet.ParquetWriter(file, schema) as writer:
        group: list[Any] = []
        for columns in batches:
            group.append(pyarrow.record_batch(list(columns), schema=schema))
            if sum(part.nbytes for part in group) > _GROUP_BYTES or sum(part.num_rows for part in group) > _GROUP_ROWS:
                writer.write_table(pyarrow.Table.from_batches(group))
                group = []
        if group:
            writer.write_table(pyarrow.Table.from_batches(group))


def _columns(pyarrow: Any, types: Sequence[Any], rows: Sequence[Sequence[Cell]]) -> list[Any]:
    return [_array(pyarrow, kind, cells) for kind, cells in zip(types, zip(*rows, strict=True), strict=True)]


def _as(pyarrow: Any, column: Any, kind: Any) -> Any:
    """Return a column in the type that it has in its file: it may have been read as a dictionary."""
    if pyarrow.types.is_dictionary(column.type) and not pyarrow.types.is_dictionary(kind):
        column = column.dictionary_decode()
    return column if column.type == kind else column.cast(kind)


def _type(pyarrow: Any, kinds: Collection[type]) -> Any:
    """Return the type of a column: the narrowest that holds all kinds; text, if none does, or there is nothing in it.

    A spreadsheet tells a moment at midnight from a date no more than a short span from a time of the day.
    """
    types: list[tuple[set[type], Any]] = [
        ({int, WholeNumber}, pyarrow.int64()),
        ({int, float}, pyarrow.float64()),
        ({bool}, pyarrow.bool_()),
        ({Turns}, pyarrow.list_(pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())]))),
        ({date}, pyarrow.date32()),
        ({date, datetime}, pyarrow.timestamp("us")),
        ({time}, pyarrow.time64("us")),
        ({time, timedelta}, pyarrow.duration("us")),
    ]
    return next((kind for holds, kind in types if kinds and holds.issuperset(kinds)), pyarrow.string())


def _array(pyarrow: Any, kind: Any, cells: Sequence[Cell]) -> Any:
    """Return cells as a column; an empty one as null."""
    of = pyarrow.types
    if of.is_string(kind):
        values: list[Any] = [None if cell == "" and not isinstance(cell, EmptyText) else _text(cell) for cell in cells]
        return pyarrow.array(values, kind)
    values = [None if cell == "" else cell for cell in cells]
    if of.is_list(kind):
        values = [None if value is None else json.loads(value) for value in values]
    elif of.is_int64(kind):
        values = [int(value) if isinstance(value, str) else value for value in values]
    elif of.is_timestamp(kind):
        values = [datetime.combine(value, time()) if type(value) is date else value for value in values]
    elif of.is_duration(kind):
        values = [
            datetime.combine(date.min, value) - datetime.combine(date.min, time()) if isinstance(value, time) else value for value in values
        ]
    return pyarrow.array(values, kind)


def _text(cell: Cell) -> str:
    return whole_text(cell) if isinstance(cell, str) else as_text(cell)
