"""`kotae stats`: what the replies of runs and columns amount to, as a table, as JSON, as charts."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from rich.table import Table
from rich.text import Text

from producer.desk import Desk
from workers.contract.errors import UserError

from .gold import Match
from .plots import plots
from .sources import open_source
from .surveying import Survey, survey
from .wording import group_cells, group_headers, lines


class Asked(NamedTuple):
    """What is to be measured, and against what."""

    names: Sequence[str]
    by: str | None = None
    gold: str | None = None
    match: Match = Match.AUTO
    #: Of a workbook: the sheet and the column with the questions, if they are not found.
    sheet: str | None = None
    question_column: str | None = None


def stats(asked: Asked, folder: Path | None, desk: Desk) -> int:
    """Measure sources, print a table of them and, of each, one by the values of a column; write charts to ``folder``. Raises UserError."""
    if folder is not None and folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; name a folder for the charts with --plots")
    if asked.match is not Match.AUTO and asked.gold is None:
        raise UserError(f"--match {asked.match} needs the column with the right answers: --gold COLUMN")
    with ExitStack() as stack:
        sources = [stack.enter_context(open_source(name, desk.home, asked.sheet, asked.question_column)) for name in asked.names]
        surveys = [survey(source, asked.by, asked.gold, asked.match) for source in sources]
    _show(surveys, asked, desk)
    drawn = [] if folder is None else _write(plots(surveys, asked.by), folder)
    for path in drawn:
        desk.say(f"chart: {path}")
    told = {"by": asked.by, "gold": asked.gold, "match": str(asked.match), "plots": [str(path) for path in drawn]}
    desk.tell({"sources": [one.told() for one in surveys]} | told)
    return 0


def _show(surveys: Sequence[Survey], asked: Asked, desk: Desk) -> None:
    table = Table("", *(title(one) for one in surveys), box=None, pad_edge=False)
    told = [dict(lines(one)) for one in surveys]
    for name in dict.fromkeys(name for one in told for name in one):
        table.add_row(name, *(Text(one.get(name, "-")) for one in told))
    desk.console.print(table)
    if asked.by is None:
        return
    for one in surveys:
        judged = asked.gold is not None
        by_group = Table(asked.by, *group_headers(judged), title=title(one), title_justify="left", box=None, pad_edge=False)
        for value, group in one.groups.items():
            by_group.add_row(Text(printable(value) or "(empty)"), *group_cells(group, judged))
        desk.say("")
        desk.console.print(by_group)


def title(one: Survey) -> str:
    """Return what a source is called, and who answered."""
    return printable(one.source.name if one.source.name == one.source.model else f"{one.source.name} ({one.source.model})")


def printable(text: str) -> str:
    """Return a text on one line, without the control characters by which it could steer a terminal."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _write(charts: dict[str, str], folder: Path) -> list[Path]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, chart in charts.items():
            (folder / f"{name}.svg").write_text(chart + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write charts to {folder}: {error.strerror}") from error
    return [folder / f"{name}.svg" for name in charts]
