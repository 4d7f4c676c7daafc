"""The charts of surveys, by name: what `kotae stats --plots` writes and what a report shows."""

from collections.abc import Callable, Sequence

from workers.contract.messages import Outcome

from .charts import COLOURS, Part, bars, distributions, shares
from .intervals import Share
from .statistics import Statistics
from .surveying import Survey


def plots(surveys: Sequence[Survey], by: str | None = None) -> dict[str, str]:
    """Return charts as SVG, by the names of their files without ending."""
    totals = [(_name(survey), survey.total) for survey in surveys]
    groups = _groups(surveys)
    drawn = {
        "outcomes": bars("What became of the rows", [(name, _outcomes(total)) for name, total in totals]),
        "repetition": distributions(
            "Share of the reasoning that repeats what it said before (by reply)",
            [(name, total.values["repetition"].all) for name, total in totals],
            1.0,
        ),
        "reasoning_length": _lengths("Length of the reasoning, in characters", "reasoning", totals),
        "answer_length": _lengths("Length of the answer, in characters", "answer", totals),
        "output_tokens": _lengths("Tokens of a reply", "output_tokens", totals),
        "seconds": _lengths("Seconds from taking a row to its reply", "seconds", totals, " s"),
    }
    if any(total.judged for _, total in totals):
        drawn["accuracy"] = shares("Right answers, with 95 % intervals", [(name, total.accuracy) for name, total in totals])
    if by is not None:
        drawn["yield_by_group"] = _by(f"Replies that keep the format, by {by}", groups, lambda group: group.yielded)
        if any(group.judged for _, group in groups):
            drawn["accuracy_by_group"] = _by(f"Right answers, by {by}", groups, lambda group: group.accuracy)
    return {name: chart for name, chart in drawn.items() if chart}


def _name(survey: Survey) -> str:
    """Return what a source is called where there is little room: without the folder of its file."""
    return survey.source.name.rpartition("/")[2]


def _groups(surveys: Sequence[Survey]) -> list[tuple[str, Statistics]]:
    several = len(surveys) > 1
    return [(f"{_name(survey)}: {value}" if several else value, group) for survey in surveys for value, group in survey.groups.items()]


def _by(title: str, groups: Sequence[tuple[str, Statistics]], of: Callable[[Statistics], Share]) -> str:
    return shares(title, [(name, of(group)) for name, group in groups])


def _lengths(title: str, name: str, totals: Sequence[tuple[str, Statistics]], unit: str = "") -> str:
    rows = [(label, total.values[name].all) for label, total in totals]
    return distributions(title, rows, unit=unit) if any(len(values) for _, values in rows) else ""


def _outcomes(statistics: Statistics) -> list[Part]:
    parts = [Part(str(outcome), statistics.outcomes[outcome], COLOURS[outcome]) for outcome in Outcome]
    return [*parts, Part("missing", statistics.missing, COLOURS[None])]
