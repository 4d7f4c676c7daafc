"""Quoted cells that stand off from the delimiter (``1, "a, b"``), as people type them: Python's csv takes only ``1,"a, b"``."""

import functools
import re
from collections.abc import Iterable, Iterator


def stands_off(sample: str, delimiter: str) -> bool:
    """Say whether a text has a cell whose quotation stands off from the delimiter, and ends where a quotation ends."""
    return _standing_off(delimiter).search(sample) is not None


def quoted_from_the_start(lines: Iterable[str], delimiter: str) -> Iterator[str]:
    """Yield the lines without the blanks before and after quotations. Cells without quotation marks stay as they are, blanks and all."""
    cell = _cell(delimiter)
    inside = False
    for line in lines:
        if not inside and '"' not in line:
            yield line
            continue
        place, tidy = 0, []
        if inside:
            found = _END.match(line)
            if found is None:
                yield line
                continue
            tidy.append(found["text"])
            place = found.end() if _ends(line, found.end(), delimiter) else found.end("text")
            inside = False
        while place < len(line):
            found = cell.match(line, place)
            assert found is not None, "a cell may be empty"
            if found["open"]:
                inside = True
                tidy.append(found["open"])
            else:
                tidy.append(found["quoted"] or found["plain"] or "")
            tidy.append(found["end"])
            place = found.end()
        yield "".join(tidy)


#: The rest of a quotation that was opened in an earlier line.
_END = re.compile(r'(?P<text>(?:[^"]|"")*+"(?!")) *')


def _ends(line: str, place: int, delimiter: str) -> bool:
    return line[place : place + 1] in ("", "\r", "\n", delimiter)


@functools.cache
def _standing_off(delimiter: str) -> re.Pattern[str]:
    mark = re.escape(delimiter)
    return re.compile(rf'(?:^|{mark}) +"(?:[^"]|"")*+" *(?:{mark}|[\r\n]|$)', re.MULTILINE)


@functools.cache
def _cell(delimiter: str) -> re.Pattern[str]:
    mark = re.escape(delimiter)
    quoted = rf' *(?P<quoted>"(?:[^"]|"")*+") *(?={mark}|[\r\n]*\Z)'
    opened = r' *(?P<open>"(?:[^"]|"")*+)\Z'
    return re.compile(rf"(?:{quoted}|{opened}|(?P<plain>[^{mark}]*))(?P<end>{mark}|[\r\n]*\Z)")
