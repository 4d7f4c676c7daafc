"""``kotae run`` with several models: one run for each, every one to be resumed alone, and one workbook with all answers side by side.

On this machine the models take turns. In a fleet each has workers of its own, and all runs go on at the same time.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from workers.contract.command_line import EXIT_USER_ERROR, complain
from workers.contract.errors import KotaeError, UserError

from .commands import Target, answer_locally, answer_on_broker, show_first_prompt
from .desk import Desk, exit_code, summary
from .local import LocalModel, choose_model
from .manage import refuse_to_overwrite_the_source
from .options import AskOptions
from .partial import Output
from .prepare import Plan, make_plan
from .progress import duration, outcome_line
from .runs import RunStore
from .workbook.destination import check_writable
from .workbook.side_by_side import write_side_by_side

_EXIT_FAILED = 1
#: Exit codes, the worst last: what could not be run at all is worse than what was cancelled, or lacks rows.
_WORST_LAST = (0, 3, 4, _EXIT_FAILED, EXIT_USER_ERROR)


class Side(NamedTuple):
    """One of the models."""

    served_name: str
    target: Target
    #: Where it is loaded here.
    local: LocalModel | None

    @property
    def adapter(self) -> str | None:
        """Return the name of the adapter that belongs to the run."""
        if self.local is None:
            return self.target.adapter
        return self.local.adapter[0] if self.local.adapter else None


def run_several(workbook: Path, ask: AskOptions, targets: list[Target], output: Output, wait_for_worker: float, desk: Desk) -> int:
    """Have each model answer a workbook, and write all answers side by side. What one model fails at costs the others nothing.

    The exit code is that of the model that ended worst. Raises UserError for what can be known before anything is asked.
    """
    began = time.monotonic()
    _check(workbook, ask, output)
    sides = [_side(target) for target in targets]
    names = [side.served_name for side in sides]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"--model {', '.join(twice)} is named twice")
    plan = make_plan(workbook, ask)
    show_first_prompt(plan, desk)
    codes = _in_turn(plan, sides, desk) if targets[0].broker is None else _at_once(plan, sides, wait_for_worker, desk)
    with ExitStack() as stack:
        opened = (RunStore.open(desk.home, plan.run_id(side.served_name, side.adapter), writing=False) for side in sides)
        stores = [stack.enter_context(store) for store in opened if store is not None]
        return max([*codes, _finish(stores, output.path, desk, time.monotonic() - began)], key=_WORST_LAST.index)


def _check(workbook: Path, ask: AskOptions, output: Output) -> None:
    refuse_to_overwrite_the_source(workbook, output.path)
    if ask.keep_format:
        raise UserError("--keep-format goes with one model: write the answers of several into a fresh file")
    if output.partial_every is not None:
        raise UserError("--partial-every goes with one model: kotae collect RUN --partial writes what there is of one of several")
    check_writable(output.path)


def _side(target: Target) -> Side:
    assert target.model is not None, "several models are named"
    if target.broker is not None:
        return Side(target.model, target, None)
    local = choose_model(target.model, target.engine, target.engine_args, target.adapter)
    return Side(local.served_name, target, local)


def _in_turn(plan: Plan, sides: list[Side], desk: Desk) -> list[int]:
    def answer(side: Side) -> RunStore:
        assert side.local is not None, "without a broker"
        desk.say(f"model {side.served_name}:")
        return answer_locally(plan, side.local, side.target, Output(Path()), desk, show=False)

    return [_code(side, partial(answer, side)) for side in sides]


def _at_once(plan: Plan, sides: list[Side], wait_for_worker: float, desk: Desk) -> list[int]:
    stopped = threading.Event()

    def check() -> None:
        if stopped.is_set():
            raise _Stopped

    def answer(side: Side) -> RunStore:
        own_plan = make_plan(plan.workbook, plan.options)  # a plan is read by one thread
        own_desk = desk._replace(console=_Lines(side.served_name, desk.console))
        return answer_on_broker(own_plan, side.target, Output(Path()), wait_for_worker, own_desk, show=False, check=check)

    with ThreadPoolExecutor(len(sides)) as threads:
        ends = [threads.submit(_code, side, partial(answer, side)) for side in sides]
        try:
            return [end.result() for end in ends]
        except BaseException:
            stopped.set()
            raise


def _code(side: Side, answer: Callable[[], RunStore]) -> int:
    """Have one model answer; return 0, or the exit code of what it failed at, which is said."""
    try:
        answer().close()
    except KotaeError as error:
        complain("kotae", f"{side.served_name}: {error}")
        return EXIT_USER_ERROR if isinstance(error, UserError) else _EXIT_FAILED
    return 0


def _finish(stores: list[RunStore], out: Path, desk: Desk, seconds: float) -> int:
    """Write the workbook, say what came of every run, and return the worst of their exit codes."""
    if not stores:
        return 0
    for notice in write_side_by_side(stores, out):
        desk.say(f"note: {notice}")
    told: list[dict[str, Any]] = []
    for store in stores:
        desk.say(f"{store.manifest.served_name}: {outcome_line(store.tally())} · run {store.manifest.run_id}")
        told.append(summary(store))
    desk.say(f"workbook: {out} · {duration(seconds)}")
    desk.tell({"runs": told, "output": str(out), "seconds": round(seconds, 1)})
    return max((exit_code(store.tally()) for store in stores), key=_WORST_LAST.index)


class _Stopped(BaseException):
    """Raised in the threads of the other models when the command is interrupted."""


class _Lines(Console):
    """A console of one of several models: plain lines, each with the model's name, since there is one live line at most."""

    def __init__(self, name: str, console: Console) -> None:
        super().__init__(file=console.file, force_terminal=False, width=200, markup=False)
        self._name = name

    def print(self, *objects: Any, **how: Any) -> None:
        """Print a line."""
        super().print(f"{self._name}:", *objects, **how)
