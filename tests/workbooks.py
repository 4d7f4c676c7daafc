"""Workbooks, runs and answers that the tests of the producer's desk share."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import xlsxwriter
from python_calamine import CalamineWorkbook

from producer.local import LocalModel
from producer.manifest import Manifest
from producer.options import AskOptions
from producer.prepare import make_plan, open_run
from producer.runs import RunStore
from workers.contract.messages import Answer, BlankLines, Completion, Outcome, ReplyFormat, Sampling
from workers.contract.replies import read_reply

RUN_ID = "0123456789abcdef"


def save_workbook(path: Path, sheets: Mapping[str, Sequence[Sequence[Any]]], hidden: Sequence[str] = (), **options: Any) -> Path:
    """Save sheets of cells as a person's spreadsheet program would: shared strings, native types, "" for no cell at all."""
    with xlsxwriter.Workbook(str(path), {"strings_to_formulas": False, "strings_to_urls": False} | options) as workbook:
        formats = {
            kind: workbook.add_format({"num_format": code})
            for kind, code in {
                "datetime": "yyyy-mm-dd hh:mm:ss",
                "date": "yyyy-mm-dd",
                "time": "hh:mm:ss",
                "timedelta": "[h]:mm:ss",
            }.items()
        }
        for name, rows in sheets.items():
            sheet = workbook.add_worksheet(name)
            for row, cells in enumerate(rows):
                for column, cell in enumerate(cells):
                    if cell != "":
                        sheet.write(row, column, cell, formats.get(type(cell).__name__))
        shown = [sheet for sheet in workbook.worksheets() if sheet.get_name() not in hidden]
        for sheet in workbook.worksheets():
            if sheet not in shown:
                sheet.hide()
        if shown:
            shown[0].activate()
            shown[0].set_first_sheet()
    return path


def grid(path: Path, sheet: str) -> list[list[Any]]:
    """Return all cells of a sheet as they were written."""
    rows: list[list[Any]] = CalamineWorkbook.from_path(str(path)).get_sheet_by_name(sheet).to_python(skip_empty_area=False)
    return rows


def sheet_names(path: Path) -> list[str]:
    """Return the names of a workbook's sheets in their order."""
    return CalamineWorkbook.from_path(str(path)).sheet_names


def records(path: Path, sheet: str) -> list[dict[str, Any]]:
    """Return the rows below the header, each by column name."""
    headers, *rows = grid(path, sheet)
    return [dict(zip(headers, row, strict=True)) for row in rows]


def manifest(**changes: Any) -> Manifest:
    """Return what a run of four rows is, with any field changed."""
    fields: dict[str, Any] = {
        "run_id": RUN_ID,
        "served_name": "phi-4",
        "sampling": Sampling(),
        "system_prompt": "Answer.",
        "source_path": "/somewhere/questions.xlsx",
        "sheet": "questions",
        "question_column": "question",
        "rows": 4,
        "created_at": "2026-01-02T03:04:05+00:00",
        "kotae_version": "0.1.0",
    }
    return Manifest(**fields | changes)


def tagged(answer: str = "42", reasoning: str = "why") -> str:
    """Return a reply that keeps the format reasoning-answer."""
    return f"<reasoning>\n{reasoning}\n</reasoning>\n<answer>\n{answer}\n</answer>\n"


def completion(text: str, finish_reason: str = "stop", output_tokens: int = 7, reply_format: ReplyFormat | None = None) -> Completion:
    """Return a reply as a worker reads it."""
    reading = read_reply(text, finish_reason, reply_format or ReplyFormat.REASONING_ANSWER, BlankLines.COLLAPSE)
    return Completion(text=text, **reading._asdict(), finish_reason=finish_reason, output_tokens=output_tokens)


def answered(row: int, *texts: str, run_id: str = RUN_ID, generation: int = 0, finish_reason: str = "stop") -> Answer:
    """Return the answer of a row whose samples are these replies."""
    completions = tuple(completion(text, finish_reason) for text in texts or (tagged(),))
    return Answer(
        run_id=run_id,
        row=row,
        generation=generation,
        outcome=min((c.outcome for c in completions), key=list(Outcome).index),
        completions=completions,
        prompt_tokens=11,
        worker="w@host",
        fingerprint="f1",
        seconds=1.5,
    )


def unanswered(row: int, outcome: Outcome = Outcome.FAILED, error: str = "the engine said no", run_id: str = RUN_ID) -> Answer:
    """Return the answer of a row that has no completion."""
    return Answer(run_id=run_id, row=row, outcome=outcome, error=error)


def begin_run(home: Path, workbook: Path, served_name: str = "phi-4", adapter: str | None = None, **options: Any) -> RunStore:
    """Begin or resume the run of a workbook, as `kotae run` does before it sends anything."""
    return open_run(
        make_plan(workbook, AskOptions(**options)), home, served_name, adapter, LocalModel(served_name, "some/model", "vllm", {})
    )
