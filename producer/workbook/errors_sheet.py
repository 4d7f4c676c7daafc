"""The sheet Errors: the rows without a reply, as we list them, and as a person gives the list back."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from producer.runs import RunStore
from workers.contract.errors import WorkbookError
from workers.contract.messages import UNANSWERED

from .cells import Cell, Grid, as_text, tidy
from .columns import ERRORS_HEADERS, RUN_HEADERS, normalised
from .formats import Format, format_of
from .limits import cut_for_excel
from .reading import Sheet
from .spreadsheets import Workbook

#: How a sheet ends that goes on with one that was full.
_FURTHER = re.compile(r" \(\d+(?:\.\d+)?\)$")
_CONTROLS = dict.fromkeys([*range(0x20), 0x7F])


class Listed(NamedTuple):
    """The rows that a workbook's sheet Errors lists."""

    run_id: str
    #: Question by row, as a spreadsheet program numbers the rows of the source.
    questions: dict[int, str]


def errors_of(store: RunStore, sheet: Sheet) -> Iterator[list[Cell]]:
    """Yield the rows of the sheet."""
    questions = sheet.questions()
    for stored in store.answers(outcomes=UNANSWERED):
        answer = stored.answer
        yield [sheet.shown_row(answer.row), questions[answer.row], str(answer.outcome), answer.error or "", stored.attempts]


def read_errors(path: Path) -> Listed:
    """Return what a workbook of ours lists, perhaps thinned out by a person. Raises WorkbookError if it is none, or lists nothing."""
    kind = format_of(path)
    if kind not in (Format.XLSX, Format.ODS):
        raise WorkbookError(f"{path} is no workbook with a sheet Errors; give one that Kotae wrote, or the run's id")
    workbook = Workbook.open(path, kind)
    run_id = ""
    listed: dict[int, str] | None = None
    for name in workbook.names:  # ours come last; the source may have been an output itself
        if name.startswith(("Run", "Errors")):
            grid = list(workbook.stream(name)())
            run_id = _run_id(grid) or run_id
            if _begins(grid, ERRORS_HEADERS[:2]):
                before = listed if listed is not None and _FURTHER.search(name) else {}
                listed = before | _listed(path, name, grid)
    if not run_id:
        raise WorkbookError(f"{path} has no sheet Run that names its run; give a workbook that Kotae wrote, or the run's id")
    if not listed:
        raise WorkbookError(
            f"{path} lists no row in a sheet Errors: there is nothing to ask anew (kotae retry {run_id} asks all without a reply)"
        )
    return Listed(run_id, listed)


def rows_of(listed: Listed, sheet: Sheet) -> set[int]:
    """Return the listed rows as the run numbers them. Raises WorkbookError if one of them is no row of this sheet, or another question."""
    questions = sheet.questions()
    rows: set[int] = set()
    for shown, question in listed.questions.items():
        row = shown - sheet.shown_row(0)
        if not 0 <= row < len(questions):
            raise WorkbookError(
                f"sheet Errors lists row {shown}, but the questions of run {listed.run_id} are in the rows {sheet.shown_row(0)} to"
                f" {sheet.shown_row(len(questions) - 1)}: rows may be deleted there, not changed"
            )
        if _compared(question) != _compared(cut_for_excel(questions[row])):
            raise WorkbookError(
                f"sheet Errors lists row {shown} as {_short(question)}, but the question of run {listed.run_id} there is"
                f" {_short(questions[row])}: rows may be deleted there, not changed"
            )
        rows.add(row)
    return rows


def _run_id(grid: Grid) -> str:
    if not _begins(grid, RUN_HEADERS):
        return ""
    return next((as_text(row[1]) for row in grid if as_text(row[0]) == "run"), "")


def _listed(path: Path, name: str, grid: Grid) -> dict[int, str]:
    listed: dict[int, str] = {}
    for number, (shown, question, *_) in enumerate(grid[1:], start=2):
        if shown == question == "":
            continue
        text = as_text(tidy(shown))
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise WorkbookError(f"row {number} of sheet {name!r} of {path} names no row of the source, but {_short(text)}")
        listed[int(text)] = as_text(question)
    return listed


def _begins(grid: Grid, headers: Sequence[str]) -> bool:
    return bool(grid) and [normalised(as_text(cell)) for cell in grid[0][: len(headers)]] == list(headers)


def _compared(text: str) -> str:
    """Return what every spreadsheet program saves of a text: they have their own line breaks, and drop control characters."""
    return "".join(text.split()).translate(_CONTROLS)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:39]}…")
