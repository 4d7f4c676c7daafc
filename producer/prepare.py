"""A command becomes a run: what is asked of whom, found again if it was begun before."""

import contextlib
import datetime
import os
from pathlib import Path
from typing import NamedTuple

from workers.contract.errors import UserError, WorkbookError
from workers.contract.messages import Outcome, Sampling
from workers.contract.replies import default_system_prompt
from workers.contract.version import kotae_version

from .asking import Rows
from .local import LocalModel
from .manifest import Manifest
from .options import AskOptions, seconds, text_or_file
from .questions import Questions, run_id_of
from .runs import RunStore, delete_run
from .sampling import make_sampling
from .source_copy import FileCopy
from .steered import read_rows
from .steering import Steering, make_steering
from .workbook.assembly import check_kept
from .workbook.columns import answer_fields, find_question_column
from .workbook.keeping import check_keeping
from .workbook.limits import MAX_COLUMNS
from .workbook.reading import Sheet, read_sheet


class Plan(NamedTuple):
    """Everything that is known before anything is sent or written."""

    workbook: Path
    #: What was read: the file may be saved anew while an engine loads.
    copy: FileCopy
    options: AskOptions
    row_timeout: float
    sheet: Sheet
    #: By its header; the sheet may have been found by another column that steers it.
    question_column: str
    steering: Steering
    rows: Rows
    sampling: Sampling
    system_prompt: str

    def run_id(self, served_name: str, adapter: str | None) -> str:
        """Return the name of the run that asks this of a model."""
        return run_id_of(self.rows, self.system_prompt, self.sampling, served_name, adapter)


def make_plan(workbook: Path, options: AskOptions) -> Plan:
    """Read the workbook and check all that can be checked without a worker. Raises UserError."""
    sampling = make_sampling(options)
    system_prompt = _system_prompt(options)
    steering = make_steering(options)
    if options.limit is not None and options.limit < 1:
        raise UserError(f"--limit {options.limit}: ask at least one row")
    row_timeout = seconds("--row-timeout", options.row_timeout)
    sheet, copy = _read(workbook, options, steering)
    if options.keep_format:
        check_keeping(workbook)
        # What cannot be patched is said now, not when everything is answered.
        check_kept(workbook, sheet, options.overwrite, sampling.n, steering)
    room = MAX_COLUMNS - len(sheet.headers)
    if len(answer_fields(sampling.n)) > room:
        raise UserError(f"{workbook} has {len(sheet.headers):,} columns; no table has room for the answers beside them")
    rows = read_rows(sheet, steering, sampling)
    question_column = _question_column(sheet, options)
    return Plan(workbook, copy, options, row_timeout, sheet.without_rows(), question_column, steering, rows, sampling, system_prompt)


def _read(workbook: Path, options: AskOptions, steering: Steering) -> tuple[Sheet, FileCopy]:
    before = _stamp(workbook)
    sheet = read_sheet(workbook, options.sheet, options.question_column or steering.leading_column, options.header_row)
    copy = FileCopy(workbook)
    if _stamp(workbook) != before:
        raise UserError(f"{workbook} was saved while it was read; run again")
    return sheet, copy


def _question_column(sheet: Sheet, options: AskOptions) -> str:
    known = None
    if options.question_column is None:
        with contextlib.suppress(WorkbookError):  # two of that name, of which neither is asked
            known = find_question_column(sheet.headers)
    return sheet.headers[sheet.question_column if known is None else known]


def _as_told(workbook: Path) -> str:
    """Return where a workbook is; a name that is no UTF-8, as archives from elsewhere have them, with its bytes spelled out."""
    return os.fsencode(workbook.absolute()).decode("utf-8", "backslashreplace")


def _stamp(workbook: Path) -> tuple[int, ...]:
    try:
        known = workbook.stat()
    except OSError:
        return ()
    return known.st_ino, known.st_size, known.st_mtime_ns


def open_run(plan: Plan, home: Path, served_name: str, adapter: str | None, local: LocalModel | None) -> RunStore:
    """Open the run of a plan, beginning it if it is new or to be fresh; rows that were cancelled are asked after all.

    ``local`` is the model that answers where no fleet does. Raises UserError.
    """
    options = plan.options
    run_id = plan.run_id(served_name, adapter)
    changing = {
        "reply_format": options.reply_format,
        "blank_lines": options.blank_lines,
        "limit": options.limit,
        "overwrite": options.overwrite,
        "keep_format": options.keep_format,
        "csv": options.csv,
        "row_timeout": plan.row_timeout,
        "priority": options.priority,
        "source_path": _as_told(plan.workbook),
        "sheet": plan.sheet.name,
        "question_column": plan.question_column,
        "header_row": plan.sheet.header_row,
        "steering": plan.steering,
        "local": local is not None,
        "window": options.window,
    }
    generation = 0
    if options.fresh:
        generation = _last_generation(home, run_id) + 1  # what is still on its way of an earlier one is not wanted
        delete_run(home, run_id)
    store = RunStore.open(home, run_id)
    if store is None:
        manifest = _manifest(plan, run_id, served_name, adapter, local, generation)
        store = RunStore.create(home, manifest, plan.workbook, plan.copy)
    store.replace_source(plan.workbook, plan.copy)
    store.update(**changing)
    store.reopen({Outcome.CANCELLED})
    store.store(questions_of(plan, store).skipped(plan.sheet.totals(range(len(plan.sheet.headers)))))
    return store


def questions_of(plan: Plan, store: RunStore) -> Questions:
    """Return the questions of a run as they travel."""
    return Questions(plan.rows, store.manifest, store.reopened())


def _manifest(plan: Plan, run_id: str, served_name: str, adapter: str | None, local: LocalModel | None, generation: int) -> Manifest:
    return Manifest(
        run_id=run_id,
        served_name=served_name,
        adapter=adapter,
        sampling=plan.sampling,
        system_prompt=plan.system_prompt,
        source_path=_as_told(plan.workbook),
        sheet=plan.sheet.name,
        question_column=plan.question_column,
        header_row=plan.sheet.header_row,
        steering=plan.steering,
        rows=plan.sheet.height,
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        kotae_version=kotae_version(),
        model=local.model if local else served_name,
        engine=local.engine if local else "",
        engine_args=local.engine_args if local else {},
        adapter_path=local.adapter[1] if local and local.adapter else None,
        generation=generation,
    )


def _last_generation(home: Path, run_id: str) -> int:
    store = RunStore.open(home, run_id, writing=False)
    if store is None:
        return 0
    with store:
        return store.manifest.generation


def _system_prompt(options: AskOptions) -> str:
    if options.system_prompt is None:
        return default_system_prompt(options.reply_format)
    return text_or_file("--system-prompt", options.system_prompt)
