"""The questions of a measurement: prompts of about 100 tokens, different in every pass, and replies of known lengths."""

import math
import random
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import xlsxwriter

from producer.feed import Feeder
from producer.manifest import Manifest, Reopened
from producer.options import AskOptions
from producer.prepare import Plan, make_plan
from producer.questions import Questions
from workers.contract.messages import Sampling

#: How the producer may know the lengths beforehand: not at all, within a factor of about 1.6, exactly.
Knowledge = Literal["none", "good", "perfect"]

_WORDS = ["river", "stone", "copper", "lantern", "orchard", "velvet", "harbour", "engine", "window", "basket", "meadow", "thunder"]
_WORDS_PER_PROMPT = 50
_SIGMA = 0.7
_SHORTEST = 8
_GOOD = 0.5


def lengths(rows: int, mean: int, longest: int, seed: int = 0) -> list[int]:
    """Return the tokens of each reply: lognormal with about this mean, cut off at ``longest``; all ``longest`` if the mean is not less."""
    if mean >= longest:
        return [longest] * rows
    chance = random.Random(seed)
    middle = math.log(mean) - _SIGMA**2 / 2
    return [max(_SHORTEST, min(longest, round(chance.lognormvariate(middle, _SIGMA)))) for _ in range(rows)]


def make_pass(home: Path, number: int, rows: int, longest: int) -> Plan:
    """Write the workbook of pass ``number`` and read it as `kotae run` does."""
    chance = random.Random(number)
    path = home / f"pass-{number}.xlsx"
    with xlsxwriter.Workbook(str(path)) as workbook:
        texts = (f"Pass {number}, row {row}: " + " ".join(chance.choices(_WORDS, k=_WORDS_PER_PROMPT)) for row in range(rows))
        workbook.add_worksheet().write_column(0, 0, ["question", *texts])
    return make_plan(path, AskOptions(max_tokens=longest, ignore_eos=True))


class SizedQuestions(Questions):
    """The questions of a run, each with a length of its own, as a column could say it too."""

    def __init__(self, texts: Sequence[str], manifest: Manifest, sizes: Sequence[int], reopened: dict[int, Reopened] | None = None) -> None:
        super().__init__(texts, manifest, reopened)
        self._sizes = sizes

    def _sampling(self, row: int) -> Sampling:
        return super()._sampling(row).model_copy(update={"max_tokens": self._sizes[row]})


class OrderedFeeder(Feeder):
    """A feeder that sends the rows that it believes to be long first."""

    def __init__(self, *args: Any, beliefs: Sequence[float], **named: Any) -> None:
        super().__init__(*args, **named)
        self._beliefs = beliefs

    def _look_at_what_is_there(self) -> None:
        super()._look_at_what_is_there()
        self._unsent = deque(sorted(self._unsent, key=lambda row: -self._beliefs[row]))


def believed(sizes: Sequence[int], knowledge: Knowledge) -> list[float]:
    """Return the lengths as a producer might believe them: rows of equal belief keep their order."""
    chance = random.Random(1)
    match knowledge:
        case "none":
            return [0.0] * len(sizes)
        case "good":
            return [size * math.exp(chance.gauss(0, _GOOD)) for size in sizes]
        case "perfect":
            return [float(size) for size in sizes]
