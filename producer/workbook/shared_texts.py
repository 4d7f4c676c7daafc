"""How much text the cells of a sheet hold: in the file many of them can share one, in memory each has its own."""

import re

from .package import Package

_TEXT = re.compile(rb"<(?:\w+:)?t(?:\s[^>]*)?>([^<]*)|</(?:\w+:)?(si)>")
_SHARING = re.compile(rb"""<(?:\w+:)?c\s[^>]*?\bt\s*=\s*["']s["'][^>]*>\s*<(?:\w+:)?v(?:\s[^>]*)?>\s*([0-9]{1,9})""")
_SHARED = "sharedstrings.xml"


def shared_text(package: Package, part: str, cells: int, harmless: int) -> int:
    """Return how many bytes the texts take that cells of a sheet take from the list of all; 0 where that cannot be over ``harmless``."""
    name = next((name for name in package.names() if name.endswith(_SHARED)), None)
    if name is None or package.size(name) * cells <= harmless:
        return 0
    lengths = _lengths(package, name)
    if max(lengths, default=0) * cells <= harmless:
        return 0
    total, rest = 0, b""
    for chunk in package.chunks(part):
        rest += chunk
        cut = rest.rfind(b"<c") if b"<c" in rest else 0
        total += sum(lengths[int(number)] for number in _SHARING.findall(rest[:cut]) if int(number) < len(lengths))
        rest = rest[cut:]
    return total + sum(lengths[int(number)] for number in _SHARING.findall(rest) if int(number) < len(lengths))


def _lengths(package: Package, name: str) -> list[int]:
    """Return the bytes of each text in the list."""
    lengths, length, rest = [], 0, b""
    for chunk in package.chunks(name):
        rest += chunk
        # Up to a text that may not be all there yet, unless that alone is large
        cut = rest.rfind(b"<") if len(rest) < 8 * len(chunk) else len(rest)
        for found in _TEXT.finditer(rest[:cut]):
            if found[2]:
                lengths.append(length)
                length = 0
            else:
                length += len(found[1])
        rest = rest[cut:]
    lengths += [length] * (1 + rest.count(b"</si>"))
    return lengths
