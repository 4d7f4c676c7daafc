"""`kotae report`: one HTML page about runs and columns, for people; it runs no script and loads nothing."""

import base64
import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from producer.desk import Desk
from producer.workbook.provenance import provenance
from producer.workbook.replacing import check_place, replacing
from workers.contract.errors import UserError

from .cases import Cases
from .gold import Match
from .plots import plots
from .sources import ColumnSource, RunSource, open_source
from .stats import Asked, title
from .surveying import Survey, survey
from .wording import group_cells, group_headers, lines

#: Characters of a text that are shown; the rest is in the workbook.
_SHOWN = 6000


def report(asked: Asked, out: Path, desk: Desk) -> int:
    """Write the page. Raises UserError."""
    if out.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"the report {out} is an HTML page: give it a name that ends in .html")
    if asked.match is not Match.AUTO and asked.gold is None:
        raise UserError(f"--match {asked.match} needs the column with the right answers: --gold COLUMN")
    _refuse_sources(asked.names, out)
    check_place(out)
    with ExitStack() as stack:
        sources = [stack.enter_context(open_source(name, desk.home, asked.sheet, asked.question_column)) for name in asked.names]
        cases = [Cases() for _ in sources]
        surveys = [survey(source, asked.by, asked.gold, asked.match, seen.look) for source, seen in zip(sources, cases, strict=True)]
        page = _page(surveys, cases, [_origin(source) for source in sources], asked)
    with replacing(out) as work:
        work.write_text(page, encoding="utf-8", errors="replace")
    desk.say(f"report: {out}")
    desk.tell({"output": str(out), "sources": [one.told() for one in surveys]})
    return 0


def _page(surveys: Sequence[Survey], cases: Sequence[Cases], origins: Sequence[dict[str, Any]], asked: Asked) -> str:
    """Render the page. Whatever a model has said is text there: the template escapes all but our own charts, which are escaped already."""
    here = files("producer.analysis")
    style = here.joinpath("report.css").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["shown"] = _shown
    judged = asked.gold is not None
    return environment.from_string(here.joinpath("report.html.jinja").read_text(encoding="utf-8")).render(
        style=Markup(style),  # noqa: S704 - a file of ours
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        asked=asked,
        sources=[
            {"title": title(one), "survey": one, "lines": list(lines(one)), "origin": origin, "cases": seen}
            for one, seen, origin in zip(surveys, cases, origins, strict=True)
        ],
        headers=group_headers(judged),
        cells=lambda group: group_cells(group, judged),
        charts=[Markup(chart) for chart in plots(surveys, asked.by).values()],  # noqa: S704 - made and escaped by an XML library
    )


def _shown(text: str) -> str:
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}\n… ({len(text) - _SHOWN:,} more characters)"


def _origin(source: RunSource | ColumnSource) -> dict[str, Any]:
    if isinstance(source, RunSource):
        return provenance(source.store)
    return {"column": source.name, "sheet": source.sheet.name, "question column": source.sheet.headers[source.sheet.question_column]}


def _refuse_sources(names: Sequence[str], out: Path) -> None:
    for name in names:
        path = Path(name.partition(":")[0])
        if out.exists() and path.exists() and path.samefile(out):
            raise UserError(f"the output {out} is what is to be read; give it another name with -o")
