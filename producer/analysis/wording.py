"""A survey in words: one line a measure, each with how many rows or replies it goes over."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from producer.progress import counted
from workers.contract.messages import Outcome

from .intervals import Share, Values
from .statistics import COPIED, LOOP, MUCH, Statistics
from .surveying import Survey


def lines(survey: Survey) -> Iterator[tuple[str, str]]:
    """Yield what is measured, and what came of it."""
    total, values = survey.total, survey.total.values
    missing = f", {total.missing:,} missing" if total.missing else ""
    yield "rows", f"{total.rows:,} ({total.asked:,} asked{missing}; {total.replies:,} replies)"
    yield "yield: format kept", str(total.yielded)
    for name, outcome in (("truncated", Outcome.TRUNCATED), ("malformed", Outcome.MALFORMED)):
        yield name, str(Share(total.outcomes[outcome], total.asked))
    if total.malformed:
        yield "malformed by kind", _counts(total.malformed, total.outcomes[Outcome.MALFORMED], "malformed")
    if total.departures:
        yield "also, in kept formats", _counts(total.departures, total.outcomes[Outcome.ANSWERED], "answered")
    yield "failed, rejected, timed out", str(Share(total.failed, total.asked))
    yield "reasoning, characters", _values(values["reasoning"])
    yield "answer, characters", _values(values["answer"])
    yield "tokens of a prompt", _values(values["prompt_tokens"])
    yield "tokens of a reply", _values(values["output_tokens"])
    yield "of them reasoning, by characters", _values(values["reasoning_tokens"])
    yield "repetition (of the reasoning; without one, of the reply)", _percentages(values["repetition"])
    yield "seq-rep-4", _percentages(values["seq_rep_4"])
    yield f"repeats {MUCH:.0%} or more of itself", str(values["repetition"].above(MUCH))
    yield f"says something {LOOP} times in a row", str(Share(total.loops, len(values["repetition"].all)))
    yield f"{COPIED:.0%} or more of the reasoning is in the answer", str(values["copied"].above(COPIED))
    yield "answer in the question's language", str(Share(total.same_language, total.told_languages))
    yield "languages, question to answer", _languages(total)
    found = survey.duplicates
    yield (
        "equal answers to different questions",
        f"{found.rows_of_answers:,} of {counted(found.of, 'row')}, {counted(found.answers, 'answer')}{_where(survey)}",
    )
    yield "equal questions", f"{found.rows_of_questions:,} of {counted(found.of, 'row')}, {counted(found.questions, 'question')}"
    yield "seconds a row", _values(values["seconds"])
    for name, told in total.samples.told().items():
        if isinstance(told, dict):
            yield f"samples: {name}", _samples(told)
    if total.judged or total.unusable_gold or total.without_reply:
        yield "right, by gold", str(total.accuracy)
        yield "gold that was not held against a reply", f"{total.without_reply:,} without a reply, {total.unusable_gold:,} of another kind"


def group_headers(judged: bool) -> list[str]:
    """Return the headers of ``group_cells``."""
    headers = [
        "rows",
        "yield",
        "truncated",
        "malformed",
        "failed",
        "reasoning, median characters",
        "repetition, mean",
        "loops",
        "seconds, median",
    ]
    return [*headers, "right"] if judged else headers


def group_cells(group: Statistics, judged: bool) -> list[str]:
    """Return the figures of a group, each over how many it goes."""
    outcomes, values = group.outcomes, group.values
    repetitions = values["repetition"].all
    cells = [
        f"{group.rows:,}",
        _short(group.yielded),
        _short(Share(outcomes[Outcome.TRUNCATED], group.asked)),
        _short(Share(outcomes[Outcome.MALFORMED], group.asked)),
        _short(Share(group.failed, group.asked)),
        _median(values["reasoning"]),
        f"{sum(repetitions) / len(repetitions):.1%} of {len(repetitions):,}" if len(repetitions) else "-",
        _short(Share(group.loops, len(repetitions))),
        _median(values["seconds"]),
    ]
    return [*cells, str(group.accuracy)] if judged else cells


def _values(values: Values) -> str:
    told = values.told(2)
    if told is None:
        return "-"
    middle = f"median {told['median']:,.4g}, mean {told['mean']:,.4g}"
    return f"{middle}, 90 % below {told['p90']:,.4g}, most {told['max']:,.6g} (of {told['of']:,})"


def _percentages(values: Values) -> str:
    told = values.told(4)
    if told is None:
        return "-"
    return f"median {told['median']:.1%}, mean {told['mean']:.1%}, 90 % below {told['p90']:.1%}, most {told['max']:.1%} (of {told['of']:,})"


def _counts(counter: Counter[str], of: int, what: str) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counter.most_common()) + f" (of {of:,} {what}; a reply may be of several kinds)"


def _languages(total: Statistics) -> str:
    shown = [f"{ours or 'none'} to {theirs or 'none'} {count:,}" for (ours, theirs), count in total.languages.most_common(6)]
    return f"{', '.join(shown)} (of {total.languages.total():,})" if shown else "-"


def _samples(told: dict[str, Any]) -> str:
    of = told["questions"]
    return str(Share(told["right"], of)) if "right" in told else f"{told['mean']:.1%} (of {counted(of, 'question')} with several samples)"


def _where(survey: Survey) -> str:
    rows = survey.duplicates.commonest
    return f"; the commonest in rows {', '.join(str(survey.source.sheet.shown_row(row)) for row in rows)} …" if rows else ""


def _short(share: Share) -> str:
    return "-" if share.value is None else f"{share.value:.1%} ({share.count:,} of {share.of:,})"


def _median(values: Values) -> str:
    return f"{values.quantiles(0.5)[0]:,.4g} (of {len(values.all):,})" if len(values.all) else "-"
