"""The workbook of a run: the source's rows in their order, the answers beside them, and where they come from."""

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from producer.manifest import Manifest
from producer.runs import RunStore
from workers.contract.messages import UNANSWERED, Answer

from .columns import ERRORS_HEADERS, OutputColumn, answer_fields, normalised, place_columns
from .reading import Cell, Sheet, read_sheet
from .writing import MAX_SHEET_NAME, Table, sheet_name, write_tables


def write_workbook(store: RunStore, out: Path) -> list[str]:
    """Write the workbook of a run from its store alone; return what the user should be told about its columns.

    Every row of the source has its row in the output; rows that nothing is stored of have empty cells. Raises WorkbookError.
    """
    manifest = store.manifest
    with store.source() as source:
        sheet = read_sheet(source, manifest.sheet, manifest.question_column, manifest.header_row)
    columns = _columns(sheet, manifest)
    headers = list(sheet.headers) + [column.header for column in columns if column.fills is None]
    wide = {sheet.question_column} | {
        _place(column, columns, sheet) for column in columns if column.field.startswith(("answer", "reasoning"))
    }
    tables = [Table(sheet_name(sheet.name), headers, _rows(store, sheet, columns), wide)]
    tables.append(Table(_free_name("Run", tables), ["what", "value"], _provenance(store), {1}))
    if any(stored.answer.outcome in UNANSWERED for stored in store.answers()):
        tables.append(Table(_free_name("Errors", tables), list(ERRORS_HEADERS), _errors(store, sheet), {1, 3}))
    write_tables(out, tables, datetime.datetime.fromisoformat(manifest.created_at).replace(tzinfo=None))
    return [
        f"the source has a filled column {column.field!r}; ours is called {column.header!r} (--overwrite replaces the source's)"
        for column in columns
        if column.fills is None and column.header != column.field
    ]


def _columns(sheet: Sheet, manifest: Manifest) -> list[OutputColumn]:
    filled = [any(row[i] != "" for row in sheet.rows) for i in range(len(sheet.headers))]
    filled[sheet.question_column] = True
    overwrite = manifest.overwrite and normalised(sheet.headers[sheet.question_column]) not in answer_fields(manifest.sampling.n)
    return place_columns(answer_fields(manifest.sampling.n), sheet.headers, filled, manifest.served_name, overwrite)


def _place(column: OutputColumn, columns: list[OutputColumn], sheet: Sheet) -> int:
    if column.fills is not None:
        return column.fills
    return len(sheet.headers) + [c for c in columns if c.fills is None].index(column)


def _rows(store: RunStore, sheet: Sheet, columns: list[OutputColumn]) -> Iterator[list[Cell]]:
    width = len(sheet.headers) + sum(column.fills is None for column in columns)
    places = [(column.field, _place(column, columns, sheet)) for column in columns]
    stored = store.answers()
    upcoming = next(stored, None)
    for number, source in enumerate(sheet.rows):
        row: list[Cell] = list(source) + [""] * (width - len(source))
        answers: dict[str, Cell] = {}
        if upcoming is not None and upcoming.answer.row == number:
            answers = _cells(upcoming.answer)
            upcoming = next(stored, None)
        for field, place in places:
            row[place] = answers.get(field, "")
        yield row


def _cells(answer: Answer) -> dict[str, Cell]:
    """Return what our columns hold for one row, by field."""
    cells: dict[str, Cell] = {"outcome": str(answer.outcome), "error": answer.error or ""}
    if answer.prompt_tokens is not None:
        cells["prompt_tokens"] = answer.prompt_tokens
    for k, completion in enumerate(answer.completions, start=1):
        suffix = "" if k == 1 else f"_{k}"
        cells |= {f"answer{suffix}": completion.answer, f"reasoning{suffix}": completion.reasoning}
    if answer.completions:
        cells["finish_reason"] = answer.completions[0].finish_reason
        cells["output_tokens"] = sum(completion.output_tokens for completion in answer.completions)
    return cells


def _errors(store: RunStore, sheet: Sheet) -> Iterator[list[Cell]]:
    questions = sheet.questions()
    for stored in store.answers():
        answer = stored.answer
        if answer.outcome in UNANSWERED:
            yield [sheet.shown_row(answer.row), questions[answer.row], str(answer.outcome), answer.error or ""]


def _provenance(store: RunStore) -> Iterator[list[Cell]]:
    """Yield the sheet Run: what was asked, who answered, what came of it. All of it from the store, so that it never changes by itself."""
    manifest, tally = store.manifest, store.tally()
    asked: dict[str, Any] = {
        "run": manifest.run_id,
        "kotae": manifest.kotae_version,
        "begun": manifest.created_at,
        "last answer": store.last_stored_at() or "",
        "sheet": manifest.sheet,
        "question column": manifest.question_column,
        "rows": manifest.rows,
        "limit": manifest.limit,
        "served name": manifest.served_name,
        "model as given": manifest.model,
        "adapter": manifest.adapter,
        "engine arguments": manifest.engine_args or None,
        "system prompt": manifest.system_prompt,
        "reply format": str(manifest.reply_format),
        "blank lines": str(manifest.blank_lines),
    }
    asked |= {f"sampling: {name}": value for name, value in manifest.sampling.model_dump(mode="json").items()}
    for number, fingerprint in enumerate(store.fingerprints(), start=1):
        asked[f"model {number}: fingerprint"] = fingerprint
        identity = store.models().get(fingerprint)
        if identity is not None:
            asked |= {f"model {number}: {name}": value for name, value in identity.model_dump(mode="json").items()}
    asked |= {f"asked anew ({number})": told for number, told in enumerate(manifest.retries, start=1)}
    asked |= {f"answers of run {run_id}": count for run_id, count in store.reused().items()}
    asked |= {f"rows {outcome}": count for outcome, count in sorted(tally.by_outcome.items())}
    asked["yield"] = f"{tally.answered} of {tally.asked} replies keep the format"
    asked |= {"prompt tokens": tally.prompt_tokens, "output tokens": tally.output_tokens}
    for name, value in asked.items():
        if value not in (None, "", (), [], {}):
            yield [name, _told(value)]


def _told(value: Any) -> Cell:
    """Return a value as a cell; whole numbers that a spreadsheet would round, such as seeds, as text."""
    if isinstance(value, int) and abs(value) >= 2**53:
        return str(value)
    return value if isinstance(value, (int, float, str)) else ", ".join(_flat(value))


def _flat(value: Any) -> list[str]:
    return [f"{key}={item}" for key, item in value.items()] if isinstance(value, dict) else [str(item) for item in value]


def _free_name(name: str, tables: list[Table]) -> str:
    taken = {table.name.casefold() for table in tables}
    return next(candidate for candidate in (name, f"{name} (Kotae)", f"{name} (Kotae) 2") if candidate.casefold() not in taken)[
        :MAX_SHEET_NAME
    ]
