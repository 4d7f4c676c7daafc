"""The commands that have something asked: run, submit, retry."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from workers.contract.broker import CONTRACT_VERSION, broker_settings, sent_key
from workers.contract.errors import BrokerError, UserError
from workers.contract.messages import Answer, ModelIdentity, Outcome, Presence

from .anew import Again, listed_in, reopen
from .asking import adapters_of, own_words
from .desk import Desk, finish, summary
from .detach import detach
from .feed import Feeder
from .local import LocalFleet, LocalModel, choose_model, local_fleet
from .manage import check_output, open_run_by_name, questions_in, refuse_to_overwrite_the_source
from .options import AskOptions
from .partial import Output, PartialWorkbooks
from .prepare import Plan, make_plan, open_run, questions_of
from .progress import RunProgress, duration, waiting_line
from .questions import Questions, is_asked, render
from .reuse import reuse_answers
from .runs import RunStore
from .submit import rows_of
from .transport import Transport
from .workbook.destination import KEEPING_FORMAT, check_writable
from .workbook.keeping import check_keeping
from .workbook.reading import text_encoding

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


def run(workbook: Path, ask: AskOptions, target: Target, output: Output, wait_for_worker: float, desk: Desk) -> int:
    """Answer a workbook: submit, wait, write. Run again, it resumes."""
    out = output.path
    refuse_to_overwrite_the_source(workbook, out)
    check_writable(out, ask.keep_format)
    plan = make_plan(workbook, ask)
    if ask.keep_format:
        check_keeping(workbook, out)
    began = time.monotonic()
    if target.broker is None:
        local = choose_model(target.model, target.engine, target.engine_args, target.adapter)
        store = answer_locally(plan, local, target, output, desk)
    else:
        store = answer_on_broker(plan, target, output, wait_for_worker, desk)
    with store:
        return finish(store, out, desk, time.monotonic() - began)


def submit(workbook: Path, ask: AskOptions, target: Target, detached: bool, desk: Desk) -> int:
    """Put a workbook's rows on the broker; leave as soon as all of them are there, or ``detached`` at once."""
    plan = make_plan(workbook, ask)
    with contextlib.closing(Transport(broker_settings(target.broker))) as transport:
        served_name = _served_name(transport, target.model)
        workers = transport.workers(served_name)
        if workers:
            _check_model_can(plan, transport.identity(workers[0].fingerprint), desk)
        show_first_prompt(plan, desk)
        with _opened(plan, served_name, target, transport, workers, desk) as store:
            if not detached:
                _feed(store, questions_of(plan, store), transport, desk, until_sent=True)
            run_id, told = store.manifest.run_id, summary(store)
        if not workers:
            desk.say(f"warning: no worker serves {served_name} at the moment; the rows wait for one")
        if detached:
            pid, log = detach(transport, run_id, desk.home)
            told["pid"] = pid
            desk.say(f"run {run_id}: process {pid} feeds and collects it from now on; its log is {log}")
        else:
            desk.say(f"run {run_id}: all rows are with the broker")
        desk.say(f"write the workbook with: kotae collect {run_id} -o OUT.xlsx")
        desk.tell(told)
        return 0


def retry(
    name: str,
    again: Again,
    broker: str | None,
    ledger: Path | None,
    out: Path | None,
    every: float | None,
    wait_for_worker: float,
    desk: Desk,
) -> int:
    """Ask the rows of a run anew that failed, timed out or were rejected, and write its workbook.

    A workbook that stands in place of the run's name says by its sheet Errors which of them.
    """
    began = time.monotonic()
    listed = listed_in(Path(name), desk) if Path(name).suffix else None
    if out is None:
        if listed is None:
            raise UserError("name the workbook to write with -o")
        suffix = Path(name).suffix if Path(name).suffix.lower() in KEEPING_FORMAT else ".xlsx"
        out = Path(f"{Path(name).stem}-retried{suffix}")
    with open_run_by_name(desk.home, listed.run_id if listed else name) as store:
        check_output(store, out)
        reopen(store, again, listed, desk)
        if not store.is_finished():
            with _connected(store, broker, ledger, wait_for_worker, desk) as (transport, check):
                _feed(store, questions_in(store), transport, desk, check, output=Output(out, every))
        return finish(store, out, desk, time.monotonic() - began)


@contextlib.contextmanager
def _connected(
    store: RunStore, broker: str | None, ledger: Path | None, patience: float, desk: Desk
) -> Iterator[tuple[Transport, Callable[[], None]]]:
    """Reach those who can go on with a run that was begun: its fleet, or a local one with the same model."""
    manifest = store.manifest
    if broker is None and manifest.local:
        adapter = (manifest.adapter or "", manifest.adapter_path) if manifest.adapter_path else None
        local = LocalModel(manifest.served_name, manifest.model, manifest.engine, manifest.engine_args, adapter)
        with _local_transport(local, ledger, desk) as (transport, _, fleet):
            yield transport, fleet.check
    else:
        with contextlib.closing(Transport(broker_settings(broker))) as transport:
            _refuse_another_model(store, _wait_for_workers(transport, manifest.served_name, patience, desk))
            yield transport, lambda: None


def answer_locally(plan: Plan, local: LocalModel, target: Target, output: Output, desk: Desk, *, show: bool = True) -> RunStore:
    """Have a model that we load answer what is left of a plan; return its run. ``show`` the first prompt."""
    adapter = local.adapter[0] if local.adapter else None
    known = None if plan.options.fresh else RunStore.open(desk.home, plan.run_id(local.served_name, adapter), writing=False)
    if known is not None:
        known.close()
        store = open_run(plan, desk.home, local.served_name, adapter, local)
        if _nothing_left(plan, store):
            desk.say("every row is answered already; no engine is started (--fresh asks anew)")
            if store.manifest.engine_args != local.engine_args:
                desk.say(f"note: these answers were made with other engine arguments: {store.manifest.engine_args or 'none'}")
            return store
        store.close()
    if local.model == "demo":
        desk.say("no model is named: answering with the demo model, SmolLM2-135M. It is a toy that shows the machine, not good answers")
    if show:
        show_first_prompt(plan, desk)
    with _local_transport(local, target.ledger, desk) as (transport, workers, fleet):
        _check_model_can(plan, transport.identity(workers[0].fingerprint), desk)
        store = open_run(plan, desk.home, local.served_name, adapter, local)
        try:
            _reuse(plan, store, transport, workers, desk)
            _feed(store, questions_of(plan, store), transport, desk, fleet.check, output=output)
        except BaseException:
            store.close()
            raise
    return store


@contextlib.contextmanager
def _local_transport(local: LocalModel, ledger: Path | None, desk: Desk) -> Iterator[tuple[Transport, list[Presence], LocalFleet]]:
    with local_fleet(local, desk.home, ledger) as fleet, contextlib.closing(Transport(fleet.settings)) as transport:
        with waiting_line(desk.console, f"starting the {local.engine} engine with {local.served_name} …") as waiting:
            workers = fleet.wait_until_ready(transport, waiting)
        yield transport, workers, fleet


def answer_on_broker(
    plan: Plan,
    target: Target,
    output: Output,
    wait_for_worker: float,
    desk: Desk,
    *,
    show: bool = True,
    check: Callable[[], None] = lambda: None,
) -> RunStore:
    """Have a fleet answer what is left of a plan; return its run. What ``check`` raises, called every now and then, stops it."""
    with contextlib.closing(Transport(broker_settings(target.broker))) as transport:
        served_name = _served_name(transport, target.model)
        known = None if plan.options.fresh else RunStore.open(desk.home, plan.run_id(served_name, target.adapter), writing=False)
        settled = False
        if known is not None:
            with known:
                settled = known.manifest.asked_rows >= _asked(plan) and _nothing_left(plan, known)
        workers = transport.workers(served_name) if settled else _wait_for_workers(transport, served_name, wait_for_worker, desk, check)
        if not settled:
            _check_model_can(plan, transport.identity(workers[0].fingerprint), desk)
            if show:
                show_first_prompt(plan, desk)
        store = _opened(plan, served_name, target, transport, workers, desk)
        try:
            if not _nothing_left(plan, store):
                _feed(store, questions_of(plan, store), transport, desk, check, output=output)
        except BaseException:
            store.close()
            raise
        return store


def _feed(
    store: RunStore,
    questions: Questions,
    transport: Transport,
    desk: Desk,
    check: Callable[[], None] = lambda: None,
    *,
    until_sent: bool = False,
    output: Output | None = None,
) -> None:
    partial = PartialWorkbooks(store.manifest.run_id, output, desk)
    with RunProgress(desk.console, store.tally()) as progress, partial:

        def watch(answers: list[Answer]) -> None:
            check()
            progress.watch(answers)
            partial.look()

        try:
            Feeder(transport, store, questions, store.manifest.window, desk.say).run(watch, until_sent=until_sent)
        except BrokerError:
            check()  # if the server was ours, its end is the cause
            raise


def _opened(plan: Plan, served_name: str, target: Target, transport: Transport, workers: list[Presence], desk: Desk) -> RunStore:
    """Open a run that a fleet answers, and take over what earlier runs have answered."""
    store = open_run(plan, desk.home, served_name, target.adapter, None)
    try:
        if not _nothing_left(plan, store):
            _refuse_another_model(store, workers)
            _reuse(plan, store, transport, workers, desk)
    except BaseException:
        store.close()
        raise
    return store


def _refuse_another_model(store: RunStore, workers: list[Presence]) -> None:
    """Hold the model that answers now against the one that answered before."""
    answered_by, serving = set(store.fingerprints()), {worker.fingerprint for worker in workers}
    if answered_by and serving and not answered_by & serving:
        raise UserError(
            f"run {store.manifest.run_id} was answered by another model (fingerprint {', '.join(sorted(answered_by))}) than"
            f" {store.manifest.served_name} is now ({', '.join(sorted(serving))}): --fresh asks anew, or serve it under a new name"
        )


def _reuse(plan: Plan, store: RunStore, transport: Transport, workers: list[Presence], desk: Desk) -> None:
    """Take what earlier runs have answered into a new run, of which nothing is on its way yet."""
    if plan.options.no_reuse or plan.options.fresh or store.fingerprints():
        return
    if rows_of(transport, sent_key(store.manifest.run_id, store.manifest.generation)):
        return
    copied = reuse_answers(store, desk.home, questions_of(plan, store), {worker.fingerprint for worker in workers})
    if copied:
        desk.say(f"{copied} of {store.manifest.asked_rows} answers are taken from earlier runs that asked the same (--no-reuse asks anew)")


def _served_name(transport: Transport, model: str | None) -> str:
    if model is not None:
        return model
    served = sorted({worker.served_name for worker in transport.workers()})
    if len(served) == 1:
        return served[0]
    raise UserError(f"name the model to ask with --model; served at the moment: {', '.join(served) or 'none'}")


def _wait_for_workers(
    transport: Transport, served_name: str, patience: float, desk: Desk, check: Callable[[], None] = lambda: None
) -> list[Presence]:
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        line: Callable[[float], object] | None = None
        while not (workers := transport.workers(served_name)):
            check()
            waited = time.monotonic() - started
            if waited > patience:
                others = ", ".join(sorted({worker.served_name for worker in transport.workers()})) or "none"
                raise UserError(
                    f"no worker serves {served_name} (waited {duration(patience)}, --wait-for-worker); served at the moment: {others}"
                    f"{_strangers(transport, served_name)}"
                )
            line = line or stack.enter_context(waiting_line(desk.console, f"waiting for a worker that serves {served_name} …"))
            line(waited)
            time.sleep(0.5)
    return workers


def _strangers(transport: Transport, served_name: str) -> str:
    """Say how many workers of a served name speak another contract version; empty if none does."""
    contracts = [worker.contract for worker in transport.present(served_name) if worker.contract != CONTRACT_VERSION]
    if not contracts:
        return ""
    count = f"{len(contracts)} workers speak" if len(contracts) > 1 else "1 worker speaks"
    spoken = ", ".join(map(str, sorted(set(contracts))))
    return f"; {count} contract {spoken}, this kotae speaks {CONTRACT_VERSION}: upgrade what is older"


def _check_model_can(plan: Plan, identity: ModelIdentity | None, desk: Desk) -> None:
    if identity is None:
        return
    if plan.sampling.enforce_format is not None and not identity.enforces_format:
        raise UserError(f"--enforce-format: the {identity.engine} engine {identity.engine_version} cannot hold replies to a format")
    if unknown := sorted(adapters_of(plan.rows) - identity.adapters.keys()):
        has = ", ".join(identity.adapters) or "none"
        desk.say(f"warning: {identity.served_name} has no adapter {', '.join(unknown)} (it has: {has}); rows that name it will be rejected")


def _asked(plan: Plan) -> int:
    return min(plan.options.limit or plan.sheet.height, plan.sheet.height)


def _nothing_left(plan: Plan, store: RunStore) -> bool:
    settled = store.settled_rows()
    cancelled = store.tally().by_outcome.get(Outcome.CANCELLED, 0)
    return not cancelled and all(row in settled or not is_asked(plan.rows[row]) for row in range(_asked(plan)))


def show_first_prompt(plan: Plan, desk: Desk) -> None:
    """People find a wrong column or prompt by looking at the first one."""
    first = next((asked for asked in plan.rows if is_asked(asked)), None)
    if first is None:
        raise UserError(f"sheet {plan.sheet.name!r} of {plan.workbook} has no question in any row")
    if plan.sheet.header_row > 1 and plan.options.header_row is None:
        desk.say(f"the header is row {plan.sheet.header_row}; what stands above it is not asked (--header-row names another row)")
    if encoding := text_encoding(plan.workbook):
        desk.say(f"{plan.workbook} is not UTF-8: it is read as {encoding}")
    lines = [f"{m.role}: {line}" for m in render(first, plan.system_prompt) for line in m.content.strip("\n").splitlines() or [""]]
    shown = lines[:_PROMPT_LINES] + ([f"… {len(lines) - _PROMPT_LINES} more lines"] if len(lines) > _PROMPT_LINES else [])
    desk.say(f"the first prompt{own_words(first)}:\n" + "\n".join(f"  │ {line}" for line in shown))
