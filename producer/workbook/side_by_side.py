"""The workbook of several runs of one source: its rows in their order, and beside them the answers of each model under its name."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from producer.runs import RunStore
from workers.contract.messages import UNANSWERED

from .assembly import Told, answers_of, as_cell, called_otherwise, free_name, write_fresh
from .columns import ERRORS_HEADERS, OutputColumn, answer_fields, place_columns
from .errors_sheet import errors_of
from .limits import sheet_name
from .provenance import provenance
from .reading import Cell, Sheet, read_sheet
from .writing import Table


def write_side_by_side(stores: Sequence[RunStore], out: Path) -> list[str]:
    """Write the answers of several runs beside the rows of their source; return what the user should be told about its columns.

    Each run has the columns ``answer (MODEL)``, ``reasoning (MODEL)``, ... The source is that of the first run: the others must have
    been asked of the same one. Raises WorkbookError.
    """
    first = stores[0].manifest
    with ExitStack() as stack:
        for store in stores:
            stack.enter_context(store.snapshot())
        source = stack.enter_context(stores[0].source())
        sheet = read_sheet(source, first.sheet, first.question_column, first.header_row)
        columns = [column for store in stores for column in _columns(store, sheet)]
        told = Told(_record(stores), partial(_sheets, stores, sheet), first.created_at, first.csv)
        return write_fresh(sheet, columns, _side_by_side(stores, sheet), told, out) + called_otherwise(columns)


def _columns(store: RunStore, sheet: Sheet) -> list[OutputColumn]:
    manifest = store.manifest
    filled = [bool(kinds) for kinds in sheet.kinds]
    named = [f"{field} ({manifest.served_name})" for field in answer_fields(manifest.sampling.n)]
    return place_columns(named, sheet.headers, filled, manifest.run_id, manifest.overwrite)


def _side_by_side(stores: Sequence[RunStore], sheet: Sheet) -> Iterator[list[Cell]]:
    sides = [answers_of(store, sheet, answer_fields(store.manifest.sampling.n)) for store in stores]
    for cells in zip(*sides, strict=True):
        yield [cell for side in cells for cell in side]


def _record(stores: Sequence[RunStore]) -> dict[str, Any]:
    runs = ", ".join(store.manifest.run_id for store in stores)
    return {"run": runs} | {store.manifest.served_name: provenance(store) for store in stores}


def _sheets(stores: Sequence[RunStore], sheet: Sheet, names: Collection[str]) -> list[Table]:
    """Return a sheet that tells of the runs side by side, and one for the errors of each run that has any."""
    told = [provenance(store) for store in stores]
    whats = dict.fromkeys(what for one in told for what in one)
    rows: list[list[Cell]] = [[what, *(as_cell(one.get(what, "")) for one in told)] for what in whats]
    headers = ["what", *(store.manifest.served_name for store in stores)]
    tables = [Table(free_name("Run", names), headers, rows, set(range(1, len(headers))))]
    for store in stores:
        if next(store.answers(outcomes=UNANSWERED), None) is not None:
            taken = [*names, *(table.name for table in tables)]
            name = free_name(sheet_name(f"Errors {store.manifest.served_name}"), taken)
            tables.append(Table(name, list(ERRORS_HEADERS), errors_of(store, sheet), {1, 3}))
    return tables
