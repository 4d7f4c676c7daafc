"""A server and workers that a measurement starts one by one, and the passes through them."""

import contextlib
import datetime
import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import SecretStr

from producer.local import LocalModel, choose_model
from producer.prepare import Plan, open_run
from producer.transport import Transport
from workers.contract.broker import BrokerSettings
from workers.contract.hardware import gpu_memory
from workers.contract.messages import ModelIdentity, Presence
from workers.contract.processes import start_child, stop_child

from .ledgers import Span, spans
from .workload import Knowledge, OrderedFeeder, SizedQuestions, believed, lengths, make_pass

#: Seconds in which a worker must take rows.
_PATIENCE = 420.0
#: Seconds in which a GPU must be free of an engine that has ended.
_FREE_AGAIN = 60.0


class Worker(NamedTuple):
    """A `kotae-worker` of one GPU, or of the CPU."""

    process: "subprocess.Popen[bytes]"
    gpu: str
    ledger: Path
    log: Path
    started: float


class Passed(NamedTuple):
    """What a pass through the queue was."""

    rows: int
    tokens: int
    seconds: float
    #: When its first row was sent, and when its last answer was on disk; seconds since the epoch.
    began: float
    ended: float
    run_id: str
    sizes: list[int]

    def rate(self) -> dict[str, Any]:
        """Return what is printed of it."""
        told = {"rows": self.rows, "tokens": self.tokens, "seconds": round(self.seconds, 2)}
        return told | {"tokens_per_s": round(self.tokens / self.seconds, 1)}


class Fleet:
    """An embedded server, the workers that were started on it, and one producer: us."""

    def __init__(self, home: Path, model: LocalModel, url: str) -> None:
        self.home, self.model, self.url = home, model, url
        self.transport = Transport(BrokerSettings(broker=SecretStr(url), broker_password=None, broker_password_file=None))
        self.workers: list[Worker] = []
        self._numbers = count()

    def start_worker(self, gpu: str, **environment: str) -> Worker:
        """Start a worker on a GPU (an empty name: on the CPU) and do not wait for it."""
        number = len(self.workers)
        ledger, log = self.home / f"ledger-{number}", self.home / f"worker-{number}.log"
        options = ["--engine", self.model.engine, "--model", self.model.model, "--name", self.model.served_name, "--gpus", gpu or "none"]
        options += ["--ledger", str(ledger), "--drain-seconds", "0"]
        variables = {"KOTAE_BROKER": self.url, "KOTAE_ENGINE_ARGS": json.dumps(self.model.engine_args)}
        with log.open("wb") as file:
            process = start_child(["workers", *options], dict(os.environ) | variables | environment, stdout=file, stderr=file)
        self.workers.append(Worker(process, gpu, ledger, log, time.monotonic()))
        return self.workers[-1]

    def wait(self) -> float:
        """Wait until all workers take rows; return the seconds that the last one took from its start."""
        end = time.monotonic() + _PATIENCE
        while len(self.presences()) < len(self.workers):
            for worker in self.workers:
                if worker.process.poll() is not None or time.monotonic() > end:
                    raise SystemExit(worker.log.read_text(errors="replace")[-3000:])
            time.sleep(0.1)
        return round(time.monotonic() - self.workers[-1].started, 1)

    def spans(self, passed: Passed) -> list[list[Span]]:
        """Return of each worker the rows of a pass that it finished."""
        return [spans(worker.ledger, passed.run_id) for worker in self.workers]

    def stop_workers(self, keep: int = 0) -> None:
        """Stop all workers but the first few, and wait until the GPUs of the others are free."""
        leaving = self.workers[keep:]
        del self.workers[keep:]
        for worker in leaving:
            stop_child(worker.process, 30)
        wait_for_memory([worker.gpu for worker in leaving])

    def presences(self) -> list[Presence]:
        """Return the workers that take rows."""
        return self.transport.workers(self.model.served_name)

    def identity(self) -> ModelIdentity:
        """Return which model answers."""
        identity = self.transport.identity(self.presences()[0].fingerprint)
        assert identity is not None
        return identity

    def new_pass(self, rows: int, longest: int) -> Plan:
        """Return a workbook that nobody was asked before."""
        return make_pass(self.home, next(self._numbers), rows, longest)

    def ask(self, plan: Plan, mean: int, knowledge: Knowledge = "none", watch: Callable[[float], None] = lambda _: None) -> Passed:
        """Send the rows of a workbook through the queue; ``watch`` hears now and then which share of them is stored."""
        rows = plan.sheet.height
        sizes = lengths(rows, mean, plan.sampling.max_tokens)
        with open_run(plan, self.home, self.model.served_name, None, None) as store:
            questions = SizedQuestions(plan.sheet.questions(), store.manifest, sizes)
            feeder = OrderedFeeder(self.transport, store, questions, 20_000, print, beliefs=believed(sizes, knowledge))
            stored = 0

            def see(answers: list[Any]) -> None:
                nonlocal stored
                stored += len(answers)
                watch(stored / rows)

            began, clock = time.time(), time.monotonic()
            feeder.run(see)
            seconds = time.monotonic() - clock
            tally = store.tally()
            bad = {outcome: number for outcome, number in tally.by_outcome.items() if outcome in ("failed", "rejected", "timed_out")}
            assert not bad, f"not all rows were answered: {bad}"
            return Passed(rows, tally.output_tokens, seconds, began, began + seconds, store.manifest.run_id, sizes)


@contextlib.contextmanager
def start_fleet(home: Path, model: str, engine: str, engine_args: dict[str, Any]) -> Iterator[Fleet]:
    """Start a server without workers; whatever runs in the end is stopped."""
    with contextlib.ExitStack() as stack:
        server = start_child(["producer.embedded"], dict(os.environ), stdout=subprocess.PIPE)
        stack.callback(stop_child, server, 10)
        assert server.stdout is not None
        fleet = Fleet(
            home, choose_model(None if engine == "echo" else model, engine, engine_args, None), server.stdout.readline().decode().strip()
        )
        try:
            yield fleet
        finally:
            for worker in fleet.workers:
                stop_child(worker.process, 20)


def wait_for_memory(gpus: list[str]) -> None:
    """Wait until the memory of these GPUs grows no freer: what has ended gives it back a little later."""
    end, free = time.monotonic() + _FREE_AGAIN, -1.0
    while (there := gpu_memory()) and any(gpu in there for gpu in gpus) and time.monotonic() < end:
        before, free = free, min(there[gpu].free for gpu in gpus if gpu in there)
        if free == before:
            return
        time.sleep(2)


def say(**line: Any) -> None:
    """Print a line of JSON at once: a machine may be taken away."""
    print(json.dumps(line), flush=True)


def today() -> str:
    """Return the date, as figures are marked with it."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def machine() -> str:
    """Return the GPUs of this machine, or its processor."""
    try:
        listing = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, check=True)
        names = listing.stdout.strip().splitlines()
    except (OSError, subprocess.SubprocessError):
        names = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return ", ".join(f"{number} x {name}" for name, number in Counter(names).items()) or "unknown"
