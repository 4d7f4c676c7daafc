"""What each of several runs gets of a fleet: four `kotae run` at once on two echo workers, without and with priority for the last.

python -m benchmarks.shares --rows 2000
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import xlsxwriter

from producer.local import DEMO
from producer.runs import RunStore, list_runs

from .arguments import at_least_one
from .fleet import Fleet, machine, say, start_fleet, today

#: A row takes so many seconds, and an engine has so many at a time: 160 rows/s of each of two, if the machine can.
_ENGINE = {"delay": 0.2, "delay_spread": 0.1, "max_num_seqs": 32}


def main() -> None:
    """Measure and print JSON lines."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=at_least_one, default=2000, help="rows of each run")
    options.add_argument("--runs", type=at_least_one, default=4)
    options.add_argument("--workers", type=at_least_one, default=2)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder, start_fleet(Path(folder), DEMO, "echo", _ENGINE) as fleet:
        for _ in range(given.workers):
            fleet.start_worker("")
        fleet.wait()
        for kind, last_options in (("equal", []), ("priority", ["--priority"])):
            about = {"benchmark": "shares", "machine": machine(), "date": today(), "kind": kind, "workers": given.workers}
            say(**about, rows=given.rows, **_together(fleet, kind, given.rows, given.runs, last_options))


def _together(fleet: Fleet, kind: str, rows: int, runs: int, last_options: list[str]) -> dict[str, Any]:
    """Start all runs at once, the last with further options; return what each got."""
    processes = []
    for number in range(runs):
        home = fleet.home / f"{kind}-{number}"
        home.mkdir()
        command = ["run", str(_workbook(home, f"{kind} {number}", rows)), "-o", str(home / "out.xlsx"), "--home", str(home)]
        command += ["--model", fleet.model.served_name, *(last_options if number == runs - 1 else [])]
        environment = os.environ | {"KOTAE_BROKER": fleet.url}
        processes.append(subprocess.Popen([sys.executable, "-m", "producer.cli", *command], env=environment, stdout=subprocess.DEVNULL))
    assert [process.wait() for process in processes] == [0] * runs
    ids = [list_runs(fleet.home / f"{kind}-{number}")[0] for number in range(runs)]
    begun = sorted((when, run) for worker in fleet.workers for when, run in _starts(worker.ledger) if run in ids)
    # Rates are those while all runs have rows: before that, and once one has none left, there is nothing to share.
    first = max(min(when for when, run in begun if run == one) for one in ids)
    until = min(max(when for when, run in begun if run == one) for one in ids)
    shared = Counter(run for when, run in begun if first <= when <= until)
    rates = [round(shared[run] / (until - first), 1) for run in ids] if until > first else []
    with contextlib.ExitStack() as stack:
        stores = [stack.enter_context(_store(fleet.home / f"{kind}-{number}")) for number in range(runs)]
        queues = {store.manifest.queue for store in stores}
    least = min(rates, default=0.0)  # none of those that wait for one with priority
    ended = [max(when for when, run in begun if run == one) for one in ids]
    return {
        "queues": len(queues),
        "rows_per_s": rates,
        "most_over_least": round(max(rates) / least, 3) if least else None,
        "seconds_shared": round(until - first, 1),
        "last_row_begun_after_s": [round(when - begun[0][0], 1) for when in ended],
    }


def _store(home: Path) -> RunStore:
    store = RunStore.open(home, list_runs(home)[0], writing=False)
    assert store is not None
    return store


def _workbook(home: Path, words: str, rows: int) -> Path:
    path = home / "q.xlsx"
    with xlsxwriter.Workbook(str(path)) as workbook:
        workbook.add_worksheet().write_column(0, 0, ["question", *(f"{words}: what is {row}?" for row in range(rows))])
    return path


def _starts(ledger: Path) -> list[tuple[float, str]]:
    lines = [line.split() for line in ledger.read_text().splitlines()]
    return [(float(when), attempt.partition(":")[0]) for kind, attempt, when in lines if kind == "start"]


if __name__ == "__main__":
    main()
