"""What a pair's prompt is: what the model was asked, as it was rendered."""

from collections.abc import Sequence

from producer.analysis.sources import ColumnSource, RunSource
from workers.contract.messages import ChatMessage, ReplyFormat
from workers.contract.replies import default_system_prompt

from .candidates import Candidate
from .grouping import Asked


class Prompts:
    """The prompts of questions. A run knows what it asked; of a column only the question is known."""

    def __init__(self, sources: Sequence[RunSource | ColumnSource], wanted: ReplyFormat, system_prompt: str | None) -> None:
        """Take the system prompt that stands in place of the sources' own, if one is to; empty for none."""
        self._sources, self._system_prompt = sources, system_prompt
        self._default = default_system_prompt(wanted)
        self.leading = next((number for number, source in enumerate(sources) if isinstance(source, RunSource)), 0)

    def of(self, asked: Asked) -> tuple[ChatMessage, ...]:
        """Return the prompt: the first run's, or the question below the system prompt of the format."""
        rows = {side: row for side, row in reversed(asked.rows) if row is not None}
        side = self.leading if self.leading in rows else min(rows)
        return self._rendered(side, rows[side].row, asked.joined.question)

    def agree(self, asked: Asked, prompt: Sequence[ChatMessage], *candidates: Candidate) -> bool:
        """Say whether the runs that gave these replies asked what the prompt asks, system prompts aside."""
        runs = [one for one in candidates if isinstance(self._sources[one.side], RunSource)]
        wanted = _turns(prompt)
        return all(_turns(self._rendered(one.side, one.row.row, asked.joined.question)) == wanted for one in runs)

    def notices(self) -> list[str]:
        """Return what the user should be told about system prompts."""
        runs = [source for source in self._sources if isinstance(source, RunSource)]
        if self._system_prompt is not None or len({run.store.manifest.system_prompt for run in runs}) < 2:
            return []
        return [f"the runs have different system prompts; the pairs have that of {runs[0].name} (--system-prompt gives them another)"]

    def _rendered(self, side: int, row: int, question: str) -> tuple[ChatMessage, ...]:
        source = self._sources[side]
        messages = source.messages(row) if isinstance(source, RunSource) else (ChatMessage(role="user", content=question),)
        if isinstance(source, RunSource) and self._system_prompt is None:
            return messages
        system = self._default if self._system_prompt is None else self._system_prompt
        turns = tuple(one for one in messages if one.role != "system")
        return (ChatMessage(role="system", content=system), *turns) if system else turns


def _turns(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    return [message for message in messages if message.role != "system"]
