"""XML cut into the tags one asks for and whatever is between them; joined, the pieces are the same bytes again."""

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple
from xml.sax.saxutils import quoteattr, unescape

from workers.contract.errors import WorkbookError

_ROOT = re.compile(rb"(?:<\?.*?\?>|<!--.*?-->|[^<])*+<((?:[\w.-]+:)?)([\w.-]+)(\s[^>]*)?>", re.DOTALL)
_ENCODING = re.compile(rb"""<\?xml[^>]*?\sencoding\s*=\s*["']([\w.-]+)["']""")
_ENTITIES = {"&quot;": '"', "&apos;": "'"}


@functools.cache
def _attribute(name: str) -> re.Pattern[bytes]:
    return re.compile(rb"""\s%s\s*=\s*(?:"([^"]*)"|'([^']*)')""" % re.escape(name.encode()))


class Tag(NamedTuple):
    """One tag as it stands in the file."""

    raw: bytes
    #: Without its prefix.
    name: str
    #: Whether it ends an element, or is one by itself (``<a/>``).
    closing: bool
    empty: bool

    @property
    def opening(self) -> bool:
        """Return whether content follows, up to a closing tag."""
        return not (self.closing or self.empty)

    def get(self, attribute: str) -> str | None:
        """Return an attribute's value; its name is written with its prefix."""
        found = _attribute(attribute).search(self.raw)
        if found is None:
            return None
        value = (found[1] if found[1] is not None else found[2]).decode()
        return unescape(value, _ENTITIES) if "&" in value else value

    def having(self, **attributes: str | None) -> "Tag":
        """Return the same tag with some attributes replaced or, where the value is None, removed."""
        raw = self.raw
        for name, value in attributes.items():
            raw = _attribute(name).sub(b"", raw)
            if value is not None:
                end = -2 if self.empty else -1
                raw = raw[:end].rstrip() + f" {name}={quoteattr(value)}".encode() + raw[end:]
        return self._replace(raw=raw)

    def opened(self) -> "Tag":
        """Return the tag with which the element begins if it is to have content."""
        return self._replace(raw=self.raw[:-2].rstrip() + b">", empty=False) if self.empty else self


Piece = bytes | Tag


class Root(NamedTuple):
    """The first tag of a file."""

    #: With its colon; empty if there is none.
    prefix: str
    name: str
    raw: bytes

    @property
    def namespace(self) -> str:
        """Return the namespace of the root and of everything with the same prefix."""
        attribute = f"xmlns:{self.prefix[:-1]}" if self.prefix else "xmlns"
        return Tag(self.raw, self.name, False, False).get(attribute) or ""


def root_of(start: bytes, part: str) -> Root:
    """Return the root tag of a part that begins like this. Raises WorkbookError if that is no XML that can be patched."""
    encoding = _ENCODING.search(start)
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") or (encoding and encoding[1].lower() not in (b"utf-8", b"us-ascii")):
        raise WorkbookError(f"--keep-format: the part {part} of the workbook is not UTF-8; save it anew in a spreadsheet program")
    found = _ROOT.match(start)
    if found is None:
        raise WorkbookError(f"--keep-format: the part {part} of the workbook cannot be read as XML")
    return Root(found[1].decode(), found[2].decode(), found[0][found.start(1) - 1 :])


def cut(chunks: Iterable[bytes], prefix: str, names: Sequence[str]) -> Iterator[Piece]:
    """Yield the tags of these names, which have this prefix, and everything between as it is. Comments and CDATA hold no tags."""
    pattern = _pattern(prefix, names)
    buffer = b""
    for chunk in chunks:
        buffer += chunk
        done, length = 0, len(buffer)
        for found in pattern.finditer(buffer):
            if found.lastgroup == "unfinished":
                length = found.start()
                break
            if found["name"] is None:
                continue
            if found.start() > done:
                yield buffer[done : found.start()]
            yield Tag(found[0], found["name"].decode(), bool(found["closing"]), bool(found["empty"]))
            done = found.end()
        if length > done:
            yield buffer[done:length]
        buffer = buffer[max(done, length) :]
    if buffer:
        yield buffer


def joined(pieces: Iterable[Piece]) -> bytes:
    """Return the bytes of pieces."""
    return b"".join(piece.raw if isinstance(piece, Tag) else piece for piece in pieces)


def _pattern(prefix: str, names: Sequence[str]) -> re.Pattern[bytes]:
    listed = b"|".join(re.escape(name.encode()) for name in names)
    return re.compile(
        rb"<!--.*?-->|<!\[CDATA\[.*?\]\]>|<\?.*?\?>"
        rb"|<(?P<closing>/?)" + re.escape(prefix.encode()) + rb"(?P<name>" + listed + rb")(?=[\s/>])"
        rb"""(?:[^"'>/]|"[^"]*"|'[^']*'|/(?!>))*+(?P<empty>/?)>"""
        # What the next chunk has to end: a comment, or the last tag there is
        rb"|(?P<unfinished><(?:!--|!\[CDATA\[|\?).*\Z|<[^<]*\Z)",
        re.DOTALL,
    )
