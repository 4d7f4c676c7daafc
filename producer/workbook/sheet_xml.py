"""What a sheet's XML says that the library does not: how far its cells reach, and which of them it drops or reads amiss."""

import re
from contextlib import suppress
from typing import NamedTuple
from xml.parsers import expat

from .cells import CellError, tidy
from .corrections import Corrections
from .date_styles import date_styles
from .package import Package
from .package_xml import local_name, parse
from .places import column_number

#: A cell with something in it, as all but a few programs write it; the others' sheets are parsed.
_CELL = re.compile(rb'<c r="([A-Z]{1,9})([0-9]{1,9})"(?:[^>]*[^/>])?>(?!</c>)')
_ANY_CELL = re.compile(rb"<c(?=[\s/>])")
_PLAIN_CELL = re.compile(rb'<c r="[A-Z]{1,9}[0-9]{1,9}"')
_ERROR = re.compile(
    rb'<c r="([A-Z]{1,9})([0-9]{1,9})"[^>]*\st="e"(?:[^>]*[^/>])?>'
    rb"\s*(?:<f[^>]*/>|<f[^>]*>[^<]*</f>)?\s*<v[^>]*>\s*([^<]{1,20}?)\s*</v>"
)
_NEGATIVE = re.compile(
    rb'<c r="([A-Z]{1,9})([0-9]{1,9})"(?![^>]*\st="[^n])[^>]*\ss="([0-9]{1,9})"(?:[^>]*[^/>])?>'
    rb"\s*(?:<f[^>]*/>|<f[^>]*>[^<]*</f>)?\s*<v>(-[0-9.eE+-]{1,30})</v>"
)
#: Bytes of a cell's tags, at least.
_TAGS = 20


class Extent(NamedTuple):
    """How far the filled cells of a sheet reach, from 1, and how many there are."""

    rows: int
    columns: int
    cells: int
    #: The most bytes that texts can take which stand in the cells themselves.
    text: int
    #: What the library drops or reads amiss.
    corrected: Corrections


def measure(package: Package, part: str) -> Extent:
    """Read a sheet's XML once, in little memory. Raises WorkbookError."""
    dates = date_styles(package)
    found = _Found(dates)
    rest = b""
    for number, chunk in enumerate(package.chunks(part)):
        rest += chunk
        if number == 0 and re.match(rb"[^<]*(<\?[^>]*>\s*)?<\w+:worksheet", rest[:4096]):
            return _measure_slowly(package, part, dates)
        # A cell that is not all there yet waits for the next chunk
        cut = rest.rfind(b"<c")
        if cut < 0:
            rest = rest[-1:]
        if cut <= 0:
            continue
        done, rest = rest[:cut], rest[cut:]
        if not found.look_at(done):
            return _measure_slowly(package, part, dates)
    if not found.look_at(rest):
        return _measure_slowly(package, part, dates)
    return found.extent(package, part)


class _Found:
    """What has been found of a sheet so far."""

    def __init__(self, dates: frozenset[str]) -> None:
        self.rows = self.columns = self.cells = 0
        self.corrected = Corrections()
        self.dates = dates

    def extent(self, package: Package, part: str) -> Extent:
        own_text = max(package.size(part) - _TAGS * self.cells, 0)
        return Extent(self.rows, self.columns, self.cells, own_text, self.corrected)

    def look_at(self, text: bytes) -> bool:
        """Take notice of whole cells; return whether they are written as nearly all programs write them."""
        if b"<!" in text or len(_ANY_CELL.findall(text)) != len(_PLAIN_CELL.findall(text)):  # what a comment holds is nothing
            return False
        found = _CELL.findall(text)
        if found:
            self.cells += len(found)
            self.rows = max(self.rows, max(int(row) for _, row in found))
            self.columns = max(self.columns, *(column_number(letters.decode()) for letters in {letters for letters, _ in found}))
        if b't="e"' in text:
            for letters, row, value in _ERROR.findall(text):
                self.add_error(int(row), column_number(letters.decode()), value.decode("utf-8", "replace"))
        if b"<v>-" in text and self.dates:
            for letters, row, style, value in _NEGATIVE.findall(text):
                self.add_negative(int(row), column_number(letters.decode()), style.decode(), value.decode())
        return True

    def add_error(self, row: int, column: int, text: str) -> None:
        self.corrected.add(row - 1, column - 1, CellError(text))

    def add_negative(self, row: int, column: int, style: str, text: str) -> None:
        """Note a number below zero that is shown as a date: it is none, and stays the number that it is."""
        if style in self.dates:
            with suppress(ValueError):
                self.corrected.add(row - 1, column - 1, tidy(float(text)))


class _Slow(_Found):
    """A sheet as an XML parser sees it: for prefixes, other quotes, and cells that do not say where they are."""

    def __init__(self, dates: frozenset[str]) -> None:
        super().__init__(dates)
        self._row = self._column = 0
        self._kind = self._style = self._text = ""
        self._value = False

    def begin(self, tag: str, attributes: dict[str, str]) -> None:
        tag = local_name(tag)
        if tag == "row":
            self._row = _number(attributes.get("r", ""), self._row + 1)
            self._column = 0
        elif tag == "c":
            place = re.fullmatch(r"([A-Za-z]+)([0-9]+)", attributes.get("r", ""))
            self._column = column_number(place[1]) if place else self._column + 1
            self._row = int(place[2]) if place else max(self._row, 1)
            self._kind, self._style = attributes.get("t", "n"), attributes.get("s", "")
        elif tag in ("v", "is"):
            self.cells += 1
            self.rows, self.columns = max(self.rows, self._row), max(self.columns, self._column)
            self._value, self._text = tag == "v", ""

    def end(self, tag: str) -> None:
        if local_name(tag) == "v" and self._value:
            text = self._text.strip()
            if self._kind == "e":
                self.add_error(self._row, self._column, text)
            elif self._kind == "n" and text.startswith("-"):
                self.add_negative(self._row, self._column, self._style, text)
            self._value = False

    def text(self, text: str) -> None:
        if self._value and self._kind in ("e", "n"):
            self._text += text


def _measure_slowly(package: Package, part: str, dates: frozenset[str]) -> Extent:
    slow = _Slow(dates)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = slow.begin, slow.end, slow.text
    parse(parser, package, part)
    return slow.extent(package, part)


def _number(text: str, otherwise: int) -> int:
    return int(text) if text.isascii() and text.isdigit() else otherwise
