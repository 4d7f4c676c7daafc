"""What is done to a run that is stored: collect, runs, cancel."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from rich.table import Table

from workers.contract.broker import broker_settings
from workers.contract.errors import UserError
from workers.contract.messages import Answer

from .desk import Desk, finish, summary
from .feed import Feeder
from .partial import Output, PartialWorkbooks
from .progress import RunProgress, outcome_line, waiting_line
from .questions import Questions
from .run_files import RunBusy
from .runs import RunStore, delete_run, find_run, list_runs
from .steered import read_rows
from .transport import LEASE, Transport
from .workbook.destination import check_writable, record_path
from .workbook.keeping import check_keeping
from .workbook.reading import Sheet, read_sheet

#: Seconds between two looks at a run that another process feeds.
_LOOK = 0.5


def collect(name: str, broker: str | None, output: Output, partial: bool, desk: Desk) -> int:
    """Wait for a run that was submitted, store what comes back, and write its workbook; with ``partial``, what there is by now."""
    began, out = time.monotonic(), output.path
    run_id = find_run(desk.home, name)
    with open_run_by_name(desk.home, run_id, writing=False) as store:
        check_output(store, out)
        finished, local = store.is_finished(), store.manifest.local
    if local and not finished and not partial:
        raise UserError(f"run {run_id} was begun without a broker: resume it by its own command, or use --partial")
    if not finished and not local:
        try:
            with PartialWorkbooks(run_id, output, desk) as workbooks:
                _fetch(run_id, broker, partial, workbooks, desk)
        except UserError as error:
            if not partial:
                raise
            desk.say(f"warning: {error}; the workbook holds what was fetched before")
    with open_run_by_name(desk.home, run_id, writing=False) as store:
        return finish(store, out, desk, time.monotonic() - began)


def feed(name: str, broker: str | None, desk: Desk) -> int:
    """Feed and collect a run until it is done, and write no workbook."""
    run_id = find_run(desk.home, name)
    with open_run_by_name(desk.home, run_id) as store:
        _collect(store, broker, False, PartialWorkbooks(run_id, None, desk), desk)
    return 0


def cancel(name: str, broker: str | None, desk: Desk) -> int:
    """Stop a run everywhere: no row of it is begun any more, running ones are aborted, and what is answered is kept."""
    run_id = find_run(desk.home, name)
    with open_run_by_name(desk.home, run_id, writing=False) as store:
        manifest, finished, told = store.manifest, store.is_finished(), summary(store)
    if finished:
        desk.say(f"run {run_id} is finished; there is nothing to cancel")
        desk.tell(told)
        return 0
    if manifest.local:
        raise UserError(f"run {run_id} has a server and workers of its own: stop it with Ctrl-C where it runs")
    with contextlib.closing(Transport(broker_settings(broker))) as transport:
        transport.raise_generation(run_id, manifest.generation)  # all workers drop its rows now
        _wait_until_let_go(transport, run_id, desk)
        with _open_let_go(run_id, desk) as store:
            if not store.is_finished():  # nobody was at work on it
                Feeder(transport, store, questions_in(store), manifest.window, desk.say).cancel()
            desk.say(f"run {run_id} is cancelled: {outcome_line(store.tally())}")
            desk.tell(summary(store))
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
    for store in readable(list_runs(desk.home), desk):
        manifest, tally = store.manifest, store.tally()
        summaries.append(summary(store))
        source, begun = Path(manifest.source_path).name, manifest.created_at[:19]
        cells = (manifest.run_id, begun, manifest.served_name, source, tally.rows, tally.stored, tally.answered)
        table.add_row(*map(str, cells))
    desk.console.print(table) if summaries else desk.say(f"no runs in {desk.home}")
    desk.tell({"runs": summaries})
    return 0


def open_run_by_name(home: Path, name: str, *, writing: bool = True) -> RunStore:
    """Open the run that a name stands for. Raises UserError."""
    store = RunStore.open(home, find_run(home, name), writing=writing)
    assert store is not None, "find_run returns runs that exist"
    return store


def readable(names: list[str], desk: Desk) -> Iterator[RunStore]:
    """Open runs one after the other to look at them; one that is damaged is said and passed over."""
    for name in names:
        try:
            with open_run_by_name(desk.home, name, writing=False) as store:
                yield store
        except UserError as error:
            desk.say(f"{name}  {error}")


def questions_in(store: RunStore) -> Questions:
    """Return the questions of a run from its own copy of the workbook."""
    manifest = store.manifest
    with store.source() as source:
        sheet = read_sheet(source, manifest.sheet, manifest.question_column, manifest.header_row)
        return Questions(read_rows(sheet, manifest.steering, manifest.sampling), manifest, store.reopened())


def sheet_of(store: RunStore) -> Sheet:
    """Return the sheet of a run from its own copy of the workbook, without its rows."""
    with store.source() as source:
        return read_sheet(source, store.manifest.sheet, store.manifest.question_column, store.manifest.header_row).without_rows()


def check_output(store: RunStore, out: Path) -> None:
    """Check, before anything is waited for, that a run's workbook can be written to this place. Raises UserError."""
    check_writable(out, store.manifest.keep_format)
    refuse_to_overwrite_the_source(Path(store.manifest.source_path), out)
    if store.manifest.keep_format:
        with store.source() as source:
            check_keeping(source, out)


def refuse_to_overwrite_the_source(source: Path, out: Path) -> None:
    """Raise UserError if the output is the workbook that was read."""
    for written in (out, record_path(out)):
        try:
            same = (written.exists() and source.exists() and written.samefile(source)) or written.absolute() == source.absolute()
        except (OSError, RuntimeError) as error:  # a name that is too long, links in a circle
            raise UserError(f"{written} cannot be used: {getattr(error, 'strerror', None) or error}") from error
        if same:
            what = "the workbook itself" if written is out else f"beside {written}, which is the workbook itself"
            raise UserError(f"the output {out} is {what}; give it another name with -o")


def _fetch(run_id: str, broker: str | None, partial: bool, workbooks: PartialWorkbooks, desk: Desk) -> None:
    """Bring a run home, or wait for the process that is at it already."""
    while True:
        try:
            with open_run_by_name(desk.home, run_id) as store:
                _collect(store, broker, partial, workbooks, desk)
                return
        except RunBusy as busy:
            if partial:
                return
            desk.say(f"{str(busy).partition(';')[0]}; waiting for it")
            _follow(run_id, workbooks, desk)


def _collect(store: RunStore, broker: str | None, partial: bool, workbooks: PartialWorkbooks, desk: Desk) -> None:
    if store.is_finished():
        return
    with contextlib.closing(Transport(broker_settings(broker))) as transport:
        feeder = Feeder(transport, store, questions_in(store), store.manifest.window, desk.say)
        if partial:
            feeder.collect_once()
            return
        with RunProgress(desk.console, store.tally()) as progress:

            def watch(answers: list[Answer]) -> None:
                progress.watch(answers)
                workbooks.look()

            feeder.run(watch)


def _follow(run_id: str, workbooks: PartialWorkbooks, desk: Desk) -> None:
    """Wait until a run is finished, or until the process that was at it is no more."""
    with waiting_line(desk.console, f"run {run_id} is fed by another process …") as line:
        began = time.monotonic()
        while True:
            time.sleep(_LOOK)
            with open_run_by_name(desk.home, run_id, writing=False) as store:
                if store.is_finished():
                    return
            with contextlib.suppress(RunBusy), open_run_by_name(desk.home, run_id):
                return
            line(time.monotonic() - began)
            workbooks.look()


def _wait_until_let_go(transport: Transport, run_id: str, desk: Desk) -> None:
    holder, end = transport.holder(run_id), time.monotonic() + LEASE + 5
    if holder:
        desk.say(f"{holder} is told to stop")
    while transport.holder(run_id) == holder != "" and time.monotonic() < end:
        time.sleep(_LOOK)


def _open_let_go(run_id: str, desk: Desk) -> RunStore:
    """Open a run that nobody feeds any more; whoever did may still be writing its workbook, and then it is finished."""
    end = time.monotonic() + LEASE
    while True:
        try:
            return open_run_by_name(desk.home, run_id)
        except RunBusy:
            store = open_run_by_name(desk.home, run_id, writing=False)
            if store.is_finished():
                return store
            store.close()
            if time.monotonic() > end:
                raise
            time.sleep(_LOOK)
