"""What an .ods says that the library does not: how far its sheets reach, which cells hold errors, and texts that it reads amiss."""

import re
from xml.parsers import expat

from .cells import CellError
from .corrections import Corrections
from .package import Package
from .package_xml import parse
from .sheet_xml import Extent

#: Cells that are noted; a sheet with more of them is refused for its size, unless nearly all in it is amiss.
_MOST_CORRECTED = 8_000_000
#: Where text may stand in a cell and is none of it: a comment, a shape, and how characters are pronounced.
_BESIDE = re.compile("office:annotation|text:ruby-text|draw:.*")


class _Text:
    """The text of a cell. Blanks count as they stand: OpenDocument has them collapse, but no program that writes them means that.

    LibreOffice itself writes the indented lines of a cell so, and pandas every text.
    """

    def __init__(self) -> None:
        self.paragraphs: list[str] = []
        #: Whether the library reads something else.
        self.odd = False
        self._beside = self._inside = 0

    def begin(self, tag: str, attributes: dict[str, str]) -> None:
        if _BESIDE.fullmatch(tag):
            self._beside += 1
            self.odd = self.odd or tag != "office:annotation"
        elif self._beside:
            return
        elif tag == "text:p":
            self._inside += 1
            self.paragraphs.append("")
        elif self._inside and tag == "text:s":
            self._add(" " * min(_count(attributes, "text:c"), 32_767))
        elif self._inside and tag in ("text:line-break", "text:tab"):
            self._add("\t" if tag == "text:tab" else "\n")
            self.odd = True

    def end(self, tag: str) -> None:
        if _BESIDE.fullmatch(tag):
            self._beside -= 1
        elif tag == "text:p" and not self._beside:
            self._inside -= 1

    def text(self, text: str) -> None:
        if self._beside:
            return
        if not self._inside:
            self.odd = True  # the blanks with which a program has laid out its XML
            return
        self._add(text)

    def _add(self, text: str) -> None:
        self.paragraphs[-1] += text


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
        #: Characters of the cell, of its row and of all rows, each as often as it is repeated.
        self._length = self._in_row = self._characters = 0
        self._times = 1
        self._repeated = 1
        self._corrected = Corrections()
        self._cell: tuple[int, int, bool] | None = None
        self._text = _Text()

    def begin(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "table:table":
            self._depth += 1
            if self._depth == 1:
                self._begin(attributes.get("table:name", ""))
        elif self._depth != 1:
            return
        elif tag == "table:table-row":
            self._repeated = _count(attributes, "table:number-rows-repeated")
            self._column = self._filled = self._in_row = 0
        elif tag in ("table:table-cell", "table:covered-table-cell"):
            times = self._times = _count(attributes, "table:number-columns-repeated")
            self._length = len(attributes.get("office:string-value", ""))
            if "office:value-type" in attributes:
                is_error = attributes.get("calcext:value-type") == "error"
                if is_error or (attributes["office:value-type"] == "string" and "office:string-value" not in attributes):
                    self._cell, self._text = (self._column, times, is_error), _Text()
                self._filled += times
                self._columns = max(self._columns, self._column + times)
            self._column += times
        elif self._cell is not None:
            self._text.begin(tag, attributes)

    def end(self, tag: str) -> None:
        if tag == "table:table":
            self._depth -= 1
            if self._depth == 0 and self._name is not None:
                self.extents[self._name] = Extent(self._rows, self._columns, self._cells, 4 * self._characters, self._corrected)
        elif self._depth != 1:
            return
        elif tag == "table:table-row":
            self._row += self._repeated
            self._cells += self._filled * self._repeated
            self._characters += self._in_row * self._repeated
            self._rows = self._row if self._filled else self._rows
        elif tag in ("table:table-cell", "table:covered-table-cell"):
            self._in_row += self._length * self._times
            self._length = 0
            self._correct()
        elif self._cell is not None:
            self._text.end(tag)

    def text(self, text: str) -> None:
        self._length += len(text)
        if self._cell is not None:
            self._text.text(text)

    def _correct(self) -> None:
        if self._cell is None:
            return
        first, times, is_error = self._cell
        self._cell = None
        if (is_error or self._text.odd) and len(self._corrected) + times * self._repeated <= _MOST_CORRECTED:
            value = "\n".join(self._text.paragraphs)
            for row in range(self._row, self._row + self._repeated):
                for column in range(first, first + times):
                    self._corrected.add(row, column, CellError(value) if is_error else value)


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
