"""``kotae compare``: sources side by side in a workbook, or on a page to judge them on."""

import datetime
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from producer.desk import Desk
from producer.progress import counted, duration
from producer.workbook.replacing import check_place
from workers.contract.errors import UserError, WorkbookError

from .comparison import Comparison, labels_of, outcome_text
from .figures import Compared, measured
from .joining import join
from .sources import ColumnSource, RunSource, open_source

WRITABLE = (".xlsx", ".html")

#: Writes a comparison row by row, and returns what the user should be told.
Writer = Callable[[Path, Comparison, Iterable[Compared]], Sequence[str]]


def compare(names: Sequence[str], out: Path, column: str | None, sheet: str | None, question_column: str | None, desk: Desk) -> int:
    """Write a comparison of two or more sources. Raises UserError, and then nothing is written."""
    began = time.monotonic()
    write = _writer(out)
    if len(names) < 2:
        raise UserError(f"a comparison needs two sources or more, and there is only {names[0]}: name a second run or FILE:COLUMN")
    with ExitStack() as stack:
        sources = [stack.enter_context(open_source(name, desk.home, sheet, question_column)) for name in names]
        for source in sources:
            _check_out(out, source)
        comparison = Comparison(sources, labels_of(sources), column, datetime.datetime.now(datetime.UTC))
        counts = Counts(len(sources))
        for notice in write(out, comparison, counts.watch(measured(join(sources, column)))):
            desk.say(f"note: {notice}")
    _say(comparison, counts, desk)
    desk.say(f"comparison: {out} · {duration(time.monotonic() - began)}")
    desk.tell(
        {"output": str(out), "rows": counts.rows, "complete": counts.complete}
        | {"sources": [comparison.about(side) | {"outcomes": dict(counts.outcomes[side])} for side in range(len(sources))]}
    )
    return 0


class Counts:
    """What passes by on its way into a comparison, counted."""

    def __init__(self, sides: int) -> None:
        self.rows = self.complete = 0
        self.outcomes: list[Counter[str]] = [Counter() for _ in range(sides)]

    def watch(self, rows: Iterable[Compared]) -> Iterator[Compared]:
        for compared in rows:
            self.rows += 1
            self.complete += all(figures is not None for figures in compared.figures)
            for counter, row in zip(self.outcomes, compared.joined.sides, strict=True):
                counter[outcome_text(row)] += 1
            yield compared


def _writer(out: Path) -> Writer:
    match out.suffix.lower():
        case ".xlsx":
            from .comparison_xlsx import write_workbook as write
        case ".html":
            from .comparison_page import write_page as write
        case _:
            raise WorkbookError(f"the output {out} must end in {' or '.join(WRITABLE)}")
    check_place(out)
    return write


def _check_out(out: Path, source: RunSource | ColumnSource) -> None:
    if isinstance(source, ColumnSource) and out.exists() and source.path.samefile(out):
        raise UserError(f"the output {out} is a workbook that is compared; give it another name with -o")


def _say(comparison: Comparison, counts: Counts, desk: Desk) -> None:
    joined = "row by row" if comparison.column is None else f"by column {comparison.column!r}"
    desk.say(f"{counted(counts.rows, 'question')}, joined {joined}; {counts.complete:,} with a reply of every source")
    for label, outcomes in zip(comparison.labels, counts.outcomes, strict=True):
        listed = " · ".join(f"{outcome} {count:,}" for outcome, count in outcomes.most_common())
        desk.say(f"  {label}: {listed} (of {outcomes.total():,})")
