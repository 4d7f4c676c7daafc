"""From the cells of a sheet to what its rows ask, as columns steer them; every row is checked before anything is sent."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from workers.contract.errors import WorkbookError
from workers.contract.messages import ChatMessage, Sampling, first_words

from .asking import Asked, AskedRows, Rows
from .conversation import read_conversation
from .questions import is_asked
from .sampling import BadValue, own_sampling
from .steering import Steering
from .template import parse_template
from .workbook.cells import CellError
from .workbook.columns import find_question_column, normalised
from .workbook.reading import Cell, Sheet, as_text


def read_rows(sheet: Sheet, steering: Steering, sampling: Sampling) -> Rows:
    """Return what every row of a sheet asks, in one pass over it; ``sampling`` is the run's.

    Raises WorkbookError for a column that is not there, and for cells that cannot be used: it names the first of them, by the row
    number that a spreadsheet program shows, and says how many more rows hold one.
    """
    if not steering:
        return sheet.questions()
    reader, rows = _RowReader(sheet, steering, sampling), AskedRows()
    totals = sheet.totals(reader.asking)
    first, bad = "", 0
    for number, cells in enumerate(sheet.rows()):
        try:
            rows.append(_NOTHING if number in totals else reader.read(cells))
        except _BadCell as error:
            first = first or f"sheet {sheet.name!r}, row {sheet.shown_row(number)}, {error}"
            bad += 1
    if bad:
        raise WorkbookError(first if bad == 1 else f"{first}; {bad - 1} more {'row is' if bad == 2 else 'rows are'} bad")
    return rows


#: What a row asks that only adds up the others.
_NOTHING = Asked((ChatMessage(role="user", content=""),))


class _BadCell(Exception):
    """Raised for a cell that cannot mean what its column is for."""


class _Column(NamedTuple):
    """A column that steers."""

    place: int
    header: str

    def text(self, cells: Sequence[Cell]) -> str | None:
        """Return what its cell says; None if that is nothing. Raises _BadCell for an error such as #N/A, which is not nothing."""
        cell = cells[self.place]
        if isinstance(cell, CellError):
            raise self.bad(cell, "is an error; mend the cell, or empty it")
        text = as_text(cell)
        return text if text.strip() else None

    def bad(self, text: str, why: str) -> _BadCell:
        return _BadCell(f"column {self.header!r}: {first_words(text)!r} {why}")


class _RowReader:
    """Reads rows by the columns that steer them. An empty cell leaves what is the run's."""

    def __init__(self, sheet: Sheet, steering: Steering, sampling: Sampling) -> None:
        self._headers, self._sampling = sheet.headers, sampling
        self._template = parse_template(steering.prompt) if steering.prompt is not None else None
        self._holes = [self._column("--prompt", name).place for name in self._template.names] if self._template else []
        self._messages = self._named("--messages-column", steering.messages_column)
        self._system_prompt = self._named("--system-prompt-column", steering.system_prompt_column)
        self._adapter = self._named("--adapter-column", steering.adapter_column)
        columns = steering.sampling_columns
        self._fields = {field: self._column(f"--sampling-column {field}", column) for field, column in columns.items()}
        self._question: int | None = sheet.question_column
        if self._messages is not None and self._messages.place == self._question:  # by which the sheet was found
            self._question = find_question_column(sheet.headers)
        self._own_sampling = lru_cache(4096)(self._read_sampling)

    @property
    def asking(self) -> list[int]:
        """Return the columns that questions are made of."""
        asking = [*self._holes, *([self._messages.place] if self._messages else [])]
        return asking or ([self._question] if self._question is not None else [])

    def read(self, cells: Sequence[Cell]) -> Asked:
        """Return what a row asks. One that asks nothing is looked at no further. Raises _BadCell."""
        asked = Asked(self._turns(cells))
        if not is_asked(asked):
            return asked
        system_prompt = self._system_prompt and self._system_prompt.text(cells)
        adapter = self._adapter and self._adapter.text(cells)
        sampling = self._own_sampling(tuple(column.text(cells) for column in self._fields.values()))
        return Asked(asked.turns, system_prompt, adapter and adapter.strip(), sampling)

    def _turns(self, cells: Sequence[Cell]) -> tuple[ChatMessage, ...]:
        conversation = self._messages and self._messages.text(cells)
        if self._messages is None or conversation is None:
            return (ChatMessage(role="user", content=self._asked_text(cells)),)
        try:
            return read_conversation(conversation)
        except ValueError as error:
            raise self._messages.bad(conversation, str(error)) from error

    def _asked_text(self, cells: Sequence[Cell]) -> str:
        if self._template is None:
            return "" if self._question is None else as_text(cells[self._question])
        filled = [cells[place] for place in self._holes]
        texts = [as_text(cell) for cell in filled]
        # A question that is an error is none; nor is one that is made of an error.
        asks = any(text.strip() for text in texts) and not any(isinstance(cell, CellError) for cell in filled)
        return self._template.fill(texts) if asks else ""

    def _read_sampling(self, texts: tuple[str | None, ...]) -> dict[str, Any]:
        given = {field: text for field, text in zip(self._fields, texts, strict=True) if text is not None}
        try:
            return own_sampling(self._sampling, given) if given else {}
        except BadValue as error:
            raise self._fields[error.field].bad(given[error.field], error.why) from error

    def _named(self, option: str, name: str | None) -> _Column | None:
        return None if name is None else self._column(option, name)

    def _column(self, option: str, name: str) -> _Column:
        wanted = normalised(name)
        places = [i for i, header in enumerate(self._headers) if wanted and normalised(header) == wanted]
        if self._headers.count(name) == 1:  # whoever writes it as it stands there means that one
            places = [self._headers.index(name)]
        if len(places) == 1:
            return _Column(places[0], self._headers[places[0]])
        if places:
            raise WorkbookError(f"{option}: {len(places)} columns are called {self._headers[places[0]]!r}; rename all but one")
        known = ", ".join(repr(header) for header in self._headers if header.strip())
        raise WorkbookError(f"{option}: no column is called {name!r}; the columns are: {known}")
