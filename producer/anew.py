"""Which rows of a run are asked anew, and how they differ from their first time."""

from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from workers.contract.errors import UserError
from workers.contract.messages import UNANSWERED, Outcome, Sampling

from .desk import Desk
from .manage import sheet_of
from .runs import RunStore, list_runs
from .workbook.errors_sheet import Listed, read_errors, rows_of


class Again(NamedTuple):
    """Which rows ``retry`` asks anew beside those without a reply, and how."""

    malformed: bool
    truncated: bool
    temperature: float | None


def listed_in(workbook: Path, desk: Desk) -> Listed:
    """Return the rows that a workbook of a run of this home lists. Raises UserError."""
    listed = read_errors(workbook)
    if listed.run_id not in list_runs(desk.home):
        raise UserError(f"{workbook} is the workbook of run {listed.run_id}, which {desk.home} does not have; name its home with --home")
    return listed


def reopen(store: RunStore, again: Again, listed: Listed | None, desk: Desk) -> None:
    """Have rows of a run asked anew: those that a workbook lists, or all that have no reply. Raises UserError.

    A row that has a reply by now is not paid for again, whatever an older workbook lists.
    """
    rows = rows_of(listed, sheet_of(store)) if listed else None
    manifest, told = store.manifest, "" if again.temperature is None else f" at temperature {again.temperature:g}"
    if not store.is_finished():
        if not store.reopened():
            raise UserError(f"run {manifest.run_id} is not finished: resume or collect it, or cancel it, before rows are asked anew")
        desk.say("an earlier retry was interrupted; it is finished first")
        return
    try:
        Sampling.model_validate(manifest.sampling.model_dump() | ({} if again.temperature is None else {"temperature": again.temperature}))
    except ValidationError as error:
        raise UserError(f"--temperature {again.temperature}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from error
    outcomes = UNANSWERED | ({Outcome.MALFORMED} if again.malformed else set()) | ({Outcome.TRUNCATED} if again.truncated else set())
    if rows is not None:
        outcomes |= {Outcome.CANCELLED}  # an earlier retry of it, perhaps; it has no reply
    counts = store.reopen(outcomes, again.temperature, rows)
    if rows is not None and (left := len(rows) - sum(counts.values())):
        desk.say(f"{left} of the {len(rows)} rows that the sheet Errors lists have a reply by now, and are not asked again")
    if not counts:
        desk.say(f"run {manifest.run_id} has no row to ask anew")
        return
    line = f"{sum(counts.values())} rows ({', '.join(f'{n} {outcome}' for outcome, n in counts.items())}){told}"
    store.update(retries=(*manifest.retries, line))
    desk.say(f"asking anew: {line}")
