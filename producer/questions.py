"""From the rows of a sheet to what is asked: messages, seeds, and the name of the run."""

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from workers.contract.messages import Answer, ChatMessage, Outcome, Question, Sampling

from .manifest import Manifest, Reopened


def render(question: str, system_prompt: str) -> tuple[ChatMessage, ...]:
    """Return the messages of one row; nothing is added to the question's text or taken from it."""
    asked = ChatMessage(role="user", content=question)
    return (ChatMessage(role="system", content=system_prompt), asked) if system_prompt else (asked,)


def is_asked(question: str) -> bool:
    """Say whether a row holds a question at all; others are skipped."""
    return bool(question.strip())


def run_id_of(questions: Iterable[str], system_prompt: str, sampling: Sampling, served_name: str, adapter: str | None) -> str:
    """Return 16 hex digits that name the run: its ordered messages, sampling, served name and adapter decide, nothing else.

    Fields of the sampling at their default do not count, so that a field that a later version adds renames no run.
    """
    digest = hashlib.sha256(_json([sampling.to_wire(), served_name, adapter]))
    for question in questions:
        digest.update(_messages_json(question, system_prompt))
    return digest.hexdigest()[:16]


def row_seeds(questions: Iterable[str], system_prompt: str, run_seed: int) -> Iterator[int]:
    """Yield the seed of every row.

    It hashes the run's seed, the row's messages, how many equal messages stand before it, and the sample (0: the engine derives
    the seeds of further samples from the first), so it does not move when other rows change.
    """
    seen: Counter[bytes] = Counter()
    for question in questions:
        messages = hashlib.sha256(_messages_json(question, system_prompt)).digest()
        digest = hashlib.sha256(_json([run_seed, messages.hex(), seen[messages], 0])).digest()
        seen[messages] += 1
        yield int.from_bytes(digest[:6])


def _messages_json(question: str, system_prompt: str) -> bytes:
    return _json([[message.role, message.content] for message in render(question, system_prompt)])


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


class Questions:
    """The questions of a run, made as they are needed: a million of them would not fit."""

    def __init__(self, texts: Sequence[str], manifest: Manifest, reopened: Mapping[int, Reopened] | None = None) -> None:
        self._texts, self._manifest, self._reopened = texts, manifest, reopened or {}
        self._seeds = array("Q", row_seeds(texts, manifest.system_prompt, manifest.sampling.seed))

    def of(self, row: int, generation: int = 0) -> Question:
        """Return the question of a row, as it travels."""
        manifest = self._manifest
        return Question(
            run_id=manifest.run_id,
            row=row,
            generation=generation,
            messages=render(self._texts[row], manifest.system_prompt),
            sampling=self._sampling(row),
            adapter=manifest.adapter,
            reply_format=manifest.reply_format,
            blank_lines=manifest.blank_lines,
            row_timeout=manifest.row_timeout,
        )

    def key(self, row: int) -> str:
        """Return what names a question across runs: its messages, sampling with the row's seed, served name and adapter."""
        asked = _json([self._sampling(row).to_wire(), self._manifest.served_name, self._manifest.adapter])
        return hashlib.sha256(asked + _messages_json(self._texts[row], self._manifest.system_prompt)).hexdigest()[:32]

    def _sampling(self, row: int) -> Sampling:
        sampling, seed = self._manifest.sampling, self._seeds[row]
        again = self._reopened.get(row)
        if again is None:
            return sampling.model_copy(update={"seed": seed})
        temperature = sampling.temperature if again.temperature is None else again.temperature
        if again.reseed:
            seed = int.from_bytes(hashlib.sha256(_json([seed, again.reseed])).digest()[:6])
        return sampling.model_copy(update={"seed": seed, "temperature": temperature})

    def skipped(self, totals: Collection[int] = ()) -> Iterator[Answer]:
        """Yield the answers of the rows that hold no question; ``totals`` are those that a table adds up in."""
        for row in range(self._manifest.asked_rows):
            if not is_asked(self._texts[row]):
                why = "this is the total row of a table" if row in totals else "the question is empty"
                yield Answer(run_id=self._manifest.run_id, row=row, outcome=Outcome.SKIPPED, error=why)
