"""A data set of pairs as a file."""

import datetime
import json
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from producer.workbook.as_json_lines import write_json_lines
from producer.workbook.as_parquet import write_parquet
from producer.workbook.cells import Cell
from producer.workbook.replacing import check_place, replacing
from producer.workbook.writing import Table, write_tables
from workers.contract.errors import WorkbookError

from .columns import Column

#: How a data set may be called.
WRITABLE = (".jsonl", ".parquet", ".xlsx")


def card_path(out: Path) -> Path:
    """Return where the card of a data set stands: ``pairs.jsonl.card.md``."""
    return out.with_name(f"{out.name}.card.md")


def check_pairs_writable(out: Path) -> None:
    """Try, before any work is done, whether a data set and its card could be written. Raises WorkbookError."""
    if out.suffix.lower() not in WRITABLE:
        raise WorkbookError(f"the output {out} must end in {', '.join(WRITABLE[:-1])} or {WRITABLE[-1]}")
    if out.suffix.lower() == ".parquet" and find_spec("pyarrow") is None:
        raise WorkbookError(f"the output {out} needs pyarrow: pip install 'kotae[parquet]', or give a name that ends in .jsonl")
    check_place(out)
    check_place(card_path(out))


def write_pairs(out: Path, columns: Sequence[Column], rows: Iterable[Sequence[Cell]], record: Callable[[], dict[str, Any]]) -> None:
    """Write pairs as they come, and replace ``out`` by them at once.

    ``record`` tells, once all are written, where they come from. Raises WorkbookError.
    """
    names = [column.name for column in columns]
    match out.suffix.lower():
        case ".jsonl":
            write_json_lines(out, names, rows)
        case ".parquet":
            write_parquet(out, names, [[column.kind] for column in columns], rows, {})
        case _:
            made = datetime.datetime.now(datetime.UTC).replace(tzinfo=None, microsecond=0)
            told = (
                [name, value if isinstance(value, (int, str)) else json.dumps(value, ensure_ascii=False)] for name, value in _later(record)
            )
            write_tables(out, [Table("pairs", names, rows, {0, 1, 2}), Table("about", ["what", "value"], told, {1})], made)


def write_card(out: Path, text: str) -> None:
    """Write the card of a data set. Raises WorkbookError."""
    with replacing(card_path(out)) as work:
        work.write_text(text, encoding="utf-8")


def _later(record: Callable[[], dict[str, Any]]) -> Iterable[tuple[str, Any]]:
    yield from record().items()
