"""New sheets in the lists of a package: the workbook, its relationships and the content types."""

import posixpath
import re
from collections.abc import Sequence
from xml.sax.saxutils import quoteattr

from workers.contract.errors import WorkbookError

from .kept_package import CONTENT_TYPES, KeptPackage, SheetPart
from .tags import Piece, Tag, cut, joined, root_of

_SHEET_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"


def with_new_sheets(package: KeptPackage, sheets: Sequence[SheetPart], dropped: Sequence[str]) -> dict[str, Sequence[bytes]]:
    """Return the lists of a package with these sheets at the end and without the parts that are dropped, by part."""
    relations = package.read(package.workbook_relations)
    names = _free_names(relations, len(sheets))
    folder = posixpath.dirname(package.workbook)
    related = [
        f'<{{}}Relationship Id="{name}" Type={quoteattr(sheet.relationship_type)} Target="{posixpath.relpath(sheet.part, folder or ".")}"/>'
        for name, sheet in zip(names, sheets, strict=True)
    ]
    typed = [f'<{{}}Override PartName="/{sheet.part}" ContentType="{_SHEET_TYPE}"/>' for sheet in sheets]
    relations = _without(relations, "Relationship", "Target", dropped)
    types = _without(package.read(CONTENT_TYPES), "Override", "PartName", dropped)
    return {
        package.workbook: [_listed(package.read(package.workbook), package.workbook, sheets, names)],
        package.workbook_relations: [_appended(relations, "Relationships", related, package.workbook_relations)],
        CONTENT_TYPES: [_appended(types, "Types", typed, CONTENT_TYPES)],
    }


def _listed(workbook: bytes, part: str, sheets: Sequence[SheetPart], names: Sequence[str]) -> bytes:
    known = [tag for tag in cut([workbook], root_of(workbook, part).prefix, ["sheet"]) if isinstance(tag, Tag) and not tag.closing]
    first = max((int(tag.get("sheetId") or 0) for tag in known), default=0) + 1
    # The prefix of relationships, as the sheets that are there write it
    found = re.search(rb"\s([\w.-]+:id)\s*=", known[0].raw) if known else None
    if found is None:
        raise WorkbookError(f"--keep-format: the part {part} of the workbook lists no sheet")
    # Some programs declare that prefix in each of the sheets
    declared = re.search(rb"""\sxmlns:%s\s*=\s*("[^"]*"|'[^']*')""" % re.escape(found[1].partition(b":")[0]), known[0].raw)
    prefix = declared[0].decode() if declared else ""
    lines = [
        f'<{{}}sheet name={quoteattr(sheet.name)} sheetId="{first + number}" {found[1].decode()}="{name}"{prefix}/>'
        for number, (sheet, name) in enumerate(zip(sheets, names, strict=True))
    ]
    return _appended(workbook, "sheets", lines, part)


def _free_names(relations: bytes, count: int) -> list[str]:
    taken = {value.casefold() for value in re.findall(rb"\sId\s*=\s*[\"']([^\"']*)[\"']", relations) for value in [value.decode()]}
    free = (name for number in range(1, len(taken) + count + 1) if (name := f"rIdKotae{number}").casefold() not in taken)
    return [next(free) for _ in range(count)]


def _appended(xml: bytes, element: str, lines: Sequence[str], part: str) -> bytes:
    """Return a part with these lines at the end of an element; ``{}`` stands for the prefix of the part's root."""
    prefix = root_of(xml, part).prefix
    pieces = list(cut([xml], prefix, [element]))
    for number, piece in enumerate(pieces):
        if isinstance(piece, Tag) and piece.closing:
            pieces.insert(number, "".join(line.replace("{}", prefix, 1) for line in lines).encode())
            return joined(pieces)
    raise WorkbookError(f"--keep-format: the part {part} of the workbook has no end of <{element}>")


def _without(xml: bytes, element: str, attribute: str, dropped: Sequence[str]) -> bytes:
    """Return a list without the entries of parts that are dropped."""
    names = {posixpath.basename(part).casefold() for part in dropped}
    kept: list[Piece] = []
    dropping = False
    for piece in cut([xml], root_of(xml, element).prefix, [element]):
        if isinstance(piece, Tag) and not piece.closing:
            dropping = posixpath.basename((piece.get(attribute) or "").casefold()) in names
        if not dropping:
            kept.append(piece)
        if isinstance(piece, Tag) and not piece.opening:
            dropping = False
    return joined(kept)
