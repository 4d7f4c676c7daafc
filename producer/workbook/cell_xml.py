"""Cells as XML: values as inline strings and numbers."""

import math

from .limits import cut_for_excel
from .places import column_name
from .reading import Cell, as_text
from .text_xml import text_xml


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
            text = text_xml(cut_for_excel(as_text(value)), prefix)
            return f'{start} t="inlineStr"><{prefix}is>{text}</{prefix}is></{prefix}c>'
