"""How Kotae scales over the GPUs of one machine: tokens/s, efficiency, and what is left unused at the end of a run.

All workers start together and are warmed by a pass; they answer with all there are, then ever fewer stay. Weak scaling asks ``--rows``
per worker, strong scaling ``--strong-rows`` whatever there is; every pass has prompts of its own.

    python -m benchmarks.scaling --gpus 0,1 --model FOLDER --engine-arg 'load_format="dummy"'
    python -m benchmarks.scaling --engine echo --gpus ,, --engine-arg delay=0.5 --rows 300 --strong-rows 600
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from .arguments import WITH_ECHO, add_engine, add_gpus, add_lengths, at_least_one
from .fleet import Fleet, machine, say, start_fleet, today
from .ledgers import tail, tokens_per_second


def main() -> None:
    """Measure and print JSON lines as they come."""
    given = _options()
    gpus = given.gpus.split(",")
    with (
        tempfile.TemporaryDirectory() as folder,
        start_fleet(Path(folder), given.model, given.engine, dict(given.engine_args)) as fleet,
    ):
        for gpu in gpus:
            fleet.start_worker(gpu)
        ready = fleet.wait()
        say(
            benchmark="scaling",
            machine=machine(),
            date=today(),
            ready_after=ready,
            engine_args=fleet.identity().engine_args,
        )
        _point(fleet, given, "warm-up", len(gpus) * given.rows // 2)
        rates: dict[tuple[int, int], float] = {}  # workers and rows -> tokens/s
        points: list[tuple[str, int, int]] = []
        for workers in _counts(len(gpus)):
            fleet.stop_workers(keep=workers)
            for kind, rows in (("weak", workers * given.rows), ("strong", given.strong_rows)):
                if (workers, rows) not in rates:  # where both kinds ask for the same rows, one pass is both
                    rates[workers, rows] = statistics.median(_point(fleet, given, kind, rows) for _ in range(given.repeat))
                points.append((kind, workers, rows))
        alone = {kind: rates[workers, rows] for kind, workers, rows in points if workers == 1}
        for kind, workers, rows in reversed(points):
            say(efficiency=kind, workers=workers, value=round(rates[workers, rows] / workers / alone[kind], 3))


def _counts(gpus: int) -> list[int]:
    """Return with how many workers there are points: all, and then each power of two below."""
    return [gpus, *(count for count in (8, 4, 2, 1) if count < gpus)]


def _options() -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__)
    add_gpus(options)
    add_engine(options, WITH_ECHO)
    options.add_argument("--rows", type=at_least_one, default=2048, help="rows per worker, for weak scaling")
    options.add_argument("--strong-rows", type=at_least_one, default=4096)
    add_lengths(options)
    options.add_argument("--repeat", type=at_least_one, default=1)
    return options.parse_args()


def _point(fleet: Fleet, given: argparse.Namespace, kind: str, rows: int) -> float:
    passed = fleet.ask(fleet.new_pass(rows, given.max_tokens), given.mean_tokens)
    engines = fleet.spans(passed)
    say(
        kind=kind,
        workers=len(fleet.workers),
        **passed.rate(),
        rows_per_worker=[len(engine) for engine in engines],
        first_start=round(min(span.start for engine in engines for span in engine) - passed.began, 2),
        tail=tail(engines),
        per_second=tokens_per_second(engines, passed.sizes, passed.began),
    )
    return passed.tokens / passed.seconds


if __name__ == "__main__":
    main()
