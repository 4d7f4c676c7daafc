"""The workbook of a run: the source's rows in their order, the answers beside them, and where they come from."""

import datetime
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

from producer.runs import RunStore
from workers.contract.messages import UNANSWERED, Answer

from .columns import ERRORS_HEADERS, RUN_HEADERS, OutputColumn, answer_fields, normalised, place_columns
from .errors_sheet import errors_of
from .keeping import Addition, Kept, look_at, rehearse, write_kept
from .reading import Cell, Sheet, read_sheet
from .writing import Table, sheet_name, write_tables


def write_workbook(store: RunStore, out: Path) -> list[str]:
    """Write the workbook of a run from its store alone; return what the user should be told about its columns.

    Every row of the source has its row in the output; rows that nothing is stored of have empty cells. Raises WorkbookError.
    """
    manifest = store.manifest
    with store.snapshot(), store.source() as source:
        sheet = read_sheet(source, manifest.sheet, manifest.question_column, manifest.header_row)
        kept = look_at(source, sheet) if manifest.keep_format else None
        columns = _columns(sheet, manifest.sampling.n, manifest.served_name, manifest.overwrite, kept)
        answers = _answers(store, sheet, [column.field for column in columns])
        if kept is not None:
            tables = _added(store, sheet, kept.names)
            notices = write_kept(source, out, sheet, kept, _additions(columns, sheet, kept), answers, tables)
        else:
            notices = []
            _write_fresh(store, sheet, columns, answers, out)
    return notices + [
        f"the source has a filled column {column.field!r}; ours is called {column.header!r} (--overwrite replaces the source's)"
        for column in columns
        if column.fills is None and column.header != column.field
    ]


def check_kept(source: Path, sheet: Sheet, overwrite: bool, samples: int) -> None:
    """Check, before anything is asked, that our columns can be put into a workbook that is to keep its format. Raises WorkbookError."""
    kept = look_at(source, sheet)
    rehearse(source, sheet, kept, _additions(_columns(sheet, samples, "", overwrite, kept), sheet, kept))


def _columns(sheet: Sheet, samples: int, served_name: str, overwrite: bool, kept: Kept | None) -> list[OutputColumn]:
    filled = [any(row[i] != "" for row in sheet.rows) for i in range(len(sheet.headers))]
    filled[sheet.question_column] = True
    if kept is not None:
        filled = [holds or place in kept.survey.unseen for place, holds in enumerate(filled)]
    overwrite = overwrite and normalised(sheet.headers[sheet.question_column]) not in answer_fields(samples)
    return place_columns(answer_fields(samples), sheet.headers, filled, served_name, overwrite)


def _places(columns: Sequence[OutputColumn], first_new: int) -> list[int]:
    """Return the index of each of our columns; the new ones stand side by side."""
    new = count(first_new)
    return [next(new) if column.fills is None else column.fills for column in columns]


def _is_wide(column: OutputColumn) -> bool:
    return column.field.startswith(("answer", "reasoning"))


def _answers(store: RunStore, sheet: Sheet, fields: Sequence[str]) -> Iterator[list[Cell]]:
    """Yield of every row of the source what our columns hold beside it."""
    stored = store.answers()
    upcoming = next(stored, None)
    for number in range(len(sheet.rows)):
        cells: dict[str, Cell] = {}
        if upcoming is not None and upcoming.answer.row == number:
            cells = _cells(upcoming.answer)
            upcoming = next(stored, None)
        yield [cells.get(field, "") for field in fields]


def _write_fresh(store: RunStore, sheet: Sheet, columns: Sequence[OutputColumn], answers: Iterable[Sequence[Cell]], out: Path) -> None:
    headers = list(sheet.headers) + [column.header for column in columns if column.fills is None]
    places = _places(columns, len(sheet.headers))
    wide = {sheet.question_column} | {place for place, column in zip(places, columns, strict=True) if _is_wide(column)}
    name = sheet_name(sheet.name)
    tables = [Table(name, headers, _rows(sheet, places, answers, len(headers)), wide), *_added(store, sheet, [name])]
    write_tables(out, tables, datetime.datetime.fromisoformat(store.manifest.created_at).replace(tzinfo=None))


def _rows(sheet: Sheet, places: Sequence[int], answers: Iterable[Sequence[Cell]], width: int) -> Iterator[list[Cell]]:
    for source, values in zip(sheet.rows, answers, strict=True):
        row: list[Cell] = list(source) + [""] * (width - len(source))
        for place, value in zip(places, values, strict=True):
            row[place] = value
        yield row


def _additions(columns: Sequence[OutputColumn], sheet: Sheet, kept: Kept) -> list[Addition]:
    places = _places(columns, max(len(sheet.headers), kept.survey.last_column + 1))
    return [
        Addition(place, None if column.fills is not None else column.header, _is_wide(column))
        for place, column in zip(places, columns, strict=True)
    ]


def _added(store: RunStore, sheet: Sheet, names: Collection[str]) -> list[Table]:
    """Return the sheets that come after those of these names."""
    tables = [Table(_free_name("Run", names), list(RUN_HEADERS), _provenance(store), {1})]
    if any(stored.answer.outcome in UNANSWERED for stored in store.answers()):
        taken = [*names, tables[0].name]
        tables.append(Table(_free_name("Errors", taken), list(ERRORS_HEADERS), errors_of(store, sheet), {1, 3}))
    return tables


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
    asked["rows not settled yet"] = tally.rows - tally.stored or None
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


def _free_name(name: str, names: Collection[str]) -> str:
    taken = {known.casefold() for known in names}
    more = (f"{name} (Kotae)" if number == 1 else f"{name} (Kotae) {number}" for number in count(1))
    return next(candidate for candidate in chain([name], more) if candidate.casefold() not in taken)
