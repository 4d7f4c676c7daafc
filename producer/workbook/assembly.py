"""The workbook of a run: the source's rows in their order, the answers beside them, and where they come from."""

import datetime
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Any, NamedTuple

from producer.runs import RunStore
from producer.steering import Steering
from workers.contract.messages import UNANSWERED, Answer

from .as_delimited import CsvStyle, write_delimited
from .as_json_lines import write_json_lines
from .as_parquet import Beside, write_parquet, write_parquet_beside
from .cells import EmptyText
from .columns import ERRORS_HEADERS, RUN_HEADERS, OutputColumn, answer_fields, distinct_names, field_kind, normalised, place_columns
from .errors_sheet import errors_of
from .keeping import Addition, Kept, look_at, rehearse, write_kept
from .limits import sheet_name
from .provenance import provenance, write_record
from .reading import Cell, Sheet, read_sheet
from .writing import Table, write_tables


def write_workbook(store: RunStore, out: Path) -> list[str]:
    """Write the workbook of a run from its store alone; return what the user should be told about its columns.

    Every row of the source has its row in the output; rows that nothing is stored of have empty cells. Raises WorkbookError.
    """
    manifest = store.manifest
    with store.snapshot(), store.source() as source:
        sheet = read_sheet(source, manifest.sheet, manifest.question_column, manifest.header_row)
        kept = look_at(source, sheet) if manifest.keep_format else None
        columns = _columns(sheet, manifest.sampling.n, manifest.served_name, manifest.overwrite, kept, manifest.steering)
        answers = answers_of(store, sheet, [column.field for column in columns])
        if kept is not None:
            tables = _added(store, sheet, kept.names)
            notices = write_kept(source, out, sheet, kept, _additions(columns, sheet, kept), answers, tables)
        else:
            told = Told(provenance(store), partial(_added, store, sheet), manifest.created_at, manifest.csv)
            notices = write_fresh(sheet, columns, answers, told, out)
    return notices + called_otherwise(columns)


def check_kept(source: Path, sheet: Sheet, overwrite: bool, samples: int, steering: Steering) -> None:
    """Check, before anything is asked, that our columns can be put into a workbook that is to keep its format. Raises WorkbookError."""
    kept = look_at(source, sheet)
    rehearse(source, sheet, kept, _additions(_columns(sheet, samples, "", overwrite, kept, steering), sheet, kept))


def _columns(sheet: Sheet, samples: int, served_name: str, overwrite: bool, kept: Kept | None, steering: Steering) -> list[OutputColumn]:
    filled = [bool(kinds) for kinds in sheet.kinds]
    filled[sheet.question_column] = True
    if kept is not None:
        filled = [holds or place in kept.survey.unseen for place, holds in enumerate(filled)]
    asked = {normalised(name) for name in (sheet.headers[sheet.question_column], *steering.columns)}
    overwrite = overwrite and asked.isdisjoint(answer_fields(samples))  # what was asked stays
    return place_columns(answer_fields(samples), sheet.headers, filled, served_name, overwrite)


def called_otherwise(columns: Iterable[OutputColumn]) -> list[str]:
    """Return what the user should be told about columns that could not have their own names."""
    return [
        f"the source has a filled column {column.field!r}; ours is called {column.header!r} (--overwrite replaces the source's)"
        for column in columns
        if column.fills is None and column.header != column.field
    ]


def _places(columns: Sequence[OutputColumn], first_new: int) -> list[int]:
    """Return the index of each of our columns; the new ones stand side by side."""
    new = count(first_new)
    return [next(new) if column.fills is None else column.fills for column in columns]


def _is_wide(column: OutputColumn) -> bool:
    return column.field.startswith(("answer", "reasoning"))


def answers_of(store: RunStore, sheet: Sheet, fields: Sequence[str]) -> Iterator[list[Cell]]:
    """Yield of every row of the source what our columns hold beside it."""
    stored = store.answers()
    upcoming = next(stored, None)
    for number in range(sheet.height):
        cells: dict[str, Cell] = {}
        if upcoming is not None and upcoming.answer.row == number:
            cells = _cells(upcoming.answer)
            upcoming = next(stored, None)
        yield [cells.get(field, "") for field in fields]


class Told(NamedTuple):
    """What an output says of where its answers come from."""

    #: For its metadata, or the file beside it.
    record: dict[str, Any]
    #: The sheets that come after those of these names.
    sheets: Callable[[Collection[str]], list[Table]]
    #: In ISO 8601.
    created_at: str
    csv: CsvStyle


def write_fresh(sheet: Sheet, columns: Sequence[OutputColumn], answers: Iterable[Sequence[Cell]], told: Told, out: Path) -> list[str]:
    """Write the kind of file that ``out`` is called; return what the user should be told."""
    headers = list(sheet.headers) + [column.header for column in columns if column.fills is None]
    places = _places(columns, len(sheet.headers))
    rows = _rows(sheet, places, answers, len(headers))
    names = distinct_names(headers)
    match out.suffix.lower():
        case ".csv" | ".tsv":
            write_delimited(out, headers, rows, raw=told.csv == CsvStyle.RAW)
            write_record(out, told.record)
            return []
        case ".jsonl":
            write_json_lines(out, names, rows)
            write_record(out, told.record)
            return _renamed(headers, names)
        case ".parquet" if sheet.typed is not None:
            ours = Beside(sheet.typed, places, [[field_kind(column.field)] for column in columns], answers)
            write_parquet_beside(out, names, ours, told.record)
            return _renamed(headers, names)
        case ".parquet":
            kinds: list[Collection[type]] = [*sheet.kinds, *[()] * (len(headers) - len(sheet.headers))]
            for place, column in zip(places, columns, strict=True):
                kinds[place] = [field_kind(column.field)]
            write_parquet(out, names, kinds, rows, told.record)
            return _renamed(headers, names)
        case _:
            wide = {sheet.question_column} | {place for place, column in zip(places, columns, strict=True) if _is_wide(column)}
            name = sheet_name(sheet.name)
            tables = [Table(name, headers, rows, wide), *told.sheets([name])]
            return write_tables(out, tables, datetime.datetime.fromisoformat(told.created_at).replace(tzinfo=None))


def _renamed(headers: Sequence[str], names: Sequence[str]) -> list[str]:
    changed = [name for header, name in zip(headers, names, strict=True) if header != name]
    return [f"columns whose header is missing or not the only one of its kind are called: {', '.join(changed)}"] if changed else []


def _rows(sheet: Sheet, places: Sequence[int], answers: Iterable[Sequence[Cell]], width: int) -> Iterator[list[Cell]]:
    for source, values in zip(sheet.rows(), answers, strict=True):
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
    told = [[name, as_cell(value)] for name, value in provenance(store).items()]
    tables = [Table(free_name("Run", names), list(RUN_HEADERS), told, {1})]
    if next(store.answers(outcomes=UNANSWERED), None) is not None:
        taken = [*names, tables[0].name]
        tables.append(Table(free_name("Errors", taken), list(ERRORS_HEADERS), errors_of(store, sheet), {1, 3}))
    return tables


def _cells(answer: Answer) -> dict[str, Cell]:
    """Return what our columns hold for one row, by field."""
    cells: dict[str, Cell] = {"outcome": str(answer.outcome), "error": answer.error or ""}
    if answer.prompt_tokens is not None:
        cells["prompt_tokens"] = answer.prompt_tokens
    for k, completion in enumerate(answer.completions, start=1):
        suffix = "" if k == 1 else f"_{k}"
        cells |= {f"answer{suffix}": completion.answer or EmptyText(), f"reasoning{suffix}": completion.reasoning or EmptyText()}
    if answer.completions:
        cells["finish_reason"] = answer.completions[0].finish_reason
        cells["output_tokens"] = sum(completion.output_tokens for completion in answer.completions)
    return cells


def as_cell(value: Any) -> Cell:
    """Return a value as a cell; whole numbers that a spreadsheet would round, such as seeds, as text."""
    if isinstance(value, int) and abs(value) >= 2**53:
        return str(value)
    return value if isinstance(value, (int, float, str)) else ", ".join(_flat(value))


def _flat(value: Any) -> list[str]:
    return [f"{key}={item}" for key, item in value.items()] if isinstance(value, dict) else [str(item) for item in value]


def free_name(name: str, names: Collection[str]) -> str:
    """Return the name of a sheet of ours that none of these has."""
    taken = {known.casefold() for known in names}
    more = (f"{name} (Kotae)" if number == 1 else f"{name} (Kotae) {number}" for number in count(1))
    return next(candidate for candidate in chain([name], more) if candidate.casefold() not in taken)
