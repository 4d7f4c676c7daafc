"""From the rows of a sheet to what is asked: messages, seeds, and the name of the run."""

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping

from workers.contract.messages import Answer, ChatMessage, Outcome, Question, Sampling

from .asking import Asked, Rows
from .manifest import Manifest, Reopened

_ENCODER = json.JSONEncoder(separators=(",", ":"))


def render(asked: str | Asked, system_prompt: str) -> tuple[ChatMessage, ...]:
    """Return the messages of one row; nothing is added to the question's text or taken from it."""
    if isinstance(asked, str):
        asked = Asked((ChatMessage(role="user", content=asked),))
    if asked.system_prompt is not None:
        system_prompt = asked.system_prompt
    if not system_prompt or any(turn.role == "system" for turn in asked.turns):
        return asked.turns
    return (ChatMessage(role="system", content=system_prompt), *asked.turns)


def is_asked(asked: str | Asked) -> bool:
    """Say whether a row holds a question at all; others are skipped."""
    return bool((asked if isinstance(asked, str) else asked.turns[-1].content).strip())


def run_id_of(rows: Iterable[str | Asked], system_prompt: str, sampling: Sampling, served_name: str, adapter: str | None) -> str:
    """Return 16 hex digits that name the run: its ordered messages, sampling, served name and adapter decide, nothing else.

    Fields of the sampling at their default do not count, so that a field that a later version adds renames no run. Nor does what
    a row brings of its own if it is the run's anyway.
    """
    digest = hashlib.sha256(_json([sampling.to_wire(), served_name, adapter]))
    for asked in rows:
        digest.update(_messages_json(asked, system_prompt))
        digest.update(_own_json(asked, sampling, adapter))
    return digest.hexdigest()[:16]


def row_seeds(rows: Iterable[str | Asked], system_prompt: str, sampling: Sampling, adapter: str | None = None) -> Iterator[int]:
    """Yield the seed of every row: its own if it brings one.

    Otherwise it hashes the run's seed, the row's messages (with what else it brings of its own), how many equal rows stand before
    it, and the sample (0: the engine derives the seeds of further samples from the first), so it does not move when other rows change.
    """
    seen: Counter[bytes] = Counter()
    for asked in rows:
        if not isinstance(asked, str) and "seed" in asked.sampling:
            yield asked.sampling["seed"]
            continue
        row = hashlib.sha256(_messages_json(asked, system_prompt) + _own_json(asked, sampling, adapter)).digest()
        digest = hashlib.sha256(_json([sampling.seed, row.hex(), seen[row], 0])).digest()
        seen[row] += 1
        yield int.from_bytes(digest[:6])


def _messages_json(asked: str | Asked, system_prompt: str) -> bytes:
    return _json([[message.role, message.content] for message in render(asked, system_prompt)])


def _own_json(asked: str | Asked, sampling: Sampling, adapter: str | None) -> bytes:
    """Return what a row changes of its run beside the messages: nothing, or an object, which messages are not.

    A seed always changes something: the run's is one from which every row gets another, a row's own is taken as it stands.
    """
    if isinstance(asked, str):
        return b""
    own = {field: value for field, value in sorted(asked.sampling.items()) if field == "seed" or value != getattr(sampling, field)}
    if asked.adapter not in (None, adapter):
        own["adapter"] = asked.adapter
    return _json(own) if own else b""


def _json(value: object) -> bytes:
    return _ENCODER.encode(value).encode() + b"\n"


class Questions:
    """The questions of a run, made as they are needed: a million of them would not fit."""

    def __init__(self, rows: Rows, manifest: Manifest, reopened: Mapping[int, Reopened] | None = None) -> None:
        self._rows, self._manifest, self._reopened = rows, manifest, reopened or {}
        self._seeds = array("Q", row_seeds(rows, manifest.system_prompt, manifest.sampling, manifest.adapter))

    def of(self, row: int, generation: int = 0) -> Question:
        """Return the question of a row, as it travels."""
        manifest = self._manifest
        return Question(
            run_id=manifest.run_id,
            row=row,
            generation=generation,
            messages=render(self._rows[row], manifest.system_prompt),
            sampling=self._sampling(row),
            adapter=self._adapter(row),
            reply_format=manifest.reply_format,
            blank_lines=manifest.blank_lines,
            row_timeout=manifest.row_timeout,
        )

    def key(self, row: int) -> str:
        """Return what names a question across runs: its messages, sampling with the row's seed, served name and adapter."""
        asked = _json([self._sampling(row).to_wire(), self._manifest.served_name, self._adapter(row)])
        return hashlib.sha256(asked + _messages_json(self._rows[row], self._manifest.system_prompt)).hexdigest()[:32]

    def _adapter(self, row: int) -> str | None:
        asked = self._rows[row]
        return self._manifest.adapter if isinstance(asked, str) or asked.adapter is None else asked.adapter

    def _sampling(self, row: int) -> Sampling:
        asked, seed = self._rows[row], self._seeds[row]
        own = {} if isinstance(asked, str) else dict(asked.sampling)
        again = self._reopened.get(row)
        if again is not None and again.reseed:
            seed = int.from_bytes(hashlib.sha256(_json([seed, again.reseed])).digest()[:6])
        if again is not None and again.temperature is not None:
            own["temperature"] = again.temperature
        return self._manifest.sampling.model_copy(update=own | {"seed": seed})

    def skipped(self, totals: Collection[int] = ()) -> Iterator[Answer]:
        """Yield the answers of the rows that hold no question; ``totals`` are those that a table adds up in."""
        for row in range(self._manifest.asked_rows):
            if not is_asked(self._rows[row]):
                why = "this is the total row of a table" if row in totals else "the question is empty"
                yield Answer(run_id=self._manifest.run_id, row=row, outcome=Outcome.SKIPPED, error=why)
