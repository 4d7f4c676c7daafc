"""What an .xls says that the library does not: which cells hold errors, and which a number below zero that is shown as a date."""

import struct
from collections.abc import Iterator
from pathlib import Path

import olefile

from .cells import CellError, tidy
from .corrections import Corrections
from .date_styles import is_date_format

#: Kinds of records, as Microsoft's [MS-XLS] numbers them.
_BOF, _EOF, _SHEET, _FORMAT, _STYLE = 0x809, 0x0A, 0x85, 0x41E, 0xE0
_NUMBER, _PACKED, _SEVERAL_PACKED, _ERROR, _FORMULA = 0x203, 0x27E, 0xBD, 0x205, 0x06
_ERRORS = {
    0x00: "#NULL!",
    0x07: "#DIV/0!",
    0x0F: "#VALUE!",
    0x17: "#REF!",
    0x1D: "#NAME?",
    0x24: "#NUM!",
    0x2A: "#N/A",
    0x2B: "#GETTING_DATA",
}
#: The version whose texts are in Unicode.
_BIFF8 = 0x600


def corrections_of(path: Path) -> list[Corrections]:
    """Return what of each sheet is read amiss, in the order in which the file lists them; nothing if it is damaged."""
    try:
        with olefile.OleFileIO(path) as file:
            content = file.openstream("Workbook" if file.exists("Workbook") else "Book").read()
        steps = iter(range(len(content) // 4))  # so many records have room in it; sheets that lie in each other have more
        dates, starts = _globals(content, steps)
        return [_sheet(content, start, dates, steps) for start in starts]
    except (OSError, struct.error, IndexError, ValueError, UnicodeDecodeError):
        return []


def _records(content: bytes, place: int, steps: Iterator[int]) -> Iterator[tuple[int, bytes]]:
    """Yield kind and content of the records of one sheet, or of what stands before them all; charts within it are passed over."""
    depth = 0
    for _ in steps:
        kind, length = struct.unpack_from("<HH", content, place)
        depth += (kind == _BOF) - (kind == _EOF)
        if depth == 0:
            return
        if depth == 1:
            yield kind, content[place + 4 : place + 4 + length]
        place += 4 + length
    raise ValueError("more records than there can be")


def _globals(content: bytes, steps: Iterator[int]) -> tuple[frozenset[int], list[int]]:
    """Return the styles that show numbers as dates, and where the sheets begin."""
    formats: dict[int, str] = {}
    styles: list[int] = []
    starts: list[int] = []
    version = 0
    for kind, data in _records(content, 0, steps):
        if kind == _BOF:
            version = struct.unpack_from("<H", data)[0]
        elif kind == _SHEET:
            starts.append(struct.unpack_from("<I", data)[0])
        elif kind == _FORMAT:
            formats[struct.unpack_from("<H", data)[0]] = _text(data[2:], version)
        elif kind == _STYLE:
            styles.append(struct.unpack_from("<H", data, 2)[0])
    return frozenset(number for number, name in enumerate(styles) if is_date_format(str(name), formats.get(name))), starts


def _text(data: bytes, version: int) -> str:
    if version < _BIFF8:
        return data[1 : 1 + data[0]].decode("latin-1")
    length, is_wide = struct.unpack_from("<HB", data)
    return data[3 : 3 + 2 * length].decode("utf-16-le") if is_wide & 1 else data[3 : 3 + length].decode("latin-1")


def _sheet(content: bytes, start: int, dates: frozenset[int], steps: Iterator[int]) -> Corrections:
    corrected = Corrections()
    for kind, data in _records(content, start, steps):
        if kind == _ERROR:
            row, column, _, code, is_error = struct.unpack_from("<HHHBB", data)
            if is_error:
                corrected.add(row, column, CellError(_ERRORS.get(code, "#N/A")))
        elif kind == _FORMULA and data[12:14] == b"\xff\xff":
            row, column = struct.unpack_from("<HH", data)
            if data[6] == 2:  # neither a text, nor true or false, nor empty
                corrected.add(row, column, CellError(_ERRORS.get(data[8], "#N/A")))
        elif kind in (_NUMBER, _FORMULA, _PACKED, _SEVERAL_PACKED):
            for row, column, style, number in _numbers(kind, data):
                if number < 0 and style in dates:
                    corrected.add(row, column, tidy(number))
    return corrected


def _numbers(kind: int, data: bytes) -> Iterator[tuple[int, int, int, float]]:
    """Yield row, column, style and value of the numbers in a record."""
    if kind == _SEVERAL_PACKED:
        row, first = struct.unpack_from("<HH", data)
        for number, place in enumerate(range(4, len(data) - 2, 6)):
            yield row, first + number, struct.unpack_from("<H", data, place)[0], _unpacked(data[place + 2 : place + 6])
    elif kind == _PACKED:
        yield *struct.unpack_from("<HHH", data), _unpacked(data[6:10])
    else:
        yield struct.unpack_from("<HHHd", data)


def _unpacked(data: bytes) -> float:
    """Return a number that takes four bytes: the first 30 bits of one of eight, or a whole one; perhaps a hundred times as large."""
    (bits,) = struct.unpack("<i", data)
    number = float(bits >> 2) if bits & 2 else struct.unpack("<d", b"\0\0\0\0" + struct.pack("<i", bits & ~3))[0]
    return number / 100 if bits & 1 else number
