"""The columns of a data set of pairs: TRL's own three, and beside them where each pair comes from."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from producer.analysis.sources import ColumnSource, RunSource
from producer.workbook.cells import Cell, EmptyText, Turns
from producer.workbook.json_lines import whole_text
from producer.workbook.limits import MAX_CELL
from workers.contract.messages import ChatMessage

from .candidates import Candidate
from .making import Pair
from .options import PairFormat


class Column(NamedTuple):
    """A column, what it holds, and what it means."""

    name: str
    kind: type
    means: str


#: Of each side of a pair, what its columns are called after ``chosen_`` or ``rejected_``.
_OF_A_SIDE = (
    Column("source", str, "the run, or FILE:COLUMN"),
    Column("model", str, "the served name of the run's model, or the header of the column"),
    Column("row", int, "the row of the source, from 0"),
    Column("sample", int, "which sample of the row, from 1"),
    Column("outcome", str, "how the reply was read"),
    Column("fingerprint", str, "names the model that answered; empty for a column"),
    Column("generation", int, "how often the row had been asked anew; its seed is then made from the one named here"),
    Column("seed", str, "the row's seed; empty for a column"),
    Column("sampling", str, "how it was sampled, as JSON; empty for a column"),
)


class Columns:
    """Makes the cells of pairs."""

    def __init__(self, sources: Sequence[RunSource | ColumnSource], pair_format: PairFormat, *, keys: bool, scores: bool) -> None:
        self._sources, self._format, self._keys, self._scores = sources, pair_format, keys, scores
        text = Turns if pair_format is PairFormat.CONVERSATIONAL else str
        self.all = [
            Column("prompt", text, "what was asked"),
            Column("chosen", text, "the reply to learn, with its reasoning in its tags"),
            Column("rejected", text, "the reply to unlearn, with its reasoning in its tags"),
            Column("why", str, "what made the one better"),
            *([Column("key", str, "the value that the rows were joined by")] if keys else []),
            *([Column(f"score_{side}", float, "the score of that reply") for side in ("chosen", "rejected")] if scores else []),
            *[
                one._replace(name=f"{side}_{one.name}", means=f"{side}: {one.means}")
                for side in ("chosen", "rejected")
                for one in _OF_A_SIDE
            ],
        ]

    def cells(self, pair: Pair) -> list[Cell]:
        """Return the cells of a pair; no text is null, since readers guess the types of columns from their first rows."""
        chosen, rejected, why, scores = pair.preference
        prompt, *texts = self._texts(pair)
        keys: list[Cell] = [_text(pair.key)] if self._keys else []
        return [prompt, *texts, _text(why), *keys, *((scores or ()) if self._scores else ()), *self._side(chosen), *self._side(rejected)]

    def fits_a_cell(self, pair: Pair) -> bool:
        """Say whether Excel can hold the texts of a pair whole: half of one is nothing to learn from."""
        return all(2 * len(text) <= MAX_CELL or len(text.encode("utf-16-le")) <= 2 * MAX_CELL for text in map(str, self._texts(pair)))

    def _texts(self, pair: Pair) -> list[str]:
        replies = [whole_text(one.text) for one in (pair.preference.chosen, pair.preference.rejected)]
        if self._format is PairFormat.PLAIN:
            return [whole_text(plain_prompt(pair.prompt)), *replies]
        prompt = [{"role": turn.role, "content": whole_text(turn.content)} for turn in pair.prompt]
        return [_turns(prompt), *(_turns([{"role": "assistant", "content": reply}]) for reply in replies)]

    def _side(self, one: Candidate) -> list[Cell]:
        source = self._sources[one.side]
        known: list[Cell] = [one.row.row, one.sample, str(one.reply.outcome), _text(one.row.fingerprint), one.row.generation]
        if not isinstance(source, RunSource):
            return [_text(source.name), _text(source.model), *known, EmptyText(), EmptyText()]
        sampling = source.sampling_of(one.row.row)
        told = sampling.model_dump(mode="json", exclude_defaults=True, exclude={"seed"})
        told = {"temperature": sampling.temperature, "top_p": sampling.top_p, "max_tokens": sampling.max_tokens} | told
        return [source.store.manifest.run_id, _text(source.model), *known, str(sampling.seed), json.dumps(told)]


def plain_prompt(messages: Sequence[ChatMessage]) -> str:
    """Return messages as one text, a blank line behind each; who says what is said only where there are several turns."""
    turns = [message for message in messages if message.role != "system"]
    named = len(turns) > 1
    parts = [f"{one.role}: {one.content}" if named and one.role != "system" else one.content for one in messages]
    return "".join(f"{part}\n\n" for part in parts) + ("assistant:\n" if named else "")


def _turns(messages: list[dict[str, str]]) -> Turns:
    return Turns(json.dumps(messages, ensure_ascii=False))


def _text(text: str) -> str:
    return whole_text(text) or EmptyText()
