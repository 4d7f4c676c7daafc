"""Answers as JSON Lines: an object per row, every text whole, every value of its type."""

import datetime
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .cells import Cell, EmptyText, JsonText, as_text
from .json_lines import whole_text
from .replacing import replacing

#: What JSON lets stand in a line, and what others end one at.
_LINE_ENDS = {"\x85": r"\u0085", "\u2028": r"\u2028", "\u2029": r"\u2029"}


def write_json_lines(out: Path, headers: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Write an object of all columns per row, and replace ``out`` by them at once. ``headers`` differ. Raises WorkbookError."""
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
    names = [whole_text(header) for header in headers]
    with replacing(out) as work, work.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            line = encode(dict(zip(names, map(_value, row), strict=True)))
            for character, escape in _LINE_ENDS.items():
                line = line.replace(character, escape)
            file.write(line + "\n")


def _finite(digits: str) -> float | None:
    return number if math.isfinite(number := float(digits)) else None


def _value(cell: Cell) -> Any:
    """Return a cell as JSON has it: nothing, and no number, as null; moments in ISO 8601."""
    match cell:
        case JsonText():
            return json.loads(cell, parse_constant=lambda _: None, parse_float=_finite)
        case str():
            return whole_text(cell) if cell or isinstance(cell, EmptyText) else None
        case float() if not math.isfinite(cell):
            return None if math.isnan(cell) else str(cell)
        case datetime.datetime():
            return cell.isoformat()
        case bool() | int() | float():
            return cell
        case _:
            return as_text(cell)
