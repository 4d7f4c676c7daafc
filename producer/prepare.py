"""A command becomes a run: what is asked of whom, found again if it was begun before."""

import datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from workers.contract.errors import UserError
from workers.contract.messages import Outcome, Sampling
from workers.contract.replies import default_system_prompt, layout

from .local import LocalModel
from .manifest import Manifest
from .options import AskOptions, seconds
from .questions import Questions, run_id_of
from .runs import RunStore, delete_run
from .workbook.assembly import check_kept
from .workbook.columns import answer_fields
from .workbook.keeping import check_keeping
from .workbook.reading import Sheet, read_sheet
from .workbook.writing import MAX_COLUMNS, MAX_ROWS

#: Below this no format's tags could close.
_MIN_ENFORCED_TOKENS = 64
#: Fields of Sampling that are options of the same name.
_SAMPLING_OPTIONS = Sampling.model_fields.keys() - {"n", "stop", "enforce_format"}


class Plan(NamedTuple):
    """Everything that is known before anything is sent or written."""

    workbook: Path
    #: The bytes that were read: the file may be saved anew while an engine loads.
    content: bytes
    options: AskOptions
    row_timeout: float
    sheet: Sheet
    sampling: Sampling
    system_prompt: str

    def run_id(self, served_name: str, adapter: str | None) -> str:
        """Return the name of the run that asks this of a model."""
        return run_id_of(self.sheet.questions(), self.system_prompt, self.sampling, served_name, adapter)


def make_plan(workbook: Path, options: AskOptions) -> Plan:
    """Read the workbook and check all that can be checked without a worker. Raises UserError."""
    sampling = make_sampling(options)
    system_prompt = _system_prompt(options)
    if options.limit is not None and options.limit < 1:
        raise UserError(f"--limit {options.limit}: ask at least one row")
    row_timeout = seconds("--row-timeout", options.row_timeout)
    sheet, content = _read(workbook, options)
    if options.keep_format:
        check_keeping(workbook)
        check_kept(workbook, sheet, options.overwrite, sampling.n)  # what cannot be patched is said now, not when everything is answered
    room = MAX_COLUMNS - len(sheet.headers)
    if len(answer_fields(sampling.n)) > room:
        raise UserError(f"{workbook} has {len(sheet.headers):,} columns; an .xlsx sheet has no room for the answers beside them")
    if len(sheet.rows) >= MAX_ROWS:
        raise UserError(f"{workbook} has {len(sheet.rows):,} rows; an .xlsx sheet holds {MAX_ROWS - 1:,} below its header: split the file")
    return Plan(workbook, content, options, row_timeout, sheet, sampling, system_prompt)


def _read(workbook: Path, options: AskOptions) -> tuple[Sheet, bytes]:
    before = _stamp(workbook)
    sheet = read_sheet(workbook, options.sheet, options.question_column, options.header_row)
    content = workbook.read_bytes()
    if _stamp(workbook) != before:
        raise UserError(f"{workbook} was saved while it was read; run again")
    return sheet, content


def _stamp(workbook: Path) -> tuple[int, ...]:
    try:
        known = workbook.stat()
    except OSError:
        return ()
    return known.st_ino, known.st_size, known.st_mtime_ns


def make_sampling(options: AskOptions) -> Sampling:
    """Return the sampling of a run. Raises UserError that names the option of the first value that cannot be."""
    enforced = options.reply_format if options.enforce_format else None
    given = {name: getattr(options, name) for name in _SAMPLING_OPTIONS}
    try:
        sampling = Sampling.model_validate(given | {"n": options.samples, "stop": options.stop or (), "enforce_format": enforced})
    except ValidationError as error:
        first = error.errors()[0]
        name = "-".join(str(part) for part in first["loc"][:1]).replace("_", "-")
        option = {"n": "--samples", "": ""}.get(name, f"--{name}")
        value = f" {first['input']}" if first["loc"] else ""
        raise UserError(
            f"{option}{value}: {first['msg'].removeprefix('Value error, ').replace('Input should be', 'must be')}".strip(": ")
        ) from error
    if options.enforce_format:
        if layout(options.reply_format) is None:
            raise UserError(f"--enforce-format: any reply keeps the format {options.reply_format}; leave the option out")
        if sampling.max_tokens < _MIN_ENFORCED_TOKENS:
            raise UserError(f"--enforce-format needs --max-tokens of at least {_MIN_ENFORCED_TOKENS}, so that the tags can close")
    return sampling


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
        "row_timeout": plan.row_timeout,
        "source_path": str(plan.workbook.absolute()),
        "sheet": plan.sheet.name,
        "question_column": plan.sheet.headers[plan.sheet.question_column],
        "header_row": plan.sheet.header_row,
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
        store = RunStore.create(home, manifest, plan.workbook, plan.content)
    store.replace_source(plan.workbook, plan.content)
    store.update(**changing)
    store.reopen({Outcome.CANCELLED})
    store.store(questions_of(plan, store).skipped(plan.sheet.totals))
    return store


def questions_of(plan: Plan, store: RunStore) -> Questions:
    """Return the questions of a run as they travel."""
    return Questions(plan.sheet.questions(), store.manifest, store.reopened())


def _manifest(plan: Plan, run_id: str, served_name: str, adapter: str | None, local: LocalModel | None, generation: int) -> Manifest:
    return Manifest(
        run_id=run_id,
        served_name=served_name,
        adapter=adapter,
        sampling=plan.sampling,
        system_prompt=plan.system_prompt,
        source_path=str(plan.workbook.absolute()),
        sheet=plan.sheet.name,
        question_column=plan.sheet.headers[plan.sheet.question_column],
        header_row=plan.sheet.header_row,
        rows=len(plan.sheet.rows),
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        kotae_version=version("kotae"),
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
    text = options.system_prompt
    if text is None:
        return default_system_prompt(options.reply_format)
    if not text.startswith("@"):
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise UserError("--system-prompt: the text is not UTF-8; put it into a file and give @FILE")
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--system-prompt {text}: the file cannot be read as UTF-8 text ({type(error).__name__})") from error
