"""Where the person sits: what is said to people, what to programs, and with which exit code a command ends."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from workers.contract.errors import UserError, WorkbookError
from workers.contract.messages import UNANSWERED, Outcome

from .manifest import Tally
from .options import DeskOptions
from .price import price_of
from .progress import duration, outcome_line
from .runs import RunStore
from .workbook.assembly import write_workbook
from .workbook.destination import KEEPING_FORMAT


class Desk(NamedTuple):
    """Home, console, and whether a program reads along."""

    home: Path
    console: Console
    as_json: bool

    def say(self, line: str) -> None:
        """Print a line for people."""
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def tell(self, value: dict[str, Any]) -> None:
        """Print a value for programs, if one reads along."""
        if self.as_json:
            print(json.dumps(value, ensure_ascii=False), flush=True)


def finish(store: RunStore, out: Path, desk: Desk, seconds: float) -> int:
    """Write the workbook of a run, say what came of it, and return the exit code."""
    tally = store.tally()
    try:
        notices = write_workbook(store, out)
    except UserError as error:
        partial = " --partial" if tally.stored < tally.rows else ""
        raise WorkbookError(
            f"{error}; all answers are kept: kotae collect {store.manifest.run_id} -o OUT{partial}{_told(desk.home)}"
        ) from error
    for notice in notices:
        desk.say(f"note: {notice}")
    desk.say(f"{outcome_line(tally)} · {duration(seconds)}{_priced(store)}")
    desk.say(f"workbook: {out}\nrun: {store.manifest.run_id} in {store.path.parent.parent}")
    if count := sum(tally.by_outcome.get(outcome, 0) for outcome in UNANSWERED):
        desk.say(_without_reply(store, out, count, desk))
    desk.tell(summary(store) | {"output": str(out), "seconds": round(seconds, 1)})
    return exit_code(tally)


def _without_reply(store: RunStore, out: Path, count: int, desk: Desk) -> str:
    if out.suffix.lower() in KEEPING_FORMAT:
        where, again = "listed in the sheet Errors", f"kotae retry {out}"
    else:
        where, again = "see the column error", f"kotae retry {store.manifest.run_id} -o OUT"
    return f"without a reply: {count} of them, {where}; {again}{_told(desk.home)} asks them anew"


def exit_code(tally: Tally) -> int:
    """Return 0 if every question has a completion, 3 if some rows have none, 4 if some were cancelled."""
    if tally.by_outcome.get(Outcome.CANCELLED):
        return 4
    return 3 if any(tally.by_outcome.get(outcome) for outcome in UNANSWERED) else 0


def summary(store: RunStore) -> dict[str, Any]:
    """Return what a run is and amounts to so far, for programs."""
    manifest, tally = store.manifest, store.tally()
    return {
        "run_id": manifest.run_id,
        "served_name": manifest.served_name,
        "rows": tally.rows,
        "stored": tally.stored,
        "outcomes": {str(outcome): count for outcome, count in tally.by_outcome.items()},
        "reused": sum(store.reused().values()),
        "yield": round(tally.answered / tally.asked, 4) if tally.asked else None,
        "prompt_tokens": tally.prompt_tokens,
        "output_tokens": tally.output_tokens,
        "price": price_of(store),
    }


def _priced(store: RunStore) -> str:
    price = price_of(store)
    return "" if price is None else f" · price {price:.4g}"


def _told(home: Path) -> str:
    return "" if home == DeskOptions.home else f" --home {home}"
