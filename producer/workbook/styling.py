"""The few styles of ours, added to a workbook's own: wrapped text, text at the top, bold headers."""

import re
from typing import NamedTuple

from .tags import Piece, Tag, cut, joined, root_of


class Styles(NamedTuple):
    """Where our styles are in the list of the workbook; None where it has no list of styles."""

    wrapped: str | None = None
    top: str | None = None
    bold: str | None = None


def with_our_styles(xml: bytes, part: str) -> tuple[bytes, Styles]:
    """Return the part with our styles at the end of its lists, and where they are."""
    prefix = root_of(xml, part).prefix
    fonts = _children(xml, prefix, "fonts", "font")
    cells = _children(xml, prefix, "cellXfs", "xf")
    if not fonts or not cells:
        return xml, Styles()
    top = f'<{prefix}alignment vertical="top"/>'
    wrapped = f'<{prefix}alignment vertical="top" wrapText="1"/>'
    new = [_style(prefix, 0, wrapped), _style(prefix, 0, top), _style(prefix, len(fonts), "")]
    xml = _extended(xml, prefix, "fonts", [_bold(fonts[0], prefix)], len(fonts))
    xml = _extended(xml, prefix, "cellXfs", new, len(cells))
    return xml, Styles(*(str(len(cells) + number) for number in range(len(new))))


def _style(prefix: str, font: int, alignment: str) -> bytes:
    start = f'<{prefix}xf numFmtId="0" fontId="{font}" fillId="0" borderId="0" xfId="0"'
    if font:
        return f'{start} applyFont="1"/>'.encode()
    return f'{start} applyAlignment="1">{alignment}</{prefix}xf>'.encode()


def _bold(font: bytes, prefix: str) -> bytes:
    """Return a font of the workbook as a bold one."""
    if re.search(rb"<" + prefix.encode() + rb"b(?=[\s/>])", font):
        return font
    bold = f"<{prefix}b/>".encode()
    start = next(piece for piece in cut([font], prefix, ["font"]) if isinstance(piece, Tag))
    if start.empty:
        return start.opened().raw + bold + f"</{prefix}font>".encode()
    return start.raw + bold + font[len(start.raw) :]


def _children(xml: bytes, prefix: str, parent: str, child: str) -> list[bytes]:
    """Return the elements of a list, each as it stands there."""
    found: list[list[Piece]] = []
    inside = between = False
    for piece in cut([xml], prefix, [parent, child]):
        if isinstance(piece, Tag) and piece.name == parent:
            inside, between = piece.opening, True
        elif inside and isinstance(piece, Tag):
            if not piece.closing:
                found.append([])
            found[-1].append(piece)
            between = not piece.opening
        elif inside and not between:
            found[-1].append(piece)
    return [joined(pieces) for pieces in found]


def _extended(xml: bytes, prefix: str, parent: str, new: list[bytes], count: int) -> bytes:
    pieces = list(cut([xml], prefix, [parent]))
    start, end = (number for number, piece in enumerate(pieces) if isinstance(piece, Tag))
    opening = pieces[start]
    assert isinstance(opening, Tag)
    pieces[start] = opening.having(count=str(count + len(new)))
    return joined([*pieces[:end], *new, *pieces[end:]])
