"""A comparison as one page of HTML that asks no network for anything: what it shows, packed; how it shows it is in ``page/``.

Replies are hostile input. They stand in the page as compressed JSON in base64, and come into the document as text, or as Markdown whose
HTML was escaped and then sanitised; a policy in the page's head lets only these very scripts run, and nothing be loaded.
"""

import base64
import hashlib
import json
import zlib
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from producer.workbook.cells import Cell, as_text, tidy
from producer.workbook.columns import tells_of_a_reply
from producer.workbook.replacing import replacing
from workers.contract.messages import Outcome

from .comparison import Comparison, outcome_text
from .figures import Compared, Figures
from .joining import digest_of, shown_digest
from .page_frame import Frame, safe_json
from .replies import Reply, Row
from .samples import vote

#: Characters of a question in the list; the page has to hold those of all questions at once.
_EXCERPT = 200
#: Characters, and rows, that are unpacked at once.
_CHUNK, _CHUNK_ROWS = 1 << 19, 200
#: A column with more values than that, or longer ones, is searched rather than filtered by.
_VALUES, _VALUE = 200, 120
#: At zlib's level 3 texts take a third of the time of its 6, and a seventh more room.
_LEVEL = 3


def write_page(path: Path, comparison: Comparison, rows: Iterable[Compared]) -> list[str]:
    """Write the page and replace ``path`` by it at once. Raises WorkbookError."""
    frame = Frame.read(" · ".join(comparison.labels))
    with replacing(path) as work, work.open("w", encoding="utf-8", newline="\n") as file:
        file.write(frame.head)
        index = _Index(comparison)
        for place, texts in _chunks(rows, index):
            index.starts.append(place)
            _write_block(file, 'class="chunk"', _packed(texts))
        _write_block(file, 'id="index"', _packed(index.columns()))
        _write_block(file, 'id="about"', safe_json(_about(comparison, index)))
        _write_block(file, 'id="judgements"', "null")
        file.write(frame.foot)
    return []


def _write_block(file: IO[str], attribute: str, content: str) -> None:
    file.write(f'<script type="application/json" {attribute}>{content}</script>\n')


def _packed(value: Any) -> str:
    """Return a value as compressed JSON, as a JSON string. What no text can hold, half a pair of surrogates, becomes a question mark."""
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return f'"{base64.b64encode(zlib.compress(data, _LEVEL)).decode()}"'


def _about(comparison: Comparison, index: "_Index") -> dict[str, Any]:
    sheet = comparison.sources[0].sheet
    return {
        "format": "kotae-comparison",
        "version": 1,
        "id": index.identity(),
        "created": comparison.created.isoformat(timespec="seconds"),
        "sources": [comparison.about(side) for side in range(len(comparison.sources))],
        "join": comparison.column,
        "questionColumn": sheet.headers[sheet.question_column],
        "columns": [sheet.headers[column] or f"column {column + 1}" for column in index.shown],
        "veiled": [n for n, column in enumerate(index.shown) if tells_of_a_reply(sheet.headers[column])],
        "rows": len(index.digests),
        "firstRow": sheet.shown_row(0),
    }


class _Index:
    """What the page knows of all rows at once: enough to list, filter and sort them. The texts lie in chunks."""

    def __init__(self, comparison: Comparison) -> None:
        sheet = comparison.sources[0].sheet
        hidden = comparison.reply_columns() | {sheet.question_column}
        self.sources = comparison.sources
        #: Columns of the first source that are shown beside a question.
        self.shown = [column for column in range(len(sheet.headers)) if column not in hidden]
        self.digests: list[str] = []
        self.starts: list[int] = []
        self._excerpts: list[str] = []
        self._keys: list[str] = []
        self._sides = [_SideIndex() for _ in comparison.sources]
        self._filters: dict[int, _Filter] = {column: _Filter() for column in self.shown}
        self._identity = hashlib.sha256(safe_json([comparison.about(n) | {"name": ""} for n in range(len(self.sources))]).encode())
        self._identity.update(repr(comparison.column).encode("utf-8", "replace"))

    def add(self, compared: Compared) -> None:
        joined, figures = compared
        self._excerpts.append(" ".join(joined.question[: 2 * _EXCERPT].split())[:_EXCERPT])
        self._keys.append(joined.key)
        digest = digest_of(joined)
        self._identity.update(digest)
        self.digests.append(shown_digest(digest))
        for side, row, one in zip(self._sides, joined.sides, figures, strict=True):
            side.add(row, one)
        for column in list(self._filters):
            if not self._filters[column].add(_shown(joined.cells[column])):
                del self._filters[column]

    def identity(self) -> str:
        return self._identity.hexdigest()[:16]

    def columns(self) -> dict[str, Any]:
        return {
            "starts": self.starts,
            "excerpts": self._excerpts,
            "keys": self._keys if any(self._keys) else None,
            "digests": self.digests,
            "sides": [side.columns() for side in self._sides],
            "filters": [
                {"column": self.shown.index(column), "values": list(one.values), "codes": one.codes.tolist()}
                for column, one in self._filters.items()
                if 1 < len(one.values) < len(one.codes)  # one that numbers the rows chooses nothing
            ],
        }


class _SideIndex:
    """Of one source, what can be filtered and sorted by."""

    def __init__(self) -> None:
        self._rows: list[int] = []
        self._outcomes: list[str] = []
        self._answers, self._reasonings = array("l"), array("l")
        self._repetitions = array("d")

    def add(self, row: Row | None, figures: Figures | None) -> None:
        self._rows.append(-1 if row is None else row.row)
        self._outcomes.append(outcome_text(row))
        self._answers.append(-1 if figures is None else figures.answer)
        self._reasonings.append(-1 if figures is None else figures.reasoning)
        self._repetitions.append(0 if figures is None else round(max(figures.answer_repetition, figures.reasoning_repetition), 3))

    def columns(self) -> dict[str, Any]:
        return {
            "rows": self._rows,
            "outcomes": self._outcomes,
            "answers": self._answers.tolist(),
            "reasonings": self._reasonings.tolist(),
            "repetitions": self._repetitions.tolist(),
        }


class _Filter:
    """A column whose values are few enough to choose from."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {}
        self.codes = array("l")

    def add(self, value: str) -> bool:
        """Add the value of the next row; say whether they are still few and short."""
        self.codes.append(self.values.setdefault(value, len(self.values)))
        return len(self.values) <= _VALUES and len(value) <= _VALUE


def _chunks(rows: Iterable[Compared], index: _Index) -> Iterator[tuple[int, list[Any]]]:
    """Yield the texts of all rows, some at a time, each time with the place of the first."""
    chunk: list[Any] = []
    start = size = 0
    for place, compared in enumerate(rows):
        if chunk and (size > _CHUNK or len(chunk) >= _CHUNK_ROWS):
            yield start, chunk
            chunk, start, size = [], place, 0
        index.add(compared)
        chunk.append(_texts(compared, index.shown))
        size += sum(one.answer + one.reasoning for one in compared.figures if one is not None) + len(compared.joined.question)
    if chunk:
        yield start, chunk


def _texts(compared: Compared, shown: Iterable[int]) -> dict[str, Any]:
    joined, figures = compared
    return {
        "question": joined.question,
        "cells": [_shown(joined.cells[column]) for column in shown],
        "sides": [None if row is None else _side(row, one) for row, one in zip(joined.sides, figures, strict=True)],
    }


def _side(row: Row, figures: Figures | None) -> dict[str, Any]:
    side: dict[str, Any] = {"error": row.error, "replies": [_reply(reply) for reply in row.replies]}
    if len(row.replies) > 1 and (most := vote(row.replies)) is not None:
        sample = next(number for number, reply in enumerate(row.replies, start=1) if reply.answer == most.answer)
        side["majority"] = {"sample": sample, "votes": most.votes, "of": most.samples}
    return side if figures is None else side | {"figures": [*figures[:2], *(round(share, 3) for share in figures[2:4]), figures.longest]}


def _reply(reply: Reply) -> dict[str, Any]:
    """Return what is shown of a reply: also its raw text where the parts may not be all of it."""
    shown = {"answer": reply.answer, "reasoning": reply.reasoning, "outcome": str(reply.outcome), "tokens": reply.output_tokens}
    whole = reply.outcome in (Outcome.MALFORMED, Outcome.TRUNCATED) and reply.text not in ("", reply.answer)
    return shown | {"raw": reply.text} if whole else shown


def _shown(cell: Cell) -> str:
    return cell if isinstance(cell, str) else as_text(tidy(cell))
