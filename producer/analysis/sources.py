"""Sides of a comparison: a run, or a column of a workbook that holds replies."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from math import isnan
from pathlib import Path
from typing import NamedTuple, Protocol

from producer.manage import open_run_by_name, questions_in
from producer.runs import RunStore
from producer.workbook.cells import tidy
from producer.workbook.columns import find_question_column, normalised
from producer.workbook.reading import Cell, Sheet, as_text, read_sheet
from workers.contract.errors import UserError, WorkbookError
from workers.contract.messages import Answer, ChatMessage, ModelIdentity, Outcome, ReplyFormat, Sampling
from workers.contract.replies import NO_REASONING_TAG, UNCLOSED_ANSWER, UNCLOSED_REASONING, default_system_prompt, read_reply

from .replies import Reply, Row

#: Of a column ``answer``, ``answer_2`` or ``answer (MODEL)``: what stands after the word.
_ANSWER = re.compile(r"answer(?P<rest>(_\d+)?( \(.*\))?( \d+)?)", re.DOTALL)


class Source(Protocol):
    """Replies to the questions of one sheet, in the order of its rows."""

    #: What it was called on the command line.
    name: str
    #: Who answered: the served name of a run, the header of a column.
    model: str
    sheet: Sheet

    def rows(self) -> Iterator[Row]:
        """Begin a pass over all rows of the sheet, one Row for each, in its order."""
        ...

    def messages(self, row: int) -> tuple[ChatMessage, ...]:
        """Return what was asked in a row, with its system prompt, as it was rendered."""
        ...

    def cells(self, column: str) -> Iterator[Cell]:
        """Begin a pass over a column of the sheet, by its header. Raises WorkbookError if there is none."""
        ...


class RunSource:
    """A run: all of what its store holds. Only what the last command was about counts (``--limit``); rows beyond are missing."""

    def __init__(self, name: str, store: RunStore, sheet: Sheet) -> None:
        self.name, self.store, self.sheet = name, store, sheet
        self.model = store.manifest.served_name
        self.reply_format: ReplyFormat = store.manifest.reply_format
        self.sampling: Sampling = store.manifest.sampling
        self._questions = questions_in(store)

    def rows(self) -> Iterator[Row]:
        stored = self.store.answers()
        upcoming = next(stored, None)
        for row, question in enumerate(self.sheet.questions()):
            if upcoming is not None and upcoming.answer.row == row:
                yield _row(question, upcoming.answer)
                upcoming = next(stored, None)
            else:
                yield Row(row, question, None)

    def messages(self, row: int) -> tuple[ChatMessage, ...]:
        return self._questions.of(row).messages

    def cells(self, column: str) -> Iterator[Cell]:
        return _cells(self.sheet, column)

    def sampling_of(self, row: int) -> Sampling:
        """Return how a row was sampled when it was first asked, with its own seed."""
        return self._questions.of(row).sampling

    def models(self) -> dict[str, ModelIdentity]:
        """Return the models that answered, by fingerprint."""
        return self.store.models()


class ColumnSource:
    """A column of a workbook, with the reasoning that stands beside it."""

    reply_format = ReplyFormat.REASONING_ANSWER

    def __init__(self, name: str, path: Path, sheet: Sheet, column: int, reasoning: int | None, outcome: int | None) -> None:
        self.name, self.path, self.sheet = name, path, sheet
        self.model = sheet.headers[column]
        self._column, self._reasoning, self._outcome = column, reasoning, outcome

    def columns(self) -> frozenset[int]:
        """Return the columns of the sheet that the replies are read from."""
        return frozenset(column for column in (self._column, self._reasoning, self._outcome) if column is not None)

    def rows(self) -> Iterator[Row]:
        for row, (question, cells) in enumerate(zip(self.sheet.questions(), self.sheet.rows(), strict=True)):
            reply = self._reply(cells)
            yield Row(row, question, None if reply is None else reply.outcome, () if reply is None else (reply,))

    def _reply(self, cells: list[Cell]) -> Reply | None:
        """Read a reply. A cell with the tags of a raw reply is read as one; any other is an answer as it stands."""
        text = as_text(cells[self._column])
        if not text.strip():
            return None
        if "<answer>" in text or "<reasoning>" in text:
            return Reply(*read_reply(text), text=text)
        reasoning = "" if self._reasoning is None else as_text(cells[self._reasoning])
        outcome = Outcome.ANSWERED
        if self._outcome is not None and as_text(cells[self._outcome]) in tuple(Outcome):
            outcome = Outcome(as_text(cells[self._outcome]))
        elif text == UNCLOSED_ANSWER or reasoning in (NO_REASONING_TAG, UNCLOSED_REASONING):  # as the reference program writes them
            outcome = Outcome.MALFORMED
        return Reply(reasoning, text, outcome)

    def messages(self, row: int) -> tuple[ChatMessage, ...]:
        system = ChatMessage(role="system", content=default_system_prompt(self.reply_format))
        return (system, ChatMessage(role="user", content=self.sheet.questions()[row]))

    def cells(self, column: str) -> Iterator[Cell]:
        return _cells(self.sheet, column)


class _Place(NamedTuple):
    """``answers.xlsx:output`` as a file and a column; ``answers.xlsx:output:thoughts`` names the reasoning's column too."""

    path: Path
    column: str
    reasoning: str | None


@contextmanager
def open_source(name: str, home: Path, sheet: str | None = None, question_column: str | None = None) -> Iterator[RunSource | ColumnSource]:
    """Open what a name on the command line stands for: a run of ``home``, or FILE:COLUMN.

    FILE alone means its column ``answer``. The reasoning to ``answer (MODEL)`` is ``reasoning (MODEL)``, that to any other column is
    ``reasoning`` if there is one; FILE:COLUMN:REASONING names it. Raises UserError, in one line.
    """
    place = _place(name)
    if place is not None:
        yield _column_source(name, place, sheet, question_column)
        return
    with ExitStack() as stack:
        store = stack.enter_context(open_run_by_name(home, name, writing=False))
        stack.enter_context(store.snapshot())
        manifest = store.manifest
        path = stack.enter_context(store.source())
        yield RunSource(name, store, read_sheet(path, manifest.sheet, manifest.question_column, manifest.header_row))


def _place(name: str) -> _Place | None:
    """Return the file and the columns that a name stands for; None if it is a run's."""
    parts = name.split(":")
    for count in range(len(parts), 0, -1):  # a path may hold colons of its own
        path = Path(":".join(parts[:count]))
        if path.is_file():
            if len(parts) - count > 2:
                raise UserError(f"{name!r} names more than a file, a column and the column of its reasoning: FILE:COLUMN:REASONING")
            column, reasoning, *_ = [*parts[count:], "", ""]
            return _Place(path, column or "answer", reasoning or None)
    if Path(parts[0]).suffix:
        raise UserError(f"there is no file {parts[0]}")
    return None


def _column_source(name: str, place: _Place, sheet: str | None, question_column: str | None) -> ColumnSource:
    table = read_sheet(place.path, sheet, question_column)
    column = column_of(table, place.column)
    matched = _ANSWER.fullmatch(normalised(table.headers[column]))
    rest = matched["rest"] if matched else ""
    reasoning = column_of(table, place.reasoning) if place.reasoning else find_question_column(table.headers, f"reasoning{rest}")
    outcome = find_question_column(table.headers, f"outcome{rest}") if matched else None
    return ColumnSource(name, place.path, table, column, reasoning, outcome)


def column_of(sheet: Sheet, header: str) -> int:
    """Return the index of a column by its header. Raises WorkbookError, with the headers there are."""
    column = find_question_column(sheet.headers, header)
    if column is None:
        known = ", ".join(repr(name) for name in sheet.headers if name)
        raise WorkbookError(f"sheet {sheet.name!r} has no column {header!r}; its columns are: {known}")
    return column


def text_of(cell: Cell) -> str:
    """Return what a cell says as it is compared: a whole number without its point, and nothing for the NaN that data frames put there."""
    return "" if isinstance(cell, float) and isnan(cell) else as_text(tidy(cell)).strip()


def _cells(sheet: Sheet, header: str) -> Iterator[Cell]:
    column = column_of(sheet, header)
    return (row[column] for row in sheet.rows())


def _row(question: str, answer: Answer) -> Row:
    replies = tuple(
        Reply(one.reasoning, one.answer, one.outcome, one.text, one.finish_reason, one.output_tokens) for one in answer.completions
    )
    return Row(
        answer.row,
        question,
        answer.outcome,
        replies,
        answer.error or "",
        answer.prompt_tokens,
        answer.seconds or None,
        answer.generation,
        answer.fingerprint,
    )
