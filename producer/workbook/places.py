"""Where a cell stands, as spreadsheets say it: ``AB12``, ``$AB$12``."""

import functools
import re


def column_name(index: int) -> str:
    """Return the letters of a column, the first of which is 0."""
    name, number = "", index + 1
    while number:
        number, letter = divmod(number - 1, 26)
        name = chr(ord("A") + letter) + name
    return name


@functools.lru_cache(1 << 15)
def column_number(letters: str) -> int:
    """Return the number of a column by its letters, from 1."""
    number = 0
    for letter in letters.upper():
        number = number * 26 + ord(letter) - ord("A") + 1
    return number


def column_index(reference: str) -> int:
    """Return the column of a reference such as ``AB12`` or ``$AB$12``, from 0."""
    return column_number(reference.replace("$", "").rstrip("0123456789")) - 1


def row_number(reference: str) -> int:
    """Return the row of a reference, from 1; 0 if it names none."""
    return int(re.sub(r"[^0-9]", "", reference) or 0)
