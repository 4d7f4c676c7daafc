"""What an engine and a precision give: tokens/s at several numbers of rows in flight, memory, and the time to load.

One engine a command, through Kotae: a worker, a real server, one Celery task per row. All rows of a pass are asked for the same number
of tokens, so that they share the batch from the first step to the last; every pass has prompts of its own.

    python -m benchmarks.engines --engine vllm --in-flight 1 16 64 --tokens 32
"""

import argparse
import contextlib
import statistics
import tempfile
from pathlib import Path

from workers.contract.hardware import gpu_memory

from .arguments import add_engine, at_least_one
from .fleet import Fleet, machine, say, start_fleet, today
from .ledgers import most_in_flight


def main() -> None:
    """Measure and print JSON lines, the summary last."""
    options = argparse.ArgumentParser(description=__doc__)
    add_engine(options)
    options.add_argument("--gpu", default="")
    options.add_argument("--in-flight", type=at_least_one, nargs="+", default=[1, 16, 64, 256, 512])
    options.add_argument("--tokens", type=at_least_one, default=256)
    options.add_argument("--passes", type=at_least_one, default=3)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        fleet = stack.enter_context(start_fleet(Path(folder), given.model, given.engine, dict(given.engine_args)))
        before = _used_gib(given.gpu)
        worker = fleet.start_worker(given.gpu)
        ready_after = fleet.wait()
        used = _used_gib(given.gpu) - before
        identity = fleet.identity()
        rates = {rows: _rate(fleet, rows, given.tokens, given.passes) for rows in given.in_flight}
        say(
            benchmark="engines",
            machine=machine(),
            date=today(),
            engine=identity.engine,
            dtype=identity.dtype,
            quantization=identity.quantization,
            versions={"vllm": identity.engine_version, **identity.versions},
            engine_args=identity.engine_args,
            ready_after=ready_after,
            loading=_said_of_memory(worker.log),
            gpu_gib=round(used, 1),
            tokens=given.tokens,
            passes=given.passes,
            tokens_per_s=rates,
            most_in_flight=most_in_flight(worker.ledger),
        )


def _rate(fleet: Fleet, rows: int, tokens: int, passes: int) -> float:
    """Return the median of the passes, after one that is not counted."""
    rates = []
    for _ in range(passes + 1):
        passed = fleet.ask(fleet.new_pass(rows, tokens), tokens)
        rates.append(passed.tokens / passed.seconds)
    say(rows=rows, tokens_per_s=[round(rate, 1) for rate in rates])
    return round(statistics.median(rates[1:]), 1)


def _used_gib(gpu: str) -> float:
    memory = gpu_memory().get(gpu or "0")
    return memory.total - memory.free if memory else 0.0


def _said_of_memory(log: Path) -> list[str]:
    """Return what vLLM's log says of the memory of weights, and of room for keys and values."""
    told = (line.partition("] ")[2] or line for line in log.read_text(errors="replace").splitlines())
    return [line.strip() for line in told if "Model loading took" in line or "KV cache size" in line]


if __name__ == "__main__":
    main()
