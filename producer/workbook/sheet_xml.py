"""What a sheet's XML says that the library does not: how far its cells reach, and which of them hold errors."""

import posixpath
import re
from collections.abc import Iterable
from typing import NamedTuple
from xml.parsers import expat

from workers.contract.errors import WorkbookError

from .cells import CellError
from .packages import Package
from .places import column_number

#: A cell with something in it, as all but a few programs write it; the others' sheets are parsed.
_CELL = re.compile(rb'<c r="([A-Z]{1,9})([0-9]{1,9})"(?:[^>]*[^/>])?>(?!</c>)')
_ANY_CELL = re.compile(rb"<c(?=[\s/>])")
_PLAIN_CELL = re.compile(rb'<c r="[A-Z]{1,9}[0-9]{1,9}"')
_ERROR = re.compile(
    rb'<c r="([A-Z]{1,9})([0-9]{1,9})"[^>]*\st="e"(?:[^>]*[^/>])?>'
    rb"\s*(?:<f[^>]*/>|<f[^>]*>[^<]*</f>)?\s*<v[^>]*>\s*([^<]{1,20}?)\s*</v>"
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
    #: What the library drops or reads amiss, errors above all, by (row, column) from 0.
    corrected: dict[tuple[int, int], str]


def sheet_parts(package: Package) -> dict[str, str]:
    """Return the parts that hold the sheets, by the sheets' names; what cannot be found is left out."""
    root = relations_of(package, "", "_rels/.rels")
    book = next((target for kind, target in root.values() if kind == "officeDocument"), "xl/workbook.xml")
    folder, name = posixpath.split(book)
    targets = relations_of(package, folder, f"{folder}/_rels/{name}.rels".lstrip("/"))
    parts: dict[str, str] = {}
    for tag, attributes in elements_of(package, book):
        if tag == "sheet":
            _, part = targets.get(attributes.get("id", ""), ("", ""))
            if part in package.names():
                parts[attributes.get("name", "")] = part
    return parts


def measure(package: Package, part: str) -> Extent:
    """Read a sheet's XML once, in little memory. Raises WorkbookError."""
    rows = columns = cells = 0
    errors: dict[tuple[int, int], str] = {}
    rest = b""
    for number, chunk in enumerate(package.chunks(part)):
        rest += chunk
        if number == 0 and re.match(rb"[^<]*(<\?[^>]*>\s*)?<\w+:worksheet", rest[:4096]):
            return _measure_slowly(package, part)
        # A cell that is not all there yet waits for the next chunk
        cut = rest.rfind(b"<c")
        if cut < 0:
            rest = rest[-1:]
        if cut <= 0:
            continue
        done, rest = rest[:cut], rest[cut:]
        if len(_ANY_CELL.findall(done)) != len(_PLAIN_CELL.findall(done)):
            return _measure_slowly(package, part)
        rows, columns, cells = _widen(done, rows, columns, cells, errors)
    if len(_ANY_CELL.findall(rest)) != len(_PLAIN_CELL.findall(rest)):
        return _measure_slowly(package, part)
    rows, columns, cells = _widen(rest, rows, columns, cells, errors)
    return Extent(rows, columns, cells, _own_text(package, part, cells), errors)


def _own_text(package: Package, part: str, cells: int) -> int:
    return max(package.size(part) - _TAGS * cells, 0)


def _widen(text: bytes, rows: int, columns: int, cells: int, errors: dict[tuple[int, int], str]) -> tuple[int, int, int]:
    found = _CELL.findall(text)
    if found:
        rows = max(rows, max(int(row) for _, row in found))
        columns = max(columns, *(column_number(letters.decode()) for letters in {letters for letters, _ in found}))
    if b't="e"' in text:
        for letters, row, value in _ERROR.findall(text):
            errors[int(row) - 1, column_number(letters.decode()) - 1] = CellError(value.decode("ascii", "replace"))
    return rows, columns, cells + len(found)


class _Slow:
    """A sheet as an XML parser sees it: for prefixes, other quotes, and cells that do not say where they are."""

    def __init__(self) -> None:
        self.rows = self.columns = self.cells = 0
        self.errors: dict[tuple[int, int], str] = {}
        self._row = self._column = 0
        self._error = self._value = False
        self._text = ""

    def begin(self, tag: str, attributes: dict[str, str]) -> None:
        tag = _local(tag)
        if tag == "row":
            self._row = _number(attributes.get("r", ""), self._row + 1)
            self._column = 0
        elif tag == "c":
            place = re.fullmatch(r"([A-Za-z]+)([0-9]+)", attributes.get("r", ""))
            self._column = column_number(place[1]) if place else self._column + 1
            self._row = int(place[2]) if place else max(self._row, 1)
            self._error = attributes.get("t") == "e"
        elif tag in ("v", "is"):
            self.cells += 1
            self.rows, self.columns = max(self.rows, self._row), max(self.columns, self._column)
            self._value, self._text = tag == "v", ""

    def end(self, tag: str) -> None:
        if _local(tag) == "v" and self._value:
            if self._error:
                self.errors[self._row - 1, self._column - 1] = CellError(self._text.strip())
            self._value = False

    def text(self, text: str) -> None:
        if self._value and self._error:
            self._text += text


def _measure_slowly(package: Package, part: str) -> Extent:
    slow = _Slow()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = slow.begin, slow.end, slow.text
    parse(parser, package, part)
    return Extent(slow.rows, slow.columns, slow.cells, _own_text(package, part, slow.cells), slow.errors)


def relations_of(package: Package, folder: str, part: str) -> dict[str, tuple[str, str]]:
    """Return the kind and the target of every relation of a part by its id; ``folder`` is that of the part, ``part`` its list."""
    found: dict[str, tuple[str, str]] = {}
    for tag, attributes in elements_of(package, part):
        if tag == "Relationship":
            target = attributes.get("Target", "").replace("\\", "/")
            path = posixpath.normpath(target if target.startswith("/") else posixpath.join(folder, target)).lstrip("/").lower()
            found[attributes.get("Id", "")] = (attributes.get("Type", "").rpartition("/")[2], path)
    return found


def elements_of(package: Package, part: str) -> Iterable[tuple[str, dict[str, str]]]:
    """Return all tags of a part with their attributes, without prefixes."""
    if part not in package.names():
        return []
    found: list[tuple[str, dict[str, str]]] = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda tag, attributes: found.append((_local(tag), {_local(k): v for k, v in attributes.items()}))
    parse(parser, package, part)
    return found


def parse(parser: expat.XMLParserType, package: Package, part: str) -> None:
    """Feed a part to a parser. Raises WorkbookError if it is no XML."""
    try:
        for chunk in package.chunks(part):
            parser.Parse(chunk, False)
        parser.Parse(b"", True)
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise WorkbookError(f"{package.path} is a damaged workbook: {part}: {error}") from error


def _local(tag: str) -> str:
    return tag.rpartition(":")[2]


def _number(text: str, otherwise: int) -> int:
    return int(text) if text.isascii() and text.isdigit() else otherwise
