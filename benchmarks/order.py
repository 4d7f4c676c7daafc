"""What it would gain to send long rows first: a calculation, for want of several GPUs, from step times that were measured on one.

A GPU's step takes ``--base-ms`` and ``--row-ms`` for every row in its batch (a token each), and ``--prompt-ms`` for every row that begins.
Fitted to an H200 with Phi-4's shape: one row at a time 116 tokens/s, 560 rows 9,200. Each of the GPUs takes the next row of one queue
whenever it has a place, ``--intake`` rows a second at most. Lengths are those of the other benchmarks.

    python -m benchmarks.order
"""

import argparse
import heapq
import math
import random
import statistics
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, get_args

from .arguments import at_least_one
from .fleet import say
from .workload import Knowledge, believed, lengths


class Speed(NamedTuple):
    """How fast a GPU is; seconds."""

    base: float
    per_row: float
    per_prompt: float
    #: Rows in the batch at most; rows taken from the queue per second at most.
    places: int
    intake: float
    #: How far a step may be off, as a share: without it GPUs march in step, and the first takes the longest row of every round.
    noise: float = 0.0

    def taken_by(self, now: float) -> float:
        """Return how many rows can have been taken by a time."""
        return math.inf if self.intake == math.inf else 1 + now * self.intake


class Ended(NamedTuple):
    """How a run went."""

    seconds: float
    #: Share of all GPUs' time in which they had no row, over the time in which the last 5 % of the rows ended; those seconds.
    tail_idle: float
    tail_seconds: float


def main() -> None:
    """Calculate and print JSON lines."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=at_least_one, default=4096)
    options.add_argument("--mean-tokens", type=at_least_one, default=250)
    options.add_argument("--max-tokens", type=at_least_one, default=1024)
    options.add_argument("--base-ms", type=float, default=8.5)
    options.add_argument("--row-ms", type=float, default=0.087)
    options.add_argument("--prompt-ms", type=float, default=4.1)
    options.add_argument("--places", type=at_least_one, default=1024)
    options.add_argument("--intake", type=float, default=500)
    options.add_argument("--noise", type=float, default=0.1)
    options.add_argument("--repeat", type=at_least_one, default=5, help="runs with other lengths, of which the median is taken")
    given = options.parse_args()
    speed = Speed(given.base_ms / 1e3, given.row_ms / 1e3, given.prompt_ms / 1e3, given.places, given.intake, given.noise)
    alone = 0.0
    for gpus in (1, 2, 4):
        for knowledge in get_args(Knowledge):
            runs = [
                _run(lengths(given.rows, given.mean_tokens, given.max_tokens, seed), knowledge, gpus, speed) for seed in range(given.repeat)
            ]
            seconds = statistics.median(run.seconds for run in runs)
            alone = alone or seconds
            say(
                calculated="order",
                gpus=gpus,
                knowledge=knowledge,
                rows=given.rows,
                seconds=round(seconds, 1),
                strong_efficiency=round(alone / seconds / gpus, 3),
                tail_idle=round(statistics.median(run.tail_idle for run in runs), 3),
                tail_seconds=round(statistics.median(run.tail_seconds for run in runs), 1),
            )


def _run(sizes: Sequence[int], knowledge: Knowledge, gpus: int, speed: Speed) -> Ended:
    beliefs = believed(sizes, knowledge)
    return simulate([sizes[row] for row in sorted(range(len(sizes)), key=lambda row: -beliefs[row])], gpus, speed)


def simulate(sizes: Sequence[int], gpus: int, speed: Speed) -> Ended:
    """Return how a run goes whose rows, of so many tokens each, are taken in this order."""
    queue, chance = deque(sizes), random.Random(0)
    batches: list[list[int]] = [[] for _ in range(gpus)]  # of each GPU the step numbers at which its rows end
    steps, taken = [0] * gpus, [0] * gpus
    clock = [(0.0, gpu) for gpu in range(gpus)]
    ends: list[float] = []
    last_busy = [0.0] * gpus
    while clock:
        now, gpu = heapq.heappop(clock)
        batch, began = batches[gpu], 0
        while queue and len(batch) < speed.places and taken[gpu] < speed.taken_by(now):
            heapq.heappush(batch, steps[gpu] + queue.popleft())
            taken[gpu] += 1
            began += 1
        if not batch:
            if queue:
                heapq.heappush(clock, (now + 1 / speed.intake, gpu))
            continue
        steps[gpu] += 1
        now += (speed.base + speed.per_row * len(batch) + speed.per_prompt * began) * chance.uniform(1 - speed.noise, 1 + speed.noise)
        while batch and batch[0] <= steps[gpu]:
            heapq.heappop(batch)
            ends.append(now)
        last_busy[gpu] = now
        heapq.heappush(clock, (now, gpu))
    ends.sort()
    first, last = ends[int(len(ends) * 0.95) - 1], ends[-1]
    idle = sum(last - max(first, busy) for busy in last_busy)
    return Ended(last, idle / (gpus * (last - first) or 1), last - first)


if __name__ == "__main__":
    main()
