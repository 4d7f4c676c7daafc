"""Looking at runs and at the fleet: `status` once, `watch` until a run is done."""

import contextlib
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from workers.contract.broker import CONTRACT_VERSION, broker_settings
from workers.contract.errors import BrokerError, UserError

from .desk import Desk
from .manage import readable
from .overview import Fleet, fleet_of, overview, place_in, told_of
from .progress import duration, outcome_line
from .runs import find_run, list_runs
from .transport import Transport

#: Seconds between two looks, and between two that are told where there is no terminal.
_LOOK, _PLAIN = 1.0, 10.0
#: Times as long as a look took that is waited until the next: one at a million rows takes a second.
_REST = 5


class View(NamedTuple):
    """What is seen at one look."""

    #: For each run what it is for programs, and its first line for people.
    runs: list[tuple[dict[str, Any], str]]
    fleet: Fleet | None
    #: Why the fleet could not be asked.
    trouble: str = ""

    def told(self) -> dict[str, Any]:
        """Return it for programs."""
        return {"runs": [run for run, _ in self.runs]} | (told_of(self.fleet) if self.fleet is not None else {"workers": []})


def status(name: str | None, broker: str | None, gpu_hour_price: float | None, desk: Desk) -> int:
    """Show one run or all, and the workers and queues of a broker if one is named. Raises UserError."""
    names = [find_run(desk.home, name)] if name else list_runs(desk.home)
    with _connected(broker) as transport:
        view = _look(names, transport, gpu_hour_price, desk)
    if not names:
        desk.say(f"no runs in {desk.home}")
    for part in _shown(view):
        desk.console.print(part, highlight=False, soft_wrap=isinstance(part, Text))
    desk.tell(view.told())
    return 0


def watch(name: str, broker: str | None, gpu_hour_price: float | None, desk: Desk) -> int:
    """Show a run, and the fleet if a broker is named, until the run is finished; programs get a line of JSON a look. Raises UserError.

    Whoever stops watching stops nothing else.
    """
    run_id = find_run(desk.home, name)
    with contextlib.ExitStack() as stack:
        transport = stack.enter_context(_connected(broker))
        live = stack.enter_context(Live(console=desk.console, auto_refresh=False)) if desk.console.is_terminal else None
        said = float("-inf")
        while True:
            began = time.monotonic()
            view = _look_patiently(run_id, transport, gpu_hour_price, desk)
            finished = all(run["finished"] for run, _ in view.runs)
            if live is not None:
                live.update(Group(*_shown(view)), refresh=True)
            if finished or began - said >= _PLAIN:
                said = began
                desk.tell(view.told())
                for part in _shown(view) if live is None else ():
                    desk.console.print(part, highlight=False, soft_wrap=isinstance(part, Text))
            if finished:
                return 0
            time.sleep(max(_LOOK, _REST * (time.monotonic() - began)))


def _look_patiently(run_id: str, transport: Transport | None, gpu_hour_price: float | None, desk: Desk) -> View:
    """Look at one run. A broker that no longer answers is said, and waited for. Raises UserError if the run is gone."""
    try:
        view = _look([run_id], transport, gpu_hour_price, desk)
    except BrokerError as error:
        view = _look([run_id], None, gpu_hour_price, desk)._replace(trouble=str(error))
    if not view.runs:
        raise UserError(f"run {run_id} can no longer be read")
    return view


@contextlib.contextmanager
def _connected(broker: str | None) -> Iterator[Transport | None]:
    if broker is None:
        yield None
        return
    with contextlib.closing(Transport(broker_settings(broker))) as transport:
        yield transport


def _look(names: list[str], transport: Transport | None, gpu_hour_price: float | None, desk: Desk) -> View:
    manifests, runs = [], []
    for store in readable(names, desk):
        manifests.append(store.manifest)
        runs.append((overview(store, gpu_hour_price), outcome_line(store.tally())))
    fleet = fleet_of(transport, manifests) if transport is not None else None
    if fleet is not None:
        for manifest, (run, _) in zip(manifests, runs, strict=True):
            run.update(place_in(fleet, manifest))
    return View(runs, fleet)


def _shown(view: View) -> Iterator[RenderableType]:
    for run, outcomes in view.runs:
        yield Text(f"{run['run_id']}  {run['served_name']}  {outcomes}")
        if details := _details(run):
            yield Text(f"    {details}")
    if view.trouble:
        yield Text(view.trouble, style="bold")
    if view.fleet is not None:
        yield from _fleet(view.fleet, {run["run_id"] for run, _ in view.runs})


def _details(run: dict[str, Any]) -> str:
    parts = []
    if not run["finished"]:
        left = "standing still" if run["seconds_left"] is None else f"{duration(run['seconds_left'])} left"
        parts += [f"{run['rows_per_second']:.1f} rows/s", f"{run['tokens_per_second']:,.0f} tokens/s", left]
    if run["seconds_to_first_answer"] is not None:
        parts.append(f"first answer after {duration(run['seconds_to_first_answer'])}")
    if run["gpu_seconds_per_row"]:
        parts.append(f"{run['gpu_seconds_per_row']:.3g} GPU-seconds a row")
    if run.get("cost_per_row") is not None:
        parts.append(f"cost {_plain(run['cost_per_row'])} a row, {_plain(run['cost'])} so far")
    if not run["finished"] and "in_flight" in run:
        share = f" ({run['share']:.0%} of {run['served_name']})" if run["share"] is not None else ""
        parts += [f"{run['in_flight']:,} in flight{share}", f"{run['on_its_queue']:,} on its queue"]
    if run["priority"] and not run["finished"]:
        parts.append("goes first")
    return " · ".join(parts)


def _plain(amount: float) -> str:
    """Return a sum of money to three digits, without an exponent: a row costs some hundred-thousandths."""
    return f"{Decimal(f'{amount:.3g}'):f}"


def _fleet(fleet: Fleet, ours: set[str]) -> Iterator[RenderableType]:
    if not fleet.workers:
        yield Text("no workers")
        return
    table = Table("worker", "served name", "host", "GPU", "in flight", "rows/s", "tokens/s", "seen", "", box=None, pad_edge=False)
    for worker, seen in fleet.workers:
        stranger = [f"contract {worker.contract}"] if worker.contract != CONTRACT_VERSION else []
        notes = [*stranger, *(["leaving"] if worker.leaving else [])]
        numbers = (f"{worker.in_flight}/{worker.max_in_flight}", f"{worker.rows_per_second:.1f}", f"{worker.tokens_per_second:,.0f}")
        table.add_row(*(worker.worker, worker.served_name, worker.host, worker.gpu or "-", *numbers, f"{seen:.0f} s ago", ", ".join(notes)))
    yield table
    for served_name in fleet.served_names():
        rows = fleet.in_flight(served_name)
        yield Text(f"{served_name}: {rows.total():,} rows in engines, {fleet.waiting(served_name):,} waiting{_others(rows, ours)}")


def _others(rows: dict[str, int], ours: set[str]) -> str:
    """Say what runs that are not shown here have in the engines."""
    others = {run_id: count for run_id, count in rows.items() if run_id not in ours}
    total = sum(rows.values())
    told = ", ".join(f"{run_id} {count / total:.0%}" for run_id, count in sorted(others.items(), key=lambda item: -item[1])[:5])
    return f"; other runs: {told}" if told else ""
