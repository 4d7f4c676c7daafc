"""The lists by which the parts of a package find each other, as they are read."""

import posixpath
from collections.abc import Iterator
from xml.parsers import expat

from workers.contract.errors import WorkbookError

from .package import Package

#: Bytes of the largest list that is read as a whole. Excel has room for 65,490 styles.
_LARGEST_LIST = 64 << 20


def refuse_large_lists(package: Package) -> None:
    """Raise WorkbookError if the lists of sheets, relations or styles are larger than any program's: the library holds all of them."""
    for part in _lists(package):
        if part in package.names() and package.size(part) > _LARGEST_LIST:
            raise WorkbookError(
                f"{package.path} is a damaged workbook: {part} has {package.size(part) / 2**20:,.0f} MB;"
                " open it in a spreadsheet program and save it anew"
            )


def _lists(package: Package) -> Iterator[str]:
    """Yield the names of lists, each before it is read for those of others."""
    yield relations_part("")
    book = workbook_part(package)
    yield from (book, relations_part(book))
    yield from (part for kind, part in relations_of(package, relations_part(book)).values() if kind == "styles")


def sheet_parts(package: Package) -> dict[str, str]:
    """Return the parts that hold the sheets, by the sheets' names; what cannot be found is left out."""
    book = workbook_part(package)
    targets = relations_of(package, relations_part(book))
    parts: dict[str, str] = {}
    for tag, attributes in elements_of(package, book):
        if tag == "sheet":
            _, part = targets.get(attributes.get("id", ""), ("", ""))
            if part in package.names():
                parts[attributes.get("name", "")] = part
    return parts


def workbook_part(package: Package) -> str:
    """Return the part that lists the sheets."""
    root = relations_of(package, relations_part(""))
    return next((target for kind, target in root.values() if kind == "officeDocument"), "xl/workbook.xml")


def relations_part(part: str) -> str:
    """Return the part with the relations of another one, or of the package itself (``""``)."""
    folder, name = posixpath.split(part)
    return posixpath.join(folder, "_rels", f"{name}.rels")


def relations_of(package: Package, relations: str) -> dict[str, tuple[str, str]]:
    """Return the kind and the target of every relation that stands in a part, by its id."""
    folder = posixpath.dirname(posixpath.dirname(relations))
    found: dict[str, tuple[str, str]] = {}
    for tag, attributes in elements_of(package, relations):
        if tag == "Relationship":
            target = attributes.get("Target", "").replace("\\", "/")
            path = posixpath.normpath(target if target.startswith("/") else posixpath.join(folder, target)).lstrip("/").lower()
            found[attributes.get("Id", "")] = (attributes.get("Type", "").rpartition("/")[2], path)
    return found


def elements_of(package: Package, part: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield all tags of a part with their attributes, without prefixes. Raises WorkbookError if it is no XML."""
    if part not in package.names():
        return
    found: list[tuple[str, dict[str, str]]] = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda tag, attributes: found.append((local_name(tag), {local_name(k): v for k, v in attributes.items()}))
    for _ in parsed(parser, package, part):
        yield from found
        found.clear()


def parsed(parser: expat.XMLParserType, package: Package, part: str) -> Iterator[None]:
    """Feed a part to a parser, bit by bit, and yield after each. Raises WorkbookError if it is no XML."""
    try:
        for chunk in package.chunks(part):
            parser.Parse(chunk, False)
            yield
        parser.Parse(b"", True)
        yield
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise WorkbookError(f"{package.path} is a damaged workbook: {part}: {error}") from error


def parse(parser: expat.XMLParserType, package: Package, part: str) -> None:
    """Feed a part to a parser. Raises WorkbookError if it is no XML."""
    for _ in parsed(parser, package, part):
        pass


def local_name(tag: str) -> str:
    """Return a name without its prefix."""
    return tag.rpartition(":")[2]
