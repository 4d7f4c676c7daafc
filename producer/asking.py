"""What a row asks where columns steer it; kept compact, since a million rows must fit."""

import json
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias, overload

from workers.contract.messages import ChatMessage

from .workbook.texts import Texts

_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Asked(NamedTuple):
    """What one row asks, and what it brings of its own in place of the run's."""

    #: The conversation, what is asked last. The system prompt, the row's own or the run's, comes before it if it holds none.
    turns: tuple[ChatMessage, ...]
    #: Not empty. None: the run's, as below.
    system_prompt: str | None = None
    adapter: str | None = None
    #: Fields of Sampling. A seed among them is the row's as it stands.
    sampling: Mapping[str, Any] = _NOTHING


#: What the rows of a run ask. A text is a question that brings nothing of its own.
Rows: TypeAlias = Sequence[str | Asked]


class AskedRows(Sequence[Asked]):
    """The rows of a sheet that columns steer, as texts; they are all appended before the first is read."""

    def __init__(self) -> None:
        self._turns, self._system_prompts, self._own = Texts(), Texts(), Texts()
        #: All adapters that rows name.
        self.adapters: set[str] = set()

    def append(self, asked: Asked) -> None:
        """Add a row."""
        self._turns.append(_to_json([[turn.role, turn.content] for turn in asked.turns]))
        self._system_prompts.append(asked.system_prompt or "")
        self._own.append(_to_json([asked.adapter, dict(asked.sampling)]) if asked.adapter or asked.sampling else "")
        if asked.adapter is not None:
            self.adapters.add(asked.adapter)

    def __len__(self) -> int:
        return len(self._turns)

    @overload
    def __getitem__(self, row: int) -> Asked: ...
    @overload
    def __getitem__(self, row: slice) -> list[Asked]: ...
    def __getitem__(self, row: int | slice) -> Asked | list[Asked]:
        if isinstance(row, slice):
            return [self[one] for one in range(*row.indices(len(self)))]
        turns = tuple(ChatMessage(role=role, content=content) for role, content in json.loads(self._turns[row]))
        system_prompt, own = self._system_prompts[row] or None, self._own[row]
        if not own:
            return Asked(turns, system_prompt)
        adapter, sampling = json.loads(own)
        values = {field: tuple(value) if isinstance(value, list) else value for field, value in sampling.items()}
        return Asked(turns, system_prompt, adapter, values)

    def __iter__(self) -> Iterator[Asked]:
        return (self[row] for row in range(len(self)))


def adapters_of(rows: Rows) -> set[str]:
    """Return the adapters that rows name."""
    return rows.adapters if isinstance(rows, AskedRows) else set()


def own_words(asked: str | Asked) -> str:
    """Return what a row brings of its own beside its messages, to be read by people; empty if it brings nothing."""
    if isinstance(asked, str):
        return ""
    named = {} if asked.adapter is None else {"adapter": asked.adapter}
    told = [f"{name} {value}" for name, value in (named | dict(asked.sampling)).items()]
    return f", with {', '.join(told)}" if told else ""
