"""From sources to pairs, with an account of what gave none."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from producer.analysis.sources import ColumnSource, RunSource
from workers.contract.messages import ChatMessage

from .candidates import Reader
from .dropped import Dropped, sameness
from .grouping import Asked, asked
from .prompts import Prompts
from .rules import Preference, Rule


class Pair(NamedTuple):
    """One example to learn from."""

    prompt: tuple[ChatMessage, ...]
    preference: Preference
    #: What the rows were joined by; empty where they were joined by their places.
    key: str


class Account:
    """What became of the questions so far: each gave a pair, or one reason why not."""

    def __init__(self) -> None:
        self.questions = self.rows = self.pairs = 0
        self.dropped: Counter[Dropped] = Counter()

    def told(self) -> dict[str, Any]:
        """Return what became of them, for programs."""
        dropped = {reason.name.lower(): self.dropped[reason] for reason in Dropped if self.dropped[reason]}
        return {"rows": self.rows, "questions": self.questions, "pairs": self.pairs, "dropped": dropped}

    def reasons(self) -> str:
        """Return what gave no pair, in words; empty if everything did."""
        return ", ".join(f"{self.dropped[reason]:,} {reason}" for reason in Dropped if self.dropped[reason])


class Maker(NamedTuple):
    """What makes pairs of questions."""

    reader: Reader
    prompts: Prompts
    rule: Rule
    #: Says whether a pair can be written whole.
    fits: Callable[[Pair], bool]


def make_pairs(sources: Sequence[RunSource | ColumnSource], column: str | None, maker: Maker, account: Account) -> Iterator[Pair]:
    """Yield the pairs, in the order of the questions, and keep account of them; a question gives at most one."""
    alone = len(sources) == 1
    for question in asked(sources, column):
        account.questions += 1
        account.rows += len(question.rows) if alone else 1
        found = _pair(question, maker)
        if isinstance(found, Dropped):
            account.dropped[found] += 1
        else:
            account.pairs += 1
            yield found


def _pair(question: Asked, maker: Maker) -> Pair | Dropped:
    candidates = maker.reader.candidates(question.rows)
    prompt = maker.prompts.of(question)
    if not prompt[-1].content.strip():
        return Dropped.SKIPPED
    good = [one for one in candidates if one.flaw is None]
    if len(good) > 1 and len({sameness(one.text) for one in good}) == 1:
        return Dropped.IDENTICAL
    preference = maker.rule.prefer(candidates, question)
    if isinstance(preference, Dropped):
        return preference
    chosen, rejected = preference.chosen, preference.rejected
    if sameness(chosen.text) == sameness(rejected.text):
        return Dropped.IDENTICAL
    if not maker.prompts.agree(question, prompt, chosen, rejected):
        return Dropped.PROMPTS_DIFFER
    pair = Pair(prompt, preference, question.joined.key)
    return pair if maker.fits(pair) else Dropped.TOO_LONG
