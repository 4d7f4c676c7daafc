"""What a cell holds, and how a person reads it."""

import datetime
from collections.abc import Callable, Iterator
from typing import TypeAlias

Cell: TypeAlias = str | int | float | bool | datetime.datetime | datetime.date | datetime.time | datetime.timedelta
#: The rows of a sheet from its first on, all as they stand there; an empty cell is "".
Grid: TypeAlias = list[list[Cell]]
#: Begins a new pass over the rows of a table, from its first on. Rows may differ in length.
Stream: TypeAlias = Callable[[], Iterator[list[Cell]]]


class CellError(str):
    """An error such as ``#N/A``: it stays what it is, but is no question."""

    __slots__ = ()


class EmptyText(str):
    """A text without characters, of a file or an answer that tells it from no value at all, which is ``""``."""

    __slots__ = ()


class JsonText(str):
    """What JSON has and spreadsheets have not, such as a list: shown as its JSON, and the value itself where JSON is written."""

    __slots__ = ()


class WholeNumber(JsonText):
    """A number of 64 bits that a spreadsheet would round."""

    __slots__ = ()


class Turns(JsonText):
    """Messages: a JSON list of objects with the texts ``role`` and ``content``, which Parquet has a type for."""

    __slots__ = ()


def as_text(cell: Cell) -> str:
    """Return a cell as the text a person sees in it; dates as ISO 8601, an error as nothing."""
    match cell:
        case CellError():
            return ""
        case str():
            return cell
        case bool():
            return str(cell).upper()
        case datetime.datetime():
            return cell.isoformat(" ")
        case datetime.date() | datetime.time():
            return cell.isoformat()
        case datetime.timedelta():
            return _hours(cell)
        case _:
            return str(cell)


def tidy(cell: Cell) -> Cell:
    """Return a whole number without its point: spreadsheets store every number as a float, and show, and ask, it without."""
    return int(cell) if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53 else cell


def is_filled(cell: Cell) -> bool:
    """Say whether a cell holds something that a person wrote; an error is what a formula left."""
    return cell != "" and not isinstance(cell, CellError)


def _hours(span: datetime.timedelta) -> str:
    seconds, sign = (-span, "-") if span < datetime.timedelta() else (span, "")
    whole, rest = divmod(seconds, datetime.timedelta(seconds=1))
    text = f"{sign}{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"
    return f"{text}.{rest.microseconds:06}".rstrip("0") if rest else text
