"""JSON Lines: an object per line, its keys the columns."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from workers.contract.errors import WorkbookError

from .cells import Cell, EmptyText, JsonText, Stream, WholeNumber
from .charsets import encoding_of, whole_lines

#: Whole numbers from here on are kept as text: a spreadsheet would round them.
_EXACT, _INT64 = 2**53, 2**63
_MOST_DIGITS = 4000
#: As many as Excel has columns. Lines that name other keys each would make a table as wide as it is long.
_MOST_KEYS = 16_384


def read_json_lines(path: Path) -> Stream:
    """Return the keys, in the order in which they first appear, and below them the values. Raises WorkbookError that names the line."""
    encoding = encoding_of(path)
    places: dict[str, int] = {}
    for value in _objects(path, encoding):
        if not value.keys() <= places.keys():
            places |= {key: len(places) + n for n, key in enumerate(key for key in value if key not in places)}
            if len(places) > _MOST_KEYS:
                raise WorkbookError(f"{path} has more than {_MOST_KEYS:,} different keys: more columns than can be read")
    return partial(_rows, path, encoding, places)


def _rows(path: Path, encoding: str, places: dict[str, int]) -> Iterator[list[Cell]]:
    yield [whole_text(key) for key in places]
    for value in _objects(path, encoding):
        row: list[Cell] = [""] * len(places)
        for key, item in value.items():
            row[places[key]] = as_cell(item)
        yield row


def _objects(path: Path, encoding: str) -> Iterator[dict[str, Any]]:
    with path.open(encoding=encoding, newline="\n") as file:
        for number, line in enumerate(whole_lines(path, file), start=1):
            if line.strip():
                yield _object(path, number, line)


def parse(text: str) -> Any:
    """Return what JSON says; a whole number of more digits than Python counts as text. Raises ValueError, RecursionError."""
    return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) <= _MOST_DIGITS else digits)


def as_cell(value: Any) -> Cell:
    """Return a JSON value as a cell: null as an empty one, objects, lists and large numbers as JSON."""
    match value:
        case None:
            return ""
        case str():
            return whole_text(value) or EmptyText()
        case bool() | float():
            return value
        case int():
            if abs(value) < _EXACT:
                return value
            return WholeNumber(value) if -_INT64 <= value < _INT64 else JsonText(value)
        case _:
            return JsonText(whole_text(json.dumps(value, ensure_ascii=False, default=_plain)))


def _plain(value: Any) -> str:
    """Return what JSON has no form for, as the values of a Parquet file may be, as text."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def whole_text(text: str) -> str:
    """Return text without halves of surrogate pairs, which JSON can spell and nothing else can carry."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        value = parse(line)
    except (ValueError, RecursionError) as error:
        why = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise WorkbookError(f"{path}: line {number} is not JSON ({why})") from error
    if not isinstance(value, dict):
        raise WorkbookError(f'{path}: line {number} is not a JSON object; every line must be one: {{"question": "..."}}')
    return value
