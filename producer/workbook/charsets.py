"""How a text is encoded, where nothing but its bytes says so."""

import codecs
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO

from workers.contract.errors import WorkbookError

_CHUNK = 1 << 20
#: Characters of a line, or a cell: longer ones would take all memory.
LONGEST = 1 << 24
_BYTE_ORDER_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
#: Escape sequences by which JIS changes between its sets of characters.
_JIS = re.compile(rb"\x1b\$[@B(]|\x1b\([JI]")
#: What nearly every Japanese text has, and what one in EUC-JP turns into when it is read as cp932.
_KANA, _HALF_WIDTH = re.compile("[ぁ-ゖァ-ヶ]"), re.compile("[｡-ﾟ]*")
_NAMES = {"utf-16": "UTF-16", "cp932": "Japanese Windows text (cp932)", "euc_jp": "EUC-JP", "iso2022_jp": "JIS (ISO-2022-JP)"}


def encoding_of(path: Path) -> str:
    """Return how a text is encoded. Raises WorkbookError.

    UTF-16 if it says so, else UTF-8 if all of it is that; else one of the Japanese ones that all of it can be: JIS by its escape
    sequences, EUC-JP or cp932. Where it can be both of these, it is EUC-JP, unless that gives no kana and cp932 nothing but narrow ones.
    """
    with path.open("rb") as file:
        head = file.read(_CHUNK)
    if head.startswith(_BYTE_ORDER_MARKS):
        if not _can_be(path, "utf-16"):
            raise WorkbookError(f"{path} is damaged: it says that it is UTF-16, and is not; save it as UTF-8")
        return "utf-16"
    if _JIS.search(head) and _can_be(path, "iso2022_jp"):
        return "iso2022_jp"
    if _can_be(path, "utf-8-sig"):
        return "utf-8-sig"
    euc, cp932 = _can_be(path, "euc_jp"), _can_be(path, "cp932")
    if euc and cp932:
        return "cp932" if _is_narrow(head) else "euc_jp"
    if euc or cp932:
        return "euc_jp" if euc else "cp932"
    raise WorkbookError(f"{path} is neither UTF-8 nor Japanese text (cp932, EUC-JP, JIS); save it as UTF-8")


def name_of(encoding: str) -> str | None:
    """Return what people call an encoding; None for UTF-8, which goes without saying."""
    return _NAMES.get(encoding)


def _can_be(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _is_narrow(head: bytes) -> bool:
    """Say whether a text that can be both is more likely cp932."""
    wide = "".join(character for character in head.decode("cp932", "ignore") if not character.isascii())
    return _HALF_WIDTH.fullmatch(wide) is not None and _KANA.search(head.decode("euc_jp", "ignore")) is None


def whole_lines(path: Path, file: IO[str]) -> Iterator[str]:
    """Yield the lines of a text. Raises WorkbookError for one that would take all memory."""
    for number, line in enumerate(iter(partial(file.readline, LONGEST + 1), ""), start=1):
        if len(line) > LONGEST:
            raise WorkbookError(f"{path}: line {number} has more than {LONGEST:,} characters; no row is that long")
        yield line
