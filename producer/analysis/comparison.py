"""``kotae compare``: sources side by side in a workbook, or on a page to judge them on."""

import datetime
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from producer.desk import Desk
from producer.progress import counted, duration
from producer.workbook.replacing import check_place
from workers.contract.errors import UserError, WorkbookError

from .figures import Compared, measured
from .joining import join
from .sources import ColumnSource, RunSource, open_source

WRITABLE = (".xlsx", ".html")
#: What an outcome is called where there is no reply to have one.
MISSING = "missing"


class Comparison(NamedTuple):
    """What is compared."""

    sources: Sequence[RunSource | ColumnSource]
    #: What each source is called where they stand side by side; no two are equal.
    labels: Sequence[str]
    #: The column the rows are joined by; None if row by row.
    column: str | None
    created: datetime.datetime

    def about(self, side: int) -> dict[str, str | None]:
        """Return what is told of a source."""
        source = self.sources[side]
        run_id = source.store.manifest.run_id if isinstance(source, RunSource) else None
        return {"name": source.name, "label": self.labels[side], "model": source.model, "run_id": run_id}

    def reply_columns(self) -> frozenset[int]:
        """Return the columns of the first source that hold replies which are compared, so that nobody has to see them twice."""
        headers = self.sources[0].sheet.headers
        columns = (one for one in self.sources if isinstance(one, ColumnSource) and one.sheet.headers == headers)
        return frozenset(index for one in columns for index in one.columns())


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
                counter[MISSING if row is None or row.outcome is None else str(row.outcome)] += 1
            yield compared


def labels_of(sources: Sequence[RunSource | ColumnSource]) -> list[str]:
    """Call every source by its model, or by what it was called on the command line where two have the same, or by a number too."""
    models = [_model(source) for source in sources]
    labels: list[str] = []
    for source, model in zip(sources, models, strict=True):
        label = model if models.count(model) == 1 and model else source.name
        same = sum(earlier == label or earlier.startswith(f"{label} (") for earlier in labels)
        labels.append(f"{label} ({same + 1})" if label in labels else label)
    return labels


def _model(source: RunSource | ColumnSource) -> str:
    """Return who answered: the column ``answer (MODEL)`` says it in its header."""
    model = "".join(character for character in " ".join(source.model.split()) if character.isprintable())  # a header holds anything
    matched = re.fullmatch(r"answer(?:_\d+)? \((.+)\)", model)
    return matched[1].strip() if matched and isinstance(source, ColumnSource) else model


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


def outcome_text(row: Any) -> str:
    """Return the outcome of a side as it is shown."""
    return MISSING if row is None or row.outcome is None else str(row.outcome)
