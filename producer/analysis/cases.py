"""The rows of a source that a person should read first: the worst of every kind, and the best."""

import heapq
from typing import NamedTuple

from workers.contract.messages import UNANSWERED, Outcome

from .statistics import COPIED, MUCH, Measured

#: Cases of a kind.
_SHOWN = 5
_KINDS = ("without a reply", "malformed", "truncated", "repetitive", "reasoning copied into the answer", "wrong", "in another language")
BEST = "best"


class Case(NamedTuple):
    """A row, and why it is shown."""

    measured: Measured
    why: str


class Cases:
    """Looks at rows as they go by and keeps a few of each kind: those that are it most, and of equal ones the first."""

    def __init__(self) -> None:
        self._kept: dict[str, list[tuple[float, int, Case]]] = {kind: [] for kind in (*_KINDS, BEST)}
        #: Rows of each kind.
        self.counts = dict.fromkeys(self._kept, 0)

    def look(self, measured: Measured) -> None:
        """Take a row."""
        row, repetition = measured.row, measured.repetition
        if row.outcome in UNANSWERED:
            self._keep("without a reply", 0, measured, f"{row.outcome}: {row.error}")
        if row.outcome in (Outcome.MALFORMED, Outcome.TRUNCATED):
            self._keep(str(row.outcome), 0, measured, str(row.outcome))
        if repetition.share >= MUCH:
            loop = f"; {repetition.times} times in a row: {repetition.loop[:80]}" if measured.loops else ""
            self._keep("repetitive", repetition.share, measured, f"{repetition.share:.0%} only repeats{loop}")
        if measured.copied is not None and measured.copied >= COPIED:
            self._keep(_KINDS[4], measured.copied, measured, f"{measured.copied:.0%} of the reasoning stands in the answer")
        if measured.right is False:
            self._keep("wrong", 0, measured, "not the gold answer")
        if measured.same_language is False:
            self._keep("in another language", 0, measured, f"question {measured.languages[0]}, answer {measured.languages[1]}")
        if row.outcome is Outcome.ANSWERED and measured.right is not False:
            right = "the gold answer; " if measured.right else ""
            goodness = 2 * bool(measured.right) - repetition.share - 0.5 * (measured.copied or 0) - 0.5 * (measured.same_language is False)
            self._keep(BEST, goodness, measured, f"{right}format kept, {repetition.share:.0%} repeats")

    def _keep(self, kind: str, degree: float, measured: Measured, why: str) -> None:
        self.counts[kind] += 1
        entry = (degree, -measured.row.row, Case(measured, why))
        kept = self._kept[kind]
        if len(kept) < _SHOWN:
            heapq.heappush(kept, entry)
        elif entry[:2] > kept[0][:2]:
            heapq.heapreplace(kept, entry)

    def of(self, kind: str) -> list[Case]:
        """Return the cases of a kind, the first first."""
        return [case for *_, case in sorted(self._kept[kind], key=lambda entry: entry[:2], reverse=True)]

    def kinds(self) -> list[str]:
        """Return the kinds there are, the best last."""
        return [kind for kind, count in self.counts.items() if count]
