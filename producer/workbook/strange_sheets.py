"""Sheets that a workbook lists and the library stumbles over: macro sheets of old, and those that there is nothing of."""

import re
from collections.abc import Callable
from functools import partial

from .package import Package
from .package_xml import elements_of, relations_of, relations_part, workbook_part

#: Kinds of sheets that the library knows.
_KNOWN = ("worksheet", "chartsheet", "dialogsheet")


def without_strange_sheets(package: Package) -> dict[str, Callable[[bytes], bytes]]:
    """Return how the parts of a package change that the others can be read by; nothing changes where all sheets can be, or none."""
    book = workbook_part(package)
    targets = relations_of(package, relations_part(book))
    listed = [attributes.get("id", "") for tag, attributes in elements_of(package, book) if tag == "sheet"]
    strange = [name for name in listed if not _is_known(package, *targets.get(name, ("", "")))]
    return {book: partial(_without, strange)} if 0 < len(strange) < len(listed) else {}


def _is_known(package: Package, kind: str, part: str) -> bool:
    return kind.casefold() in _KNOWN and part in package.names()


def _without(strange: list[str], workbook: bytes) -> bytes:
    ids = b"|".join(re.escape(name.encode()) for name in strange)
    return re.sub(rb"""<((?:[\w.-]+:)?)sheet\s[^>]*?:id\s*=\s*["'](?:%s)["'][^>]*?(?:/>|>\s*</\1sheet\s*>)""" % ids, b"", workbook)
