"""The total rows of the tables on a sheet: they stand below the data, and are none of it."""

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

from .package import Package
from .package_xml import elements_of, relations_of, relations_part
from .places import column_number

_AREA = re.compile(r"\$?([A-Z]{1,3})\$?[0-9]{1,7}:\$?([A-Z]{1,3})\$?([0-9]{1,7})")


class TotalRow(NamedTuple):
    """One of them: its row and the first and last column of its table, all from 0."""

    row: int
    first: int
    last: int


def total_rows(package: Package, part: str) -> list[TotalRow]:
    """Return the total rows that are shown on the sheet in this part."""
    tables = [target for kind, target in relations_of(package, relations_part(part)).values() if kind == "table"]
    roots = [next(iter(elements_of(package, table)), ("", {})) for table in tables]
    areas = [_AREA.fullmatch(attributes.get("ref", "")) for tag, attributes in roots if tag == "table" and _has_totals(attributes)]
    return [TotalRow(int(area[3]) - 1, column_number(area[1]) - 1, column_number(area[2]) - 1) for area in areas if area]


def totals_of(total_rows: Iterable[TotalRow], columns: Collection[int]) -> frozenset[int]:
    """Return the rows among them whose table has one of these columns."""
    return frozenset(total.row for total in total_rows if any(total.first <= column <= total.last for column in columns))


def _has_totals(attributes: dict[str, str]) -> bool:
    return attributes.get("totalsRowCount", "0") not in ("", "0")
