"""JSON Lines: an object per line, its keys the columns."""

import json
from pathlib import Path
from typing import Any

from workers.contract.errors import WorkbookError

from .cells import Cell, Grid
from .charsets import encoding_of

#: Whole numbers from here on are kept as text: a spreadsheet would round them.
_EXACT = 2**53
_MOST_DIGITS = 4000


def read_json_lines(path: Path) -> Grid:
    """Return the keys, in the order in which they first appear, and below them the values. Raises WorkbookError that names the line."""
    places: dict[str, int] = {}
    rows: Grid = [[]]
    with path.open(encoding=encoding_of(path), newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            row: list[Cell] = [""] * len(places)
            for key, value in _object(path, number, line).items():
                place = places.setdefault(key, len(places))
                row.extend([""] * (place + 1 - len(row)))
                row[place] = as_cell(value)
            rows.append(row)
    rows[0] = [whole_text(key) for key in places]
    return rows


def parse(text: str) -> Any:
    """Return what JSON says; a whole number of more digits than Python counts as text. Raises ValueError, RecursionError."""
    return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) <= _MOST_DIGITS else digits)


def as_cell(value: Any) -> Cell:
    """Return a JSON value as a cell: null as an empty one, objects and lists as JSON."""
    match value:
        case None:
            return ""
        case str():
            return whole_text(value)
        case bool() | float():
            return value
        case int():
            return value if abs(value) < _EXACT else str(value)
        case _:
            return whole_text(json.dumps(value, ensure_ascii=False, default=str))


def whole_text(text: str) -> str:
    """Return text without halves of surrogate pairs, which JSON can spell and nothing else can carry."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace") if not text.isascii() else text


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        value = parse(line)
    except (ValueError, RecursionError) as error:
        why = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise WorkbookError(f"{path}: line {number} is not JSON ({why})") from error
    if not isinstance(value, dict):
        raise WorkbookError(f'{path}: line {number} is not a JSON object; every line must be one: {{"question": "..."}}')
    return value
