"""Cells as XML: their references, and values as inline strings and numbers."""

import functools
import math
import re
from xml.sax.saxutils import escape

from .reading import Cell, as_text
from .writing import cut_for_excel, escape_controls


def column_name(index: int) -> str:
    """Return the letters of a column, the first of which is 0."""
    name, number = "", index + 1
    while number:
        number, letter = divmod(number - 1, 26)
        name = chr(ord("A") + letter) + name
    return name


def column_index(reference: str) -> int:
    """Return the column of a reference such as ``AB12`` or ``$AB$12``."""
    return _index_of(reference.replace("$", "").rstrip("0123456789"))


@functools.cache
def _index_of(letters: str) -> int:
    index = 0
    for letter in letters.upper():
        index = index * 26 + ord(letter) - ord("A") + 1
    return index - 1


def row_number(reference: str) -> int:
    """Return the row of a reference, from 1."""
    return int(re.sub(r"[^0-9]", "", reference) or 0)


def cell_xml(column: int, row: int, value: Cell, style: str | None, prefix: str) -> str:
    """Return a cell; nothing at all if it is empty and has no style."""
    start = f'<{prefix}c r="{column_name(column)}{row}"' + (f' s="{style}"' if style else "")
    match value:
        case "":
            return f"{start}/>" if style else ""
        case bool():
            return f'{start} t="b"><{prefix}v>{int(value)}</{prefix}v></{prefix}c>'
        case int() | float() if math.isfinite(value):
            return f"{start}><{prefix}v>{value!r}</{prefix}v></{prefix}c>"
        case _:
            text = escape(escape_controls(cut_for_excel(as_text(value))))
            space = ' xml:space="preserve"' if text[:1].isspace() or text[-1:].isspace() else ""
            return f'{start} t="inlineStr"><{prefix}is><{prefix}t{space}>{text}</{prefix}t></{prefix}is></{prefix}c>'
