"""Which cells of an .xlsx show their number as a date or a time of the day: of a negative one the library makes another time."""

import re

from .package import Package
from .package_xml import elements_of, relations_of, relations_part, workbook_part

#: Formats that are not spelled out in the file, Japan's among them. Those of elapsed time (``[h]:mm``) may be negative.
_BUILT_IN = {str(number) for number in (*range(14, 23), *range(27, 37), 45, 47, *range(50, 59))}
_ELAPSED = re.compile(r"\[(?:h+|m+|s+)\]", re.IGNORECASE)
#: What of a format stands for itself: quoted text, a character behind a mark, and conditions, colours and languages.
_LITERAL = re.compile(r'"[^"]*"|[\\_*].|\[[^\]]*\]')


def date_styles(package: Package) -> frozenset[str]:
    """Return the numbers of the styles of such cells."""
    book = workbook_part(package)
    part = next((part for kind, part in relations_of(package, relations_part(book)).values() if kind == "styles"), "")
    formats: dict[str, str] = {}
    dates: set[str] = set()
    number: int | None = None  # of the next style; None outside of their list
    for tag, attributes in elements_of(package, part):
        if tag == "numFmt":
            formats[attributes.get("numFmtId", "")] = attributes.get("formatCode", "")
        elif tag in ("cellXfs", "cellStyles"):
            number = 0 if tag == "cellXfs" else None
        elif tag == "xf" and number is not None:
            name = attributes.get("numFmtId", "")
            if is_date_format(name, formats.get(name)):
                dates.add(str(number))
            number += 1
    return frozenset(dates)


def is_date_format(name: str, code: str | None) -> bool:
    """Say whether numbers in a format, given by its number and how the file spells it out, if it does, are dates or times of the day."""
    if code is None:
        return name in _BUILT_IN
    return _ELAPSED.search(code) is None and re.search("[dmyhs]", _LITERAL.sub("", code), re.IGNORECASE) is not None
