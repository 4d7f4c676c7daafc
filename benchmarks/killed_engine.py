"""What a killed engine costs its neighbours: SIGKILL to the engine core of the last of several workers in the middle of a run.

The others are looked at from the kill until the engine is back, or until they have begun their last row; and in the same seconds of a
longer pass in which nobody is killed, bin by bin, since what a GPU gives differs between the beginning of a pass, when its memory fills,
and later.

    python -m benchmarks.killed_engine --gpus 0,1 --model FOLDER --engine-arg 'load_format="dummy"'
    python -m benchmarks.killed_engine --engine echo --gpus , --engine-arg delay=2 --engine-arg max_num_seqs=64 --rows 3000
"""

import argparse
import contextlib
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from .arguments import WITH_ECHO, add_engine, add_gpus, add_lengths, at_least_one
from .fleet import Fleet, Passed, Worker, machine, say, start_fleet, today
from .ledgers import tokens_per_second

#: Seconds over which a rate is taken.
_WIDTH = 2.0
#: Of its rows of a pass with the kill, what a worker that is killed gives to the others.
_GIVEN = 2 / 3


class Bins(NamedTuple):
    """A stretch of a pass, in bins of ``_WIDTH`` seconds from its beginning."""

    first: int
    end: int


def main() -> None:
    """Measure and print JSON lines as they come."""
    given, gpus = _options()
    with (
        tempfile.TemporaryDirectory() as folder,
        start_fleet(Path(folder), given.model, given.engine, dict(given.engine_args)) as fleet,
    ):
        for gpu in gpus:
            fleet.start_worker(gpu)
        ready = fleet.wait()
        say(benchmark="killed_engine", machine=machine(), date=today(), ready_after=ready, engine_args=fleet.identity().engine_args)
        fleet.ask(fleet.new_pass(given.rows // 4, given.max_tokens), given.mean_tokens)  # warms both
        while_away, during = _kill(fleet, given)
        fleet.wait()  # the others shall have as many rows as before, and nobody be missing
        more = 1 + _GIVEN / (len(gpus) - 1)
        whole = fleet.ask(fleet.new_pass(int(given.rows * more), given.max_tokens), given.mean_tokens)
        quiet = _others(fleet, whole)[while_away.first : while_away.end]
        say(kind="no kill", workers=len(fleet.workers), **whole.rate(), others_meanwhile=quiet, per_second=_per_second(fleet, whole))
        if during and quiet:
            lowest = min(with_kill / without for with_kill, without in zip(during, quiet, strict=False))
            mean = statistics.mean(during) / statistics.mean(quiet)
            say(killed_over_quiet={"mean": round(mean, 3), "lowest": round(lowest, 3)})


def _options() -> tuple[argparse.Namespace, list[str]]:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_gpus(options, default=",")
    add_engine(options, WITH_ECHO)
    options.add_argument("--rows", type=at_least_one, default=6144)
    add_lengths(options)
    options.add_argument("--at", type=float, default=0.25, help="share of the rows that is stored when the engine is killed")
    given = options.parse_args()
    if not 0 < given.at < 1:
        options.error("--at: a share of the rows, between 0 and 1")
    gpus = given.gpus.split(",")
    if len(gpus) < 2:
        options.error("--gpus: one is killed, and the others are looked at; name two at least")
    return given, gpus


def _kill(fleet: Fleet, given: argparse.Namespace) -> tuple[Bins, list[float]]:
    """Run the pass with the kill; return when the engine was away, and what the others gave meanwhile."""
    victim, killed = fleet.workers[-1], 0.0

    def watch(share: float) -> None:
        nonlocal killed
        if share > given.at and not killed:
            killed = time.time()
            _engine_core(victim).kill()

    passed = fleet.ask(fleet.new_pass(given.rows, given.max_tokens), given.mean_tokens, watch=watch)
    engines = fleet.spans(passed)
    back = min((span.start for span in engines[-1] if span.start > killed + 1), default=passed.ended)
    last_begun = min(max(span.start for span in engine) for engine in engines[:-1])
    away = Bins(int((killed - passed.began) / _WIDTH) + 1, int((min(back, last_begun) - passed.began) / _WIDTH))
    during = _others(fleet, passed)[away.first : away.end]
    say(
        kind="kill -9 of an engine core",
        workers=len(fleet.workers),
        **passed.rate(),
        rows_per_worker=[len(engine) for engine in engines],
        killed_after=round(killed - passed.began, 1),
        back_after=round(back - killed, 1),
        others_meanwhile=during,
        per_second=_per_second(fleet, passed),
    )
    return away, during


def _others(fleet: Fleet, passed: Passed) -> list[float]:
    return tokens_per_second(fleet.spans(passed)[:-1], passed.sizes, passed.began, _WIDTH)


def _per_second(fleet: Fleet, passed: Passed) -> list[float]:
    return tokens_per_second(fleet.spans(passed), passed.sizes, passed.began)


def _engine_core(worker: Worker) -> psutil.Process:
    processes = psutil.Process(worker.process.pid).children(recursive=True)
    with contextlib.suppress(StopIteration):
        return next(process for process in processes if "EngineCore" in " ".join([process.name(), *process.cmdline()]))
    return random.choice(processes)  # an engine without a process of its own: whatever is hit


if __name__ == "__main__":
    main()
