"""Partial workbooks while a run goes on: a process of its own writes each from the run store, so the feeder never waits for it."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from workers.contract.errors import UserError
from workers.contract.processes import end_with_parent, start_child, stop_child

from .desk import Desk
from .interrupt import interruptible
from .runs import RunStore
from .workbook.assembly import write_workbook

#: Seconds in which a writer that is told to stop clears away what it has begun.
_GRACE = 8.0
#: How far a writer stands back where cores are scarce.
_NICE = 10


class Output(NamedTuple):
    """Where a run's workbook goes, and after how many seconds each time as much of it as there is; None for the whole one only."""

    path: Path
    partial_every: float | None = None


class PartialWorkbooks:
    """Writes what there is of a run every so often, from ``__enter__`` to ``__exit__``; after that nothing of it is on its way.

    What cannot be written is said once; the run goes on.
    """

    def __init__(self, run_id: str, output: Output | None, desk: Desk) -> None:
        self._every = output.partial_every if output else None
        self._writer = ["producer.partial", str(desk.home.absolute()), run_id, str(output.path.absolute()) if output else ""]
        self._say = desk.say
        self._child: subprocess.Popen[bytes] | None = None
        self._began, self._trouble = time.monotonic(), ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._child is not None:
            self._end(self._child)

    def look(self) -> None:
        """Begin another one if it is time, and the one before is done. Called often; never waits."""
        if self._every is None:
            return
        if self._child is not None and self._child.poll() is not None:
            self._note(self._end(self._child))
        if self._child is None and time.monotonic() - self._began >= self._every:
            self._began = time.monotonic()
            self._child = start_child(self._writer, dict(os.environ), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def _end(self, child: "subprocess.Popen[bytes]") -> str:
        """End a writer that may have ended already; return what it complained of."""
        self._child = None
        stop_child(child, _GRACE)
        assert child.stderr is not None
        with child.stderr:
            lines = child.stderr.read().decode(errors="replace").strip().splitlines()
        return "" if child.returncode == 0 else (lines or [f"it ended with {child.returncode}"])[-1]

    def _note(self, trouble: str) -> None:
        if trouble and not self._trouble:
            self._trouble = trouble
            self._say(f"a partial workbook could not be written: {trouble}; the run goes on, and it is tried again")


def _write(home: Path, run_id: str, out: Path) -> None:
    store = RunStore.open(home, run_id, writing=False)
    if store is not None:
        with store:
            write_workbook(store, out)


if __name__ == "__main__":
    end_with_parent()
    os.nice(_NICE)
    try:
        with interruptible():
            _write(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
    except UserError as mistake:
        sys.exit(str(mistake))
    except KeyboardInterrupt:
        sys.exit(130)
