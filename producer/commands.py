"""What the commands do: one function each, from options to an exit code."""

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from workers.contract.broker import broker_settings
from workers.contract.errors import BrokerError, UserError
from workers.contract.messages import UNANSWERED, Answer, ModelIdentity, Outcome, Presence

from .feed import Feeder
from .local import LocalModel, choose_model, local_fleet
from .manifest import Tally
from .options import AskOptions
from .prepare import Plan, make_plan, open_run, questions_of
from .progress import RunProgress, duration, outcome_line, waiting_line
from .questions import Questions, is_asked, render
from .runs import RunStore, delete_run, find_run, list_runs
from .transport import Transport
from .workbook.assembly import write_workbook
from .workbook.reading import read_sheet
from .workbook.writing import check_writable

#: Lines of the first prompt that are shown before anything is sent.
_PROMPT_LINES = 20


class Target(NamedTuple):
    """Who is to answer: a served name on a broker, or a model that we load ourselves."""

    broker: str | None
    model: str | None
    adapter: str | None
    engine: str
    engine_args: dict[str, Any]
    ledger: Path | None


class Desk(NamedTuple):
    """Where the person sits: home, console, and whether a program reads along."""

    home: Path
    console: Console
    as_json: bool

    def say(self, line: str) -> None:
        """Print a line for people."""
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)


def run(workbook: Path, ask: AskOptions, target: Target, out: Path, wait_for_worker: float, desk: Desk) -> int:
    """Answer a workbook: submit, wait, write. Run again, it resumes."""
    _refuse_to_overwrite_the_source(workbook, out)
    check_writable(out)
    plan = make_plan(workbook, ask)
    began = time.monotonic()
    if target.broker is None:
        local = choose_model(target.model, target.engine, target.engine_args, target.adapter)
        store = _run_locally(plan, local, target, desk)
    else:
        store = _run_on_broker(plan, target, wait_for_worker, desk)
    with store:
        return _finish(store, out, desk, time.monotonic() - began)


def submit(workbook: Path, ask: AskOptions, target: Target, desk: Desk) -> int:
    """Put a workbook's rows on the broker; leave as soon as all of them are there."""
    plan = make_plan(workbook, ask)
    with contextlib.closing(Transport(broker_settings(target.broker))) as transport:
        served_name = _served_name(transport, target.model)
        workers = transport.workers(served_name)
        if workers:
            _check_model_can(plan, transport.identity(workers[0].fingerprint))
        _show_first_prompt(plan, desk)
        with _opened(plan, desk.home, served_name, target, transport, workers) as store:
            with RunProgress(desk.console, store.tally()) as progress:
                Feeder(transport, store, questions_of(plan, store), plan.options.window).run(progress.watch, until_sent=True)
            if not workers:
                desk.say(f"warning: no worker serves {served_name} at the moment; the rows wait for one")
            run_id = store.manifest.run_id
            desk.say(f"run {run_id}: all rows are with the broker; write the workbook with: kotae collect {run_id} -o OUT.xlsx")
            _print_json(desk, _summary(store))
            return 0


def collect(name: str, broker: str | None, out: Path, partial: bool, desk: Desk) -> int:
    """Wait for a run that was submitted, store what comes back, and write its workbook; with ``partial``, what there is by now."""
    check_writable(out)
    with _opened_by_name(desk.home, name) as store:
        _refuse_to_overwrite_the_source(Path(store.manifest.source_path), out)
        began = time.monotonic()
        unfinished = store.tally().stored < store.manifest.asked_rows
        if unfinished and store.manifest.local and not partial:
            raise UserError(f"run {store.manifest.run_id} was begun without a broker: resume it by its own command, or use --partial")
        if unfinished and not store.manifest.local:
            with contextlib.closing(Transport(broker_settings(broker))) as transport:
                with store.source() as source:
                    sheet = read_sheet(source, store.manifest.sheet, store.manifest.question_column)
                questions = Questions(sheet.questions(), store.manifest)
                feeder = Feeder(transport, store, questions, window=20_000)
                if partial:
                    feeder.collect_once()
                else:
                    with RunProgress(desk.console, store.tally()) as progress:
                        feeder.run(progress.watch)
        return _finish(store, out, desk, time.monotonic() - began)


def status(name: str | None, broker: str | None, desk: Desk) -> int:
    """Show one run or all, and the workers and queues of a broker if one is named."""
    names = [find_run(desk.home, name)] if name else list_runs(desk.home)
    summaries = []
    for run_id in names:
        with _opened_by_name(desk.home, run_id, writing=False) as store:
            summaries.append(_summary(store))
            desk.say(f"{run_id}  {store.manifest.served_name}  {outcome_line(store.tally())}")
    if not names:
        desk.say(f"no runs in {desk.home}")
    workers: list[Presence] = []
    if broker is not None:
        with contextlib.closing(Transport(broker_settings(broker))) as transport:
            workers = transport.workers()
            waiting = {served: sum(transport.queue_lengths(served).values()) for served in {worker.served_name for worker in workers}}
        _show_workers(workers, waiting, desk)
    _print_json(desk, {"runs": summaries, "workers": [worker.model_dump(mode="json") for worker in workers]})
    return 0


def runs(delete: str | None, desk: Desk) -> int:
    """List the runs of a home, or delete one."""
    if delete is not None:
        run_id = find_run(desk.home, delete)
        delete_run(desk.home, run_id)
        desk.say(f"run {run_id} is deleted")
        return 0
    table = Table("run", "begun", "served name", "source", "rows", "stored", "answered", box=None, pad_edge=False)
    summaries = []
    for run_id in list_runs(desk.home):
        with _opened_by_name(desk.home, run_id, writing=False) as store:
            manifest, tally = store.manifest, store.tally()
            summaries.append(_summary(store))
            cells = (
                run_id,
                manifest.created_at[:19],
                manifest.served_name,
                Path(manifest.source_path).name,
                tally.rows,
                tally.stored,
                tally.answered,
            )
            table.add_row(*map(str, cells))
    desk.console.print(table) if summaries else desk.say(f"no runs in {desk.home}")
    _print_json(desk, {"runs": summaries})
    return 0


def _run_locally(plan: Plan, local: LocalModel, target: Target, desk: Desk) -> RunStore:
    adapter = local.adapter[0] if local.adapter else None
    known = None if plan.options.fresh else RunStore.open(desk.home, plan.run_id(local.served_name, adapter), writing=False)
    if known is not None:
        known.close()
        store = open_run(plan, desk.home, local.served_name, adapter, local.model, local.engine_args, local=True)
        if _nothing_left(plan, store):
            desk.say("every row is answered already; no engine is started (--fresh asks anew)")
            if store.manifest.engine_args != local.engine_args:
                desk.say(f"note: these answers were made with other engine arguments: {store.manifest.engine_args or 'none'}")
            return store
        store.close()
    if local.model == "demo":
        desk.say("no model is named: answering with the demo model, SmolLM2-135M. It is a toy that shows the machine, not good answers")
    _show_first_prompt(plan, desk)
    with local_fleet(local, desk.home, target.ledger) as fleet, contextlib.closing(Transport(fleet.settings)) as transport:
        with waiting_line(desk.console, f"starting the {local.engine} engine with {local.served_name} …") as waiting:
            identity = fleet.wait_until_ready(transport, waiting)
        _check_model_can(plan, identity)
        store = open_run(plan, desk.home, local.served_name, adapter, local.model, local.engine_args, local=True)
        try:
            _feed(plan, store, transport, desk, fleet.check)
        except BaseException:
            store.close()
            raise
    return store


def _run_on_broker(plan: Plan, target: Target, wait_for_worker: float, desk: Desk) -> RunStore:
    with contextlib.closing(Transport(broker_settings(target.broker))) as transport:
        served_name = _served_name(transport, target.model)
        known = None if plan.options.fresh else RunStore.open(desk.home, plan.run_id(served_name, target.adapter), writing=False)
        settled = False
        if known is not None:
            with known:
                settled = known.manifest.asked_rows >= _asked(plan) and _nothing_left(plan, known)
        workers = transport.workers(served_name) if settled else _wait_for_workers(transport, served_name, wait_for_worker, desk)
        if not settled:
            _check_model_can(plan, transport.identity(workers[0].fingerprint))
            _show_first_prompt(plan, desk)
        store = _opened(plan, desk.home, served_name, target, transport, workers)
        try:
            if not _nothing_left(plan, store):
                _feed(plan, store, transport, desk, lambda: None)
        except BaseException:
            store.close()
            raise
        return store


def _feed(plan: Plan, store: RunStore, transport: Transport, desk: Desk, check: Callable[[], None]) -> None:
    if store.manifest.queue is None:
        store.update(queue=transport.emptiest_queue(store.manifest.served_name, store.manifest.run_id))
    with RunProgress(desk.console, store.tally()) as progress:

        def watch(answers: list[Answer]) -> None:
            check()
            progress.watch(answers)

        try:
            Feeder(transport, store, questions_of(plan, store), plan.options.window).run(watch)
        except BrokerError:
            check()  # if the server was ours, its end is the cause
            raise


def _opened(plan: Plan, home: Path, served_name: str, target: Target, transport: Transport, workers: list[Presence]) -> RunStore:
    """Open a run that a fleet answers, and hold its model against the one that answered before."""
    store = open_run(plan, home, served_name, target.adapter, served_name, {}, local=False)
    try:
        answered_by, serving = set(store.fingerprints()), {worker.fingerprint for worker in workers}
        if answered_by and serving and not answered_by & serving and not _nothing_left(plan, store):
            raise UserError(
                f"run {store.manifest.run_id} was answered by another model (fingerprint {', '.join(sorted(answered_by))})"
                f" than {served_name} is now ({', '.join(sorted(serving))}): --fresh asks anew, or serve the new model under a new name"
            )
        if store.manifest.queue is None:
            store.update(queue=transport.emptiest_queue(served_name, store.manifest.run_id))
    except BaseException:
        store.close()
        raise
    return store


def _opened_by_name(home: Path, name: str, *, writing: bool = True) -> RunStore:
    store = RunStore.open(home, find_run(home, name), writing=writing)
    assert store is not None, "find_run returns runs that exist"
    return store


def _served_name(transport: Transport, model: str | None) -> str:
    if model is not None:
        return model
    served = sorted({worker.served_name for worker in transport.workers()})
    if len(served) == 1:
        return served[0]
    raise UserError(f"name the model to ask with --model; served at the moment: {', '.join(served) or 'none'}")


def _wait_for_workers(transport: Transport, served_name: str, patience: float, desk: Desk) -> list[Presence]:
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        line: Callable[[float], object] | None = None
        while not (workers := transport.workers(served_name)):
            waited = time.monotonic() - started
            if waited > patience:
                others = ", ".join(sorted({worker.served_name for worker in transport.workers()})) or "none"
                raise UserError(
                    f"no worker serves {served_name} (waited {duration(patience)}, --wait-for-worker); served at the moment: {others}"
                )
            line = line or stack.enter_context(waiting_line(desk.console, f"waiting for a worker that serves {served_name} …"))
            line(waited)
            time.sleep(0.5)
    return workers


def _check_model_can(plan: Plan, identity: ModelIdentity | None) -> None:
    if plan.sampling.enforce_format is not None and identity is not None and not identity.enforces_format:
        raise UserError(f"--enforce-format: the {identity.engine} engine {identity.engine_version} cannot hold replies to a format")


def _asked(plan: Plan) -> int:
    return min(plan.options.limit or len(plan.sheet.rows), len(plan.sheet.rows))


def _nothing_left(plan: Plan, store: RunStore) -> bool:
    stored = store.stored_rows()
    questions = plan.sheet.questions()
    return all(row in stored or not is_asked(questions[row]) for row in range(_asked(plan)))


def _show_first_prompt(plan: Plan, desk: Desk) -> None:
    """People find a wrong column or prompt by looking at the first one."""
    first = next((q for q in plan.sheet.questions() if is_asked(q)), None)
    if first is None:
        raise UserError(f"sheet {plan.sheet.name!r} of {plan.workbook} has no question in any row")
    lines = [f"{m.role}: {line}" for m in render(first, plan.system_prompt) for line in m.content.strip("\n").splitlines() or [""]]
    shown = lines[:_PROMPT_LINES] + ([f"… {len(lines) - _PROMPT_LINES} more lines"] if len(lines) > _PROMPT_LINES else [])
    desk.say("the first prompt:\n" + "\n".join(f"  │ {line}" for line in shown))


def _finish(store: RunStore, out: Path, desk: Desk, seconds: float) -> int:
    for notice in write_workbook(store, out):
        desk.say(f"note: {notice}")
    tally = store.tally()
    desk.say(f"{outcome_line(tally)} · {duration(seconds)}")
    desk.say(f"workbook: {out}\nrun: {store.manifest.run_id} in {store.path.parent.parent}")
    _print_json(desk, _summary(store) | {"output": str(out), "seconds": round(seconds, 1)})
    return exit_code(tally)


def exit_code(tally: Tally) -> int:
    """Return 0 if every question has a completion, 3 if some rows have none, 4 if some were cancelled."""
    if tally.by_outcome.get(Outcome.CANCELLED):
        return 4
    return 3 if any(tally.by_outcome.get(outcome) for outcome in UNANSWERED) else 0


def _summary(store: RunStore) -> dict[str, Any]:
    manifest, tally = store.manifest, store.tally()
    return {
        "run_id": manifest.run_id,
        "served_name": manifest.served_name,
        "rows": tally.rows,
        "stored": tally.stored,
        "outcomes": {str(outcome): count for outcome, count in tally.by_outcome.items()},
        "yield": round(tally.answered / tally.asked, 4) if tally.asked else None,
        "prompt_tokens": tally.prompt_tokens,
        "output_tokens": tally.output_tokens,
    }


def _print_json(desk: Desk, value: dict[str, Any]) -> None:
    if desk.as_json:
        print(json.dumps(value, ensure_ascii=False), flush=True)


def _show_workers(workers: list[Presence], waiting: dict[str, int], desk: Desk) -> None:
    if not workers:
        desk.say("no workers")
        return
    table = Table("worker", "served name", "GPU", "in flight", "rows waiting", box=None, pad_edge=False)
    for worker in workers:
        table.add_row(
            worker.worker,
            worker.served_name,
            worker.gpu or "-",
            f"{worker.in_flight}/{worker.max_in_flight}",
            str(waiting[worker.served_name]),
        )
    desk.console.print(table)


def _refuse_to_overwrite_the_source(source: Path, out: Path) -> None:
    if (out.exists() and source.exists() and out.samefile(source)) or out.absolute() == source.absolute():
        raise UserError(f"the output {out} is the workbook itself; give it another name with -o")
