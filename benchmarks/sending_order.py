"""What it gains to send long rows first: the same lengths in the order of the file, and by what the producer may know of them.

The orders take turns, so that whatever changes in the course of a measurement changes for all of them; each pass has prompts of its own.

    python -m benchmarks.sending_order --gpus 0,1,2,3 --model FOLDER --engine-arg 'load_format="dummy"' --rows 4096 --rows 16384
    python -m benchmarks.sending_order --engine echo --gpus , --engine-arg delay=0.5 --rows 600
"""

import argparse
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import get_args

from .arguments import WITH_ECHO, add_engine, add_gpus, add_lengths, at_least_one
from .fleet import Fleet, machine, say, start_fleet, today
from .ledgers import tail
from .workload import Knowledge


def main() -> None:
    """Measure and print JSON lines as they come."""
    given = _options()
    with (
        tempfile.TemporaryDirectory() as folder,
        start_fleet(Path(folder), given.model, given.engine, dict(given.engine_args)) as fleet,
    ):
        for gpu in given.gpus.split(","):
            fleet.start_worker(gpu)
        ready = fleet.wait()
        say(benchmark="sending_order", machine=machine(), date=today(), ready_after=ready, engine_args=fleet.identity().engine_args)
        fleet.ask(fleet.new_pass(1024 * len(fleet.workers), given.max_tokens), given.mean_tokens)  # warms all
        for rows in given.rows or [4096]:
            _compare(fleet, given, rows)


def _options() -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_gpus(options)
    add_engine(options, WITH_ECHO)
    options.add_argument(
        "--rows", type=at_least_one, action="append", help="rows of a pass, 4,096 by default; several are measured one after another"
    )
    add_lengths(options)
    options.add_argument("--repeat", type=at_least_one, default=3, help="passes in each order")
    return options.parse_args()


def _compare(fleet: Fleet, given: argparse.Namespace, rows: int) -> None:
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(given.repeat):
        for knowledge in get_args(Knowledge):
            passed = fleet.ask(fleet.new_pass(rows, given.max_tokens), given.mean_tokens, knowledge)
            engines = fleet.spans(passed)
            seconds[knowledge].append(passed.seconds)
            say(
                knowledge=knowledge,
                workers=len(engines),
                **passed.rate(),
                rows_per_worker=[len(engine) for engine in engines],
                tail=tail(engines),
            )
    of_the_file = statistics.median(seconds["none"])
    for knowledge in ("good", "perfect"):
        say(order=knowledge, rows=rows, over_order_of_the_file=round(statistics.median(seconds[knowledge]) / of_the_file, 3))


if __name__ == "__main__":
    main()
