"""Which of the replies to a question is to be learned, and which to be unlearned."""

from array import array
from collections.abc import Callable, Sequence
from math import isnan
from typing import NamedTuple, Protocol

from producer.analysis.joining import Joined

from .candidates import Candidate, one_of, usable
from .dropped import Dropped
from .grouping import Asked
from .judgements import Judgements
from .quality import Quality, better


class Preference(NamedTuple):
    """One reply before another, and why."""

    chosen: Candidate
    rejected: Candidate
    why: str
    #: What the two were given, where the rule goes by scores.
    scores: tuple[float, float] | None = None


class Rule(Protocol):
    """How a pair is made of a question's replies."""

    #: In one sentence, for the dataset card.
    says: str

    def prefer(self, candidates: Sequence[Candidate], question: Asked, /) -> Preference | Dropped:
        """Return the pair of a question; or why it gives none."""
        ...


class BySource:
    """The first source is chosen, the second rejected."""

    def __init__(self, names: Sequence[str]) -> None:
        self.says = f"the reply of {names[0]} is chosen, that of {names[1]} rejected"

    def prefer(self, candidates: Sequence[Candidate], _: Asked, /) -> Preference | Dropped:
        pool = usable([one for side in (0, 1) if (one := one_of(candidates, side)) is not None])
        if isinstance(pool, Dropped):
            return pool
        chosen, rejected = pool
        return Preference(chosen, rejected, "by source") if chosen.may_be_chosen else Dropped.MALFORMED


class ByQuality:
    """The best reply is chosen, the worst rejected; ``quality`` says how good one is to a question."""

    def __init__(self, quality: Callable[[Joined, Candidate], Quality], *, gold: str = "", only_gold: bool = False) -> None:
        self._quality, self._gold, self._only_gold = quality, gold, only_gold
        if only_gold:
            self.says = f"a reply that is right by column {gold!r} is chosen, one that is wrong rejected; of several the best and the worst"
        else:
            right = f"right by column {gold!r} before wrong, then " if gold else ""
            self.says = f"the best reply is chosen, the worst rejected: {right}answered before malformed, less repetition, shorter"

    def prefer(self, candidates: Sequence[Candidate], question: Asked, /) -> Preference | Dropped:
        pool = usable(candidates)
        if isinstance(pool, Dropped):
            return pool
        ranked = sorted(((self._quality(question.joined, one), one) for one in pool), key=lambda pair: pair[0])
        best, chosen = next(pair for pair in ranked if pair[1].may_be_chosen)
        worst, rejected = ranked[-1]
        if self._only_gold and best.known is None:
            return Dropped.UNDECIDED
        why = better(best, worst)
        if why is None or best.known is False or (self._only_gold and worst.known is not False):
            return Dropped.TIE
        return Preference(chosen, rejected, why)


class ByScore:
    """The reply with the highest score is chosen, the one with the lowest rejected."""

    def __init__(self, scores: Sequence["array[float]"], columns: Sequence[str], margin: float) -> None:
        """Take the scores of every source's rows; NaN where a cell holds none."""
        self._scores, self._margin = scores, margin
        more = f" by more than {margin:g}" if margin else ""
        self.says = f"the reply with the higher score{more} is chosen, the other rejected: {', '.join(dict.fromkeys(columns))}"

    def prefer(self, candidates: Sequence[Candidate], _: Asked, /) -> Preference | Dropped:
        pool = usable(_first_samples(candidates))
        if isinstance(pool, Dropped):
            return pool
        scored = [(self._scores[one.side][one.row.row], one) for one in pool]
        ranked = sorted(((score, one) for score, one in scored if not isnan(score)), key=lambda pair: -pair[0])
        high = next((pair for pair in ranked if pair[1].may_be_chosen), None)
        if len(ranked) < 2 or high is None:
            return Dropped.UNDECIDED
        low = ranked[-1]
        if high[0] - low[0] <= self._margin:
            return Dropped.TIE
        return Preference(high[1], low[1], f"score {high[0]:g} before {low[0]:g}", (high[0], low[0]))


class ByJudgement:
    """The reply that a judge found best is chosen; of several others the worst is rejected."""

    def __init__(self, judgements: Judgements, quality: Callable[[Joined, Candidate], Quality]) -> None:
        self._judgements, self._quality = judgements, quality
        self.says = f"the reply that was judged better is chosen ({judgements.path.name}, exported at {judgements.exported_at})"

    def prefer(self, candidates: Sequence[Candidate], question: Asked, /) -> Preference | Dropped:
        judgement = self._judgements.of(question.place, question.joined)
        found = [one_of(candidates, side) for side in range(len(question.joined.sides))]
        pool = usable(one for one in found if one is not None)
        if isinstance(pool, Dropped):
            return pool
        if judgement is None or judgement.verdict is None:
            return Dropped.UNDECIDED
        if not judgement.is_of(question.joined):
            return Dropped.OUTDATED
        if judgement.best is None:
            return Dropped.TIE
        chosen = found[judgement.best]
        others = [one for one in pool if one.side != judgement.best]
        if chosen is None:
            return Dropped.MISSING
        if not chosen.may_be_chosen:
            return chosen.flaw or Dropped.MALFORMED
        rejected = max(others, key=lambda one: self._quality(question.joined, one))
        return Preference(chosen, rejected, f"judged better{': ' if judgement.note else ''}{judgement.note}")


def _first_samples(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return one reply of every row: a score stands beside a row."""
    rows = dict.fromkeys((one.side, one.row.row) for one in candidates)
    chosen = (one_of([one for one in candidates if (one.side, one.row.row) == row], row[0]) for row in rows)
    return [one for one in chosen if one is not None]
