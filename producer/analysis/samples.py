"""What several samples of one question say together: how far they agree, what most of them say, whether one of k is right. Pure."""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from workers.contract.messages import Outcome

from .choices import choice_of, label_of
from .final import statements
from .gold import Match, is_right, kind_of
from .quantities import number_of
from .replies import Reply


class Majority(NamedTuple):
    """What most samples of a question say."""

    #: The first answer that says it, as it stands.
    answer: str
    votes: int
    #: Samples that have an answer at all.
    samples: int


class Sampled(NamedTuple):
    """What the samples of one question amount to. None stands where it cannot be told."""

    samples: int
    #: Samples that keep the format: the others have no answer that could be counted.
    answered: int
    majority: Majority | None
    #: The chance that two different samples of the question say the same, estimated without bias; None below two answers.
    agreement: float | None
    #: How many samples are right, malformed and truncated ones never; and whether the majority's answer is. None without gold.
    right: int | None
    majority_right: bool | None


def sampled(replies: Sequence[Reply], gold: str = "", match: Match = Match.AUTO) -> Sampled:
    """Return what the replies to one question amount to, held against its gold answer if there is one."""
    answers = [reply.answer for reply in replies if reply.outcome is Outcome.ANSWERED]
    most = vote(replies, gold)
    judged = [is_right(answer, gold, match) for answer in answers]
    known = bool(gold.strip()) and is_right("", gold, match) is not None
    return Sampled(
        samples=len(replies),
        answered=len(answers),
        majority=most,
        agreement=agreement(answers, gold),
        right=sum(one is True for one in judged) if known else None,
        majority_right=(most is not None and is_right(most.answer, gold, match) is True) if known else None,
    )


def vote(replies: Sequence[Reply], gold: str = "") -> Majority | None:
    """Return what most replies say; those that are malformed or truncated have no vote."""
    return majority([reply.answer for reply in replies if reply.outcome is Outcome.ANSWERED], gold)


def majority(answers: Sequence[str], gold: str = "") -> Majority | None:
    """Return what most answers say, the one that was said first among equals; None if there is none.

    The vote of self-consistency (Wang et al., 2022, arXiv:2203.11171): on the final answer, not on its words.
    """
    if not answers:
        return None
    said = [final_answer(answer, gold) for answer in answers]
    most, votes = Counter(said).most_common(1)[0]  # equal counts stand in the order of their first
    return Majority(answers[said.index(most)], votes, len(answers))


def agreement(answers: Sequence[str], gold: str = "") -> float | None:
    """Return the share of pairs of answers that say the same, 0 to 1; None if there is no pair."""
    if len(answers) < 2:
        return None
    counts = Counter(final_answer(answer, gold) for answer in answers).values()
    return sum(count * (count - 1) for count in counts) / (len(answers) * (len(answers) - 1))


def pass_at_k(samples: int, right: int, k: int) -> float:
    """Return the chance that at least one of ``k`` samples is right, if ``right`` of ``samples`` are: 1 - C(n-c, k) / C(n, k).

    The unbiased estimator of Chen et al. (2021, arXiv:2107.03374). Raises ValueError unless 1 <= k <= samples and right <= samples.
    """
    if not 1 <= k <= samples or not 0 <= right <= samples:
        raise ValueError(f"pass@{k} of {samples} samples, {right} of them right")
    return 1.0 - math.comb(samples - right, k) / math.comb(samples, k)


def ks(samples: int) -> list[int]:
    """Return the k for which pass@k is told: powers of two below the number of samples, and that itself."""
    return [*(1 << power for power in range(samples.bit_length()) if 1 << power < samples), samples] if samples else []


def final_answer(answer: str, gold: str = "") -> Hashable:
    """Return what is equal for answers that say the same.

    It is the final number, or the label, where the gold answer is one; without gold, where the answer's own final statement is one. Else it
    is the words of that, full-width forms, case, white space and the last full stop aside.
    """
    said = answer if gold.strip() else next((one.text for one in statements(answer)), answer)
    words = re.sub(r"\s+", " ", unicodedata.normalize("NFKC", said)).strip().rstrip(".。").casefold()
    like = gold if gold.strip() else said
    match kind_of(like):
        case Match.NUMERIC if (number := number_of(answer)) is not None:
            return ("number", number.value)
        case Match.CHOICE if (wanted := label_of(like)) is not None and (label := choice_of(answer, wanted)) is not None:
            return ("label", label)
        case _:
            return words


class Totals:
    """The samples of a whole run, question by question."""

    def __init__(self) -> None:
        #: Questions with more than one sample; those of them with gold; and those with at least two answers.
        self.questions = self.with_gold = self.with_pairs = 0
        self._agreement = 0.0
        self._majority_right = 0
        self._passed: dict[int, list[float]] = {}

    def add(self, one: Sampled) -> None:
        """Count a question. One with a single sample has nothing to agree with, and is passed over."""
        if one.samples < 2:
            return
        self.questions += 1
        if one.agreement is not None:
            self.with_pairs += 1
            self._agreement += one.agreement
        if one.right is not None:
            self.with_gold += 1
            self._majority_right += one.majority_right is True
            for k in ks(one.samples):
                self._passed.setdefault(k, []).append(pass_at_k(one.samples, one.right, k))

    def told(self) -> dict[str, object]:
        """Return the means, each with the number of questions it is over; empty if no question has several samples."""
        if not self.questions:
            return {}
        told: dict[str, object] = {"questions": self.questions}
        if self.with_pairs:
            told["agreement"] = {"mean": round(self._agreement / self.with_pairs, 4), "questions": self.with_pairs}
        if self.with_gold:
            told["majority right"] = {"right": self._majority_right, "questions": self.with_gold}
            for k, values in sorted(self._passed.items()):
                told[f"pass@{k}"] = {"mean": round(sum(values) / len(values), 4), "questions": len(values)}
        return told
