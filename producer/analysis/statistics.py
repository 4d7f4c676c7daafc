"""What replies amount to: yield, lengths, repetition, language, time and accuracy of any number of rows, added one by one."""

from collections import Counter
from typing import Any, NamedTuple

from workers.contract.messages import UNANSWERED, Outcome, ReplyFormat
from workers.contract.replies import NO_REASONING_TAG, UNCLOSED_ANSWER, UNCLOSED_REASONING, faults, written

from .gold import Match, is_right
from .intervals import Share, Values
from .language import language, same_language
from .measures import NO_REPETITION, Repetition, copied, repetition
from .replies import Reply, Row
from .samples import Sampled, Totals, sampled

#: A text repeats itself much from this share on; a reasoning is copied into its answer from that one on.
MUCH, COPIED = 0.2, 0.8
#: What is said so many times in a row is a loop.
LOOP = 3
_PLACEHOLDERS = {NO_REASONING_TAG: "no reasoning tag", UNCLOSED_REASONING: "unclosed reasoning", UNCLOSED_ANSWER: "unclosed answer"}
_REPLIED = (Outcome.ANSWERED, Outcome.MALFORMED, Outcome.TRUNCATED)


class Measured(NamedTuple):
    """A row, and what was measured of its first reply."""

    row: Row
    reasoning: str
    answer: str
    #: Of the reasoning or, where there is none, of the whole reply.
    repetition: Repetition
    #: Which share of the reasoning stands in the answer too; None unless there are both.
    copied: float | None
    #: Whether the answer is in the language of the question; None where that cannot be told.
    same_language: bool | None
    languages: tuple[str, str]
    #: None where there is no gold answer, or nothing to hold against it.
    right: bool | None
    #: What its samples amount to together; None where there is only one.
    sampled: Sampled | None = None

    @property
    def loops(self) -> bool:
        """Whether it says something again and again."""
        return self.repetition.times >= LOOP


def measure(row: Row, reply_format: ReplyFormat, gold: str = "", match: Match = Match.AUTO) -> Measured:
    """Measure the first reply of a row."""
    if not row.replies:
        return Measured(row, "", "", NO_REPETITION, None, None, ("", ""), None)
    reply = row.replies[0]
    reasoning, answer = parts(reply, reply_format)
    both = bool(reasoning and answer) and reply.outcome is Outcome.ANSWERED
    languages = (language(row.question), language(answer))
    right = is_right(reply.answer if reply.outcome is Outcome.ANSWERED else "", gold, match)  # half a reply has no final answer
    share = copied(reasoning, answer) if both else None
    same = same_language(*languages) if answer else None
    together = sampled(row.replies, gold, match) if len(row.replies) > 1 else None
    return Measured(row, reasoning, answer, repetition(reasoning or answer), share, same, languages, right, together)


def parts(reply: Reply, reply_format: ReplyFormat) -> tuple[str, str]:
    """Return what there is of reasoning and of answer, as far as the model got; without placeholders."""
    if reply.outcome is not Outcome.ANSWERED and reply.text:
        return written(reply.text, reply_format)
    reasoning = "" if reply.reasoning in _PLACEHOLDERS else reply.reasoning
    return reasoning, "" if reply.answer == UNCLOSED_ANSWER else reply.answer


def faults_of(reply: Reply, reply_format: ReplyFormat) -> tuple[str, ...]:
    """Return in which ways a reply breaks its format; its placeholders tell where the raw text is not known."""
    if reply.text:
        return faults(reply.text, reply_format)
    found = [_PLACEHOLDERS[part] for part in (reply.reasoning, reply.answer) if part in _PLACEHOLDERS]
    return tuple(found) or (("unknown",) if reply.outcome is Outcome.MALFORMED else ())


class Statistics:
    """Sums over rows. Lengths are in characters, times in seconds."""

    def __init__(self, reply_format: ReplyFormat) -> None:
        self._format = reply_format
        self.rows = self.replies = self.missing = 0
        self.outcomes: Counter[Outcome] = Counter()
        #: Ways to break the format, of malformed replies, and departures that are not held against the others.
        self.malformed: Counter[str] = Counter()
        self.departures: Counter[str] = Counter()
        self.languages: Counter[tuple[str, str]] = Counter()
        self.same_language, self.told_languages = 0, 0
        self.right = self.judged = self.without_reply = self.unusable_gold = 0
        self.loops = 0
        self.samples = Totals()
        names = (
            "reasoning",
            "answer",
            "output_tokens",
            "prompt_tokens",
            "reasoning_tokens",
            "seconds",
            "repetition",
            "seq_rep_4",
            "copied",
        )
        self.values = {name: Values() for name in names}

    def add(self, measured: Measured, gold: str = "") -> None:
        """Take a row."""
        row, values = measured.row, self.values
        self.rows += 1
        if row.outcome is None:
            self.missing += 1
        else:
            self.outcomes[row.outcome] += 1
        values["prompt_tokens"].add(row.prompt_tokens)
        values["seconds"].add(row.seconds)
        self._add_gold(measured, gold)
        if measured.sampled is not None:
            self.samples.add(measured.sampled)
        for reply in row.replies:
            self._add_reply(reply)
        if row.replies:
            values["repetition"].add(measured.repetition.share)
            values["seq_rep_4"].add(measured.repetition.seq_rep_4)
            values["copied"].add(measured.copied)
            self.loops += measured.loops
            self.languages[measured.languages] += 1
            if measured.same_language is not None:
                self.told_languages += 1
                self.same_language += measured.same_language

    def _add_reply(self, reply: Reply) -> None:
        self.replies += 1
        reasoning, answer = parts(reply, self._format)
        values = self.values
        if reasoning:
            values["reasoning"].add(len(reasoning))
        if answer:
            values["answer"].add(len(answer))
        values["output_tokens"].add(reply.output_tokens)
        if reply.output_tokens is not None and reasoning:
            values["reasoning_tokens"].add(reply.output_tokens * len(reasoning) / (len(reasoning) + len(answer)))
        counter = self.malformed if reply.outcome is Outcome.MALFORMED else self.departures if reply.outcome is Outcome.ANSWERED else None
        if counter is not None:
            counter.update(faults_of(reply, self._format))

    def _add_gold(self, measured: Measured, gold: str) -> None:
        if not gold.strip():
            return
        if not measured.row.replies:
            self.without_reply += 1
        elif measured.right is None:
            self.unusable_gold += 1
        else:
            self.judged += 1
            self.right += measured.right

    @property
    def asked(self) -> int:
        """Rows that hold a question and are settled."""
        return self.outcomes.total() - self.outcomes[Outcome.SKIPPED]

    @property
    def yielded(self) -> Share:
        """Rows whose reply keeps the format, of those that were asked."""
        return Share(self.outcomes[Outcome.ANSWERED], self.asked)

    @property
    def accuracy(self) -> Share:
        """Right replies, of those with a gold answer."""
        return Share(self.right, self.judged)

    @property
    def failed(self) -> int:
        """Rows without a reply although they were asked."""
        return sum(self.outcomes[outcome] for outcome in UNANSWERED)

    def told(self) -> dict[str, Any]:
        """Return everything for programs. Every figure says over how many rows or replies it goes (``of``)."""
        values = {
            name: values.told(4 if name in ("repetition", "seq_rep_4", "copied", "seconds") else 1) for name, values in self.values.items()
        }
        first = len(self.values["repetition"].all)
        return {
            "rows": self.rows,
            "missing": self.missing,
            "asked": self.asked,
            "replies": self.replies,
            "outcomes": {str(outcome): self.outcomes[outcome] for outcome in Outcome if self.outcomes[outcome]},
            "yield": self.yielded.told(),
            "truncated": Share(self.outcomes[Outcome.TRUNCATED], self.asked).told(),
            "failed": Share(self.failed, self.asked).told(),
            "malformed": {"of": self.outcomes[Outcome.MALFORMED], "kinds": dict(self.malformed.most_common())},
            "departures": {"of": self.outcomes[Outcome.ANSWERED], "kinds": dict(self.departures.most_common())},
            "characters": {"reasoning": values["reasoning"], "answer": values["answer"]},
            "tokens": {
                "prompt": values["prompt_tokens"],
                "output": values["output_tokens"],
                "reasoning_estimated": values["reasoning_tokens"],
            },
            "repetition": values["repetition"],
            "seq_rep_4": values["seq_rep_4"],
            "repetitive": self.values["repetition"].above(MUCH).told(),
            "loops": Share(self.loops, first).told(),
            "copied": values["copied"],
            "copied_reasoning": self.values["copied"].above(COPIED).told(),
            "same_language": Share(self.same_language, self.told_languages).told(),
            "languages": [{"question": ours, "answer": theirs, "rows": count} for (ours, theirs), count in self.languages.most_common()],
            "seconds": values["seconds"],
            "samples": self.samples.told(),
            "accuracy": self.accuracy.told() | {"without_reply": self.without_reply, "unusable_gold": self.unusable_gold},
        }
