"""What an .ods says that the library does not: how far its sheets reach once repeats are laid out, and which cells hold errors."""

from xml.parsers import expat

from .packages import Package
from .sheet_xml import Extent, parse

_MOST_ERRORS = 1_000_000


class _Tables:
    """The tables of a document, with what is repeated counted."""

    def __init__(self) -> None:
        self.extents: dict[str, Extent] = {}
        self._name: str | None = None
        self._depth = 0
        self._begin("")

    def _begin(self, name: str) -> None:
        self._name = name
        self._row = self._column = self._rows = self._columns = self._cells = self._filled = 0
        self._repeated = 1
        self._errors: dict[tuple[int, int], str] = {}
        self._error: tuple[int, int] | None = None
        self._text = ""

    def begin(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "table:table":
            self._depth += 1
            if self._depth == 1:
                self._begin(attributes.get("table:name", ""))
        elif self._depth != 1:
            return
        elif tag == "table:table-row":
            self._repeated = _count(attributes, "table:number-rows-repeated")
            self._column = 0
            self._filled = 0
        elif tag in ("table:table-cell", "table:covered-table-cell"):
            times = _count(attributes, "table:number-columns-repeated")
            if "office:value-type" in attributes:
                if attributes.get("calcext:value-type") == "error" and len(self._errors) < _MOST_ERRORS:
                    self._error, self._text = (self._row, self._column), ""
                self._filled += times
                self._columns = max(self._columns, self._column + times)
            self._column += times

    def end(self, tag: str) -> None:
        if tag == "table:table":
            self._depth -= 1
            if self._depth == 0 and self._name is not None:
                self.extents[self._name] = Extent(self._rows, self._columns, self._cells, self._errors)
        elif self._depth != 1:
            return
        elif tag == "table:table-row":
            self._row += self._repeated
            self._cells += self._filled * self._repeated
            self._rows = self._row if self._filled else self._rows
        elif tag == "table:table-cell" and self._error is not None:
            self._errors[self._error] = self._text
            self._error = None

    def text(self, text: str) -> None:
        if self._error is not None:
            self._text += text


def measure_ods(package: Package) -> dict[str, Extent]:
    """Return how far each sheet reaches, by its name. Raises WorkbookError."""
    if "content.xml" not in package.names():
        return {}
    tables = _Tables()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = tables.begin, tables.end, tables.text
    parse(parser, package, "content.xml")
    return tables.extents


def _count(attributes: dict[str, str], name: str) -> int:
    text = attributes.get(name, "1")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 1
