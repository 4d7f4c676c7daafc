"""Answers as a table of text, .csv or .tsv: for a person's spreadsheet program, or exactly for programs."""

import csv
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path

from .cells import Cell, as_text
from .json_lines import whole_text
from .replacing import replacing

#: Texts that a spreadsheet program may take for a formula: those that begin with = + - @ (also full-width ones, as a Japanese Excel
#: takes them), behind white space and control characters too, or with a tab, a carriage return or a null character; and those that
#: already look guarded. Numbers are none. After OWASP's ASVS 5.0, 1.2.10.
_FORMULA = re.compile(r"'*(?:[\s\x00-\x1f\ufeff]*[=+\-@＝＋－＠]|[\t\r\x00])")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


class CsvStyle(StrEnum):
    """How texts are written to .csv and .tsv."""

    SAFE = "safe"
    RAW = "raw"


def write_delimited(out: Path, headers: Sequence[str], rows: Iterable[Sequence[Cell]], *, raw: bool) -> None:
    """Write rows below their headers, and replace ``out`` by them at once; with tabs if it is a .tsv. Raises WorkbookError.

    Unless ``raw``, the file begins with UTF-8's mark, without which Excel takes the text for another encoding, and texts that could be
    formulas begin with an apostrophe.
    """
    with replacing(out) as work, work.open("w", encoding="utf-8" if raw else "utf-8-sig", newline="") as file:
        writer = csv.writer(file, delimiter="\t" if out.suffix.lower() == ".tsv" else ",")
        shown = whole_text if raw else guarded
        writer.writerow([shown(header) for header in headers])
        for row in rows:
            writer.writerow([shown(cell) if isinstance(cell, str) else as_text(cell) for cell in row])


def guarded(text: str) -> str:
    """Return a text as no spreadsheet program takes it for a formula: behind an apostrophe, if it could be one.

    Whoever wants the text back takes the first apostrophe away where another of them, or what could be a formula, follows.
    """
    text = whole_text(text)
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text
