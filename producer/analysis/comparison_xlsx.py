"""A comparison as a workbook: one row per question, the models side by side."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from producer.workbook.cells import Cell
from producer.workbook.columns import RUN_HEADERS, normalised
from producer.workbook.writing import Table, write_tables

from .comparison import Comparison, outcome_text
from .figures import Compared, Figures, first_reply
from .samples import vote
from .sources import RunSource

#: What stands of every source, all of one kind beside each other.
_FIELDS = ("answer", "reasoning", "outcome", "error", "answer characters", "reasoning characters", "repetition")
#: And of those with several samples.
_OF_SAMPLES = ("majority", "votes")
_WIDE = ("answer", "reasoning", "majority")


def write_workbook(path: Path, comparison: Comparison, rows: Iterable[Compared]) -> list[str]:
    """Write the workbook and replace ``path`` by it at once. Return what the user should be told. Raises WorkbookError."""
    sheet = comparison.sources[0].sheet
    voting = [side for side, source in enumerate(comparison.sources) if isinstance(source, RunSource) and source.sampling.n > 1]
    ours = [(field, label) for field in _FIELDS for label in comparison.labels]
    ours += [(field, comparison.labels[side]) for field in _OF_SAMPLES for side in voting]
    headers = list(sheet.headers)
    for field, label in ours:
        headers.append(_free(f"{field} ({label})", headers))
    shown = len(sheet.headers)
    wide = {sheet.question_column, *comparison.reply_columns()} | {shown + n for n, (field, _) in enumerate(ours) if field in _WIDE}
    body = Table("Comparison", headers, _cells(rows, len(comparison.sources), voting), wide, filtered=True)
    return write_tables(path, [body, Table("Sources", RUN_HEADERS, _about(comparison), [1])], comparison.created.replace(tzinfo=None))


def _free(header: str, taken: Sequence[str]) -> str:
    names = {normalised(one) for one in taken}
    free, number = header, 1
    while normalised(free) in names:
        number += 1
        free = f"{header} {number}"
    return free


def _cells(rows: Iterable[Compared], sides: int, voting: Sequence[int]) -> Iterator[list[Cell]]:
    for joined, figures in rows:
        replies = [first_reply(joined, side) for side in range(sides)]
        votes = [None if (row := joined.sides[side]) is None else vote(row.replies) for side in voting]
        yield [
            *joined.cells,
            *("" if reply is None else reply.answer for reply in replies),
            *("" if reply is None else reply.reasoning for reply in replies),
            *(outcome_text(row) for row in joined.sides),
            *("" if row is None else row.error for row in joined.sides),
            *("" if one is None else one.answer for one in figures),
            *("" if one is None else one.reasoning for one in figures),
            *("" if one is None else _repetition(one) for one in figures),
            *("" if one is None else one.answer for one in votes),
            *("" if one is None else f"{one.votes} of {one.samples}" for one in votes),
        ]


def _repetition(figures: Figures) -> float:
    """Return the greater of two shares: what a reader wants to find is the loop, wherever it is."""
    return round(max(figures.answer_repetition, figures.reasoning_repetition), 3)


def _about(comparison: Comparison) -> Iterator[tuple[Cell, Cell]]:
    yield "compared", comparison.created.isoformat(" ", "seconds")
    yield "joined", "row by row" if comparison.column is None else f"by column {comparison.column}"
    for number in range(len(comparison.sources)):
        for what, value in comparison.about(number).items():
            yield f"source {number + 1}: {what}", value or ""
    yield "repetition", "share of the words that repeat earlier ones, from 0 to 1, in the answer or the reasoning, whichever is more"
