"""How good a reply is, where nobody has judged it."""

from collections.abc import Callable
from typing import NamedTuple

from producer.analysis.joining import Joined
from producer.analysis.measures import repetition
from workers.contract.messages import Outcome

from .candidates import Candidate

#: Repetition is compared in steps of this share: a little more of it says nothing.
_STEP = 0.05
#: A reply counts as longer than another one from this many times its length on.
_LONGER = 1.25

#: Says whether a candidate of a question is right; None if the question has no gold answer.
IsRight = Callable[[Joined, Candidate], bool | None]


class Quality(NamedTuple):
    """How good a reply is: less is better, and an earlier field decides before a later one."""

    #: 0 if right, 1 if nobody knows, 2 if wrong.
    wrong: int
    malformed: bool
    #: The share of the reply that repeats it, in steps.
    repetition: int
    #: Characters.
    length: int

    @property
    def known(self) -> bool | None:
        """Say whether the reply is right, if that is known."""
        return {0: True, 1: None, 2: False}[self.wrong]


def measured(is_right: IsRight | None = None) -> Callable[[Joined, Candidate], Quality]:
    """Return what measures candidates. A malformed reply is wrong to a question with a gold answer: it is none."""

    def quality(joined: Joined, one: Candidate) -> Quality:
        reply, malformed = one.reply, one.reply.outcome is not Outcome.ANSWERED
        right = None if is_right is None else is_right(joined, one)
        wrong = 1 if right is None else 2 if malformed or not right else 0
        said = one.text if malformed else f"{reply.reasoning}\n{reply.answer}"
        return Quality(wrong, malformed, round(repetition(said).share / _STEP), len(said))

    return quality


def better(best: Quality, worst: Quality) -> str | None:
    """Return why one is better than another that is not better than it; None if they are as good as each other."""
    if best.wrong != worst.wrong:
        return "right before wrong" if worst.wrong == 2 else "right before not known"
    if best.malformed != worst.malformed:
        return "answered before malformed"
    if best.repetition != worst.repetition:
        return f"repetition {best.repetition * _STEP:.0%} before {worst.repetition * _STEP:.0%}"
    if worst.length >= _LONGER * best.length:
        return f"{best.length} characters before {worst.length}"
    return None
