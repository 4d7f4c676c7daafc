"""A text as the XML of a cell, so that every reader finds the text itself.

Excel's escapes (``_x001B_``) are read by Excel, LibreOffice and calamine, but not by openpyxl, and so not by pandas unless it is told
``engine="calamine"``. They are used only for what XML has no other form for. A carriage return is a reference (``&#13;``), which XML
keeps; what only looks like an escape is cut in two runs of text, since escapes do not reach from one to the next.
"""

import re
from xml.sax.saxutils import escape

_CONTROLS = bytes({*range(32)} - {*b"\t\n\r"})
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
#: Behind the first character of what looks like an escape: also where two overlap, or the end of one is about to be made.
_WITHIN_ESCAPE = re.compile(r"(?<=_)(?=x[0-9A-Fa-f]{4}[_\x00-\x08\x0b\x0c\x0e-\x1f])")


def text_xml(text: str, prefix: str = "") -> str:
    """Return what stands in an ``is`` or ``si`` for a text that XML can hold but for control characters."""
    if "_x" not in text and not _has_controls(text):
        return _text(text, prefix)
    pieces = [_CONTROL.sub(lambda found: f"_x{ord(found[0]):04X}_", piece) for piece in _WITHIN_ESCAPE.split(text)]
    if len(pieces) == 1:
        return _text(pieces[0], prefix)
    return "".join(f"<{prefix}r>{_text(piece, prefix)}</{prefix}r>" for piece in pieces)


def _text(text: str, prefix: str) -> str:
    space = ' xml:space="preserve"' if text[:1].isspace() or text[-1:].isspace() else ""
    escaped = escape(text)
    if "\r" in escaped:
        escaped = escaped.replace("\r", "&#13;")
    return f"<{prefix}t{space}>{escaped}</{prefix}t>"


def _has_controls(text: str) -> bool:
    """Say so much faster than a regular expression, which a workbook of long answers feels."""
    data = text.encode("utf-8", "surrogatepass")
    return len(data.translate(None, _CONTROLS)) != len(data)
