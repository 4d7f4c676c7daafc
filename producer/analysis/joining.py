"""Sources side by side: which rows of theirs are the same question."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from producer.progress import counted
from producer.workbook.cells import Cell
from producer.workbook.columns import normalised
from producer.workbook.limits import cut_for_excel
from producer.workbook.texts import Texts
from workers.contract.errors import UserError, WorkbookError
from workers.contract.messages import Outcome

from .replies import Reply, Row
from .sources import Source, text_of

#: How many rows a refusal names.
_NAMED = 5


class Joined(NamedTuple):
    """One question and what each source has to it."""

    question: str
    #: In the order of the sources; None where a source has no such row. A row without a reply is there, with the outcome None.
    sides: tuple[Row | None, ...]
    #: The source columns as the first source has them; of a row that only others have, what stands there under the same headers.
    cells: list[Cell]
    #: What the rows were joined by; empty where they were joined by their places.
    key: str = ""


def digest_of(joined: Joined) -> bytes:
    """Return what changes when the question or a reply to it does: what was judged, if it was."""
    content = [joined.question, *([] if row is None else [(one.answer, one.reasoning) for one in row.replies] for row in joined.sides)]
    return hashlib.sha256(json.dumps(content).encode()).digest()


def shown_digest(digest: bytes) -> str:
    """Return a digest as it stands in a page and in an export."""
    return digest.hex()[:12]


def join(sources: Sequence[Source], column: str | None = None) -> Iterator[Joined]:
    """Put the rows of sources side by side: row by row, or by the values of a column.

    Row by row the sources must have the same questions at the same places. By a column each of its values must be there once,
    and equal values must have equal questions; rows that only some sources have come too, those of the first source first.
    All is checked before the first is yielded. Raises UserError, which names the rows.
    """
    return _by_row(sources) if column is None else _by_column(sources, column)


def same_question(one: str, other: str) -> bool:
    """Say whether two texts are one question, line breaks aside; also if one of them is what a cell of a workbook could hold of it."""
    one, other = _unix(one), _unix(other)
    return one == other or cut_for_excel(one) == other or one == cut_for_excel(other)


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _by_row(sources: Sequence[Source]) -> Iterator[Joined]:
    first, *others = sources
    for other in others:
        _check_places(first, other)
    return _zipped(sources)


def _zipped(sources: Sequence[Source]) -> Iterator[Joined]:
    for cells, *sides in zip(sources[0].sheet.rows(), *(source.rows() for source in sources), strict=True):
        yield Joined(sides[0].question, tuple(sides), cells)


def _check_places(first: Source, other: Source) -> None:
    ours, theirs = first.sheet.questions(), other.sheet.questions()
    pairs = enumerate(zip(ours, theirs, strict=False))
    differing = [row for row, (one, another) in pairs if not same_question(one, another)]
    if differing:
        raise UserError(
            f"{first.name} and {other.name} do not ask the same questions in {counted(len(differing), 'row')}:"
            f" {_rows(first, differing)} of the first; {_HINT}"
        )
    if len(ours) != len(theirs):
        raise UserError(
            f"{first.name} has {counted(len(ours), 'row')} and {other.name} {len(theirs):,}; the questions differ from"
            f" row {first.sheet.shown_row(min(len(ours), len(theirs)))} on; {_HINT}"
        )


_HINT = "if a column names each question, join by it: --join COLUMN"


def _by_column(sources: Sequence[Source], column: str) -> Iterator[Joined]:
    places = [_places(source, column) for source in sources]
    for number, (source, rows) in enumerate(zip(sources, places, strict=True)):
        for earlier, known in zip(sources[:number], places, strict=False):
            _check_questions(column, (earlier, known), (source, rows))
    return _looked_up(sources, places, column)


def _places(source: Source, column: str) -> dict[str, int]:
    """Return the row of every value of a column. Raises UserError if a value is there twice, or a question has none."""
    questions = source.sheet.questions()
    found: dict[str, int] = {}
    twice: dict[str, list[int]] = {}
    without: list[int] = []
    for row, cell in enumerate(source.cells(column)):
        key = text_of(cell)
        if not key:
            without += [row] if questions[row].strip() else []
        elif key in found:
            twice.setdefault(key, [found[key]]).append(row)
        else:
            found[key] = row
    if twice:
        named = "; ".join(f"{_short(key)} in {_rows(source, rows)}" for key, rows in list(twice.items())[:_NAMED])
        raise UserError(
            f"{counted(len(twice), 'value')} of column {column!r} stand{'s' if len(twice) == 1 else ''} in several rows of"
            f" {source.name}: {named}; --join needs a column with a value of its own in every row"
        )
    if without:
        raise UserError(
            f"{counted(len(without), 'question')} of {source.name} {'has' if len(without) == 1 else 'have'} nothing in column {column!r}:"
            f" {_rows(source, without)}; --join needs a value in every row"
        )
    return found


def _check_questions(column: str, one: tuple[Source, dict[str, int]], other: tuple[Source, dict[str, int]]) -> None:
    (first, ours), (second, theirs) = one, other
    asked, asked_there = first.sheet.questions(), second.sheet.questions()
    differing = [key for key, row in theirs.items() if key in ours and not same_question(asked[ours[key]], asked_there[row])]
    if differing:
        places = ((key, first.sheet.shown_row(ours[key]), second.sheet.shown_row(theirs[key])) for key in differing[:_NAMED])
        named = ", ".join(f"{_short(key)} (row {one} of {first.name}, row {another} of {second.name})" for key, one, another in places)
        more = f" and {len(differing) - _NAMED:,} more" if len(differing) > _NAMED else ""
        raise UserError(
            f"{counted(len(differing), 'value')} of column {column!r} {'has' if len(differing) == 1 else 'have'} different questions:"
            f" {named}{more}; only answers to the same question can be compared"
        )


def _looked_up(sources: Sequence[Source], places: Sequence[dict[str, int]], column: str) -> Iterator[Joined]:
    shelves = [_Shelf(source) for source in sources[1:]]
    for cells, side in zip(sources[0].sheet.rows(), sources[0].rows(), strict=True):
        key = text_of(cells[_index(sources[0], column)])
        others = (shelf.row(known.get(key)) for shelf, known in zip(shelves, places[1:], strict=True))
        yield Joined(side.question, (side, *others), cells, key)
    yield from _only_in_others(sources, places, shelves)


def _only_in_others(sources: Sequence[Source], places: Sequence[dict[str, int]], shelves: Sequence["_Shelf"]) -> Iterator[Joined]:
    seen = set(places[0])
    for number, source in enumerate(sources[1:], start=1):
        columns = _same_headers(sources[0], source)
        wanted = {row: key for key, row in places[number].items() if key not in seen}
        seen.update(wanted.values())
        for row, cells in enumerate(source.sheet.rows()):
            if (key := wanted.get(row)) is not None:
                sides = [shelf.row(known.get(key)) for shelf, known in zip(shelves, places[1:], strict=True)]
                yield Joined(source.sheet.questions()[row], (None, *sides), ["" if c is None else cells[c] for c in columns], key)


def _same_headers(first: Source, other: Source) -> list[int | None]:
    """Return where each column of the first stands in another: the question's is the question's, others go by their headers."""
    theirs: dict[str, int] = {}
    for index, header in enumerate(other.sheet.headers):
        if header:
            theirs.setdefault(normalised(header), index)
    places = [theirs.get(normalised(header)) if header else None for header in first.sheet.headers]
    places[first.sheet.question_column] = other.sheet.question_column
    return places


def _index(source: Source, column: str) -> int:
    return [normalised(header) for header in source.sheet.headers].index(normalised(column))


class _Shelf:
    """The rows of a source, to be had in any order; many of them lie in a file."""

    def __init__(self, source: Source) -> None:
        self._name, self._rows = source.name, Texts()
        try:
            for row in source.rows():
                self._rows.append(json.dumps(row))
        except OSError as error:
            raise WorkbookError(f"cannot keep the rows of {source.name} aside: {error.strerror}; make room on the disk") from error

    def row(self, number: int | None) -> Row | None:
        if number is None:
            return None
        row = Row(*json.loads(self._rows[number]))
        replies = tuple(Reply(*one)._replace(outcome=Outcome(one[2])) for one in row.replies)
        return row._replace(outcome=None if row.outcome is None else Outcome(row.outcome), replies=replies)


def _rows(source: Source, rows: Sequence[int]) -> str:
    named = ", ".join(str(source.sheet.shown_row(row)) for row in rows[:_NAMED])
    more = f" and {len(rows) - _NAMED:,} more" if len(rows) > _NAMED else ""
    return f"row{'' if len(rows) == 1 else 's'} {named}{more}"


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")
