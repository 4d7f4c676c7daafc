"""Which replies a question has to choose from, and whether each could stand in a pair."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from producer.analysis.replies import Reply, Row
from workers.contract.messages import Outcome, ReplyFormat

from .dropped import Dropped, flaw
from .tags import in_tags


class Candidate(NamedTuple):
    """One reply to a question."""

    #: Which of the sources it comes from, from 0; the row there; and which sample of the row it is, from 1.
    side: int
    row: Row
    sample: int
    reply: Reply
    #: The reply as the model is to write it.
    text: str
    flaw: Dropped | None

    @property
    def may_be_chosen(self) -> bool:
        """Say whether a model may learn it: a malformed reply is kept only to be rejected."""
        return self.flaw is None and self.reply.outcome is Outcome.ANSWERED


class Reader:
    """Makes candidates of rows."""

    def __init__(self, formats: Sequence[ReplyFormat], wanted: ReplyFormat, keep_malformed: bool) -> None:
        """Take the formats that each source's replies were read in, and the one they are ``wanted`` in."""
        self._formats, self._wanted, self._keep_malformed = formats, wanted, keep_malformed

    def candidates(self, sides: Iterable[tuple[int, Row | None]]) -> list[Candidate]:
        """Return the replies of rows, each given with the number of its source, in their order."""
        found: list[Candidate] = []
        for side, row in sides:
            for sample, reply in enumerate(row.replies if row is not None else (), start=1):
                assert row is not None
                text = in_tags(reply, self._formats[side], self._wanted)
                found.append(Candidate(side, row, sample, reply, text or "", flaw(reply, text, self._keep_malformed)))
        return found


def usable(candidates: Iterable[Candidate]) -> list[Candidate] | Dropped:
    """Return those without a flaw, or why there are not two of them, one that may be chosen among them."""
    everything = list(candidates)
    if len(everything) < 2:
        return Dropped.MISSING
    good = [one for one in everything if one.flaw is None]
    flaws = [one.flaw for one in everything if one.flaw is not None]
    if len(good) < 2:
        return min(flaws, key=list(Dropped).index)
    return good if any(one.may_be_chosen for one in good) else Dropped.MALFORMED


def one_of(candidates: Sequence[Candidate], side: int) -> Candidate | None:
    """Return the reply that stands for a source: its first sample that keeps the format, else its first without a flaw, else its first."""
    ours = [one for one in candidates if one.side == side]
    return next((one for one in ours if one.may_be_chosen), next((one for one in ours if one.flaw is None), ours[0] if ours else None))
