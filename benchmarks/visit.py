"""The figures that need GPUs, for a machine that is lent for minutes.

What needs one GPU runs on each of them beside the others, with its share of the cores; what needs all of them has the machine for itself.
Lines of JSON go to ``--out`` as they come, each with the name of its measurement, and what is said besides to a file of that name beside
it. What ended well according to ``--out`` is not measured again, so the same command goes on where the machine was taken away. Without
names it lists what there is.

    python -m benchmarks.visit --gpus 0,1 --model SHAPE --checkpoint FOLDER --out figures.jsonl overhead fp8 killed-engine
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from .fleet import say

#: Phi-4's shape with random weights, which vLLM makes up by itself.
_SHAPE = ["--model", "{model}", "--engine-arg", 'load_format="dummy"', "--engine-arg", "max_model_len=3584"]
#: A checkpoint on disk, which Unsloth needs.
_DISK = ["--model", "{checkpoint}"]
_BOTH, _ONE = ["--kotae-gpu", "{gpu}", "--offline-gpu", "{gpu}"], ["--gpu", "{gpu}"]
_VLLM = [*_ONE, *_DISK, "--engine-arg", "max_model_len=3584"]
_UNSLOTH = ["--engine", "unsloth", *_DISK]
#: Room for two engines on one GPU: Unsloth takes minutes to load.
_HALF = ["--engine-arg", "gpu_memory_utilization=0.4", "--engine-arg", "max_num_batched_tokens=8192"]
_LOGNORMAL = ["--rows", "2048", "--mean-tokens", "250", "--max-tokens", "1024"]
_EQUAL = ["--rows", "512", "2048", "--mean-tokens", "256", "--max-tokens", "256"]

#: What each measurement runs, as a module of ours or of pytest and its arguments.
MEASUREMENTS: dict[str, list[str]] = {
    "overhead": ["benchmarks.engine_overhead", *_SHAPE, *_LOGNORMAL, *_BOTH, "--pairs", "3", "--alone", "--loop", "8", "--unseeded"],
    "start": ["benchmarks.engine_start", *_SHAPE, *_ONE],
    "scaling": ["benchmarks.scaling", *_SHAPE, "--gpus", "{gpus}"],
    "sending-order": ["benchmarks.sending_order", *_SHAPE, "--gpus", "{gpus}"],
    "killed-engine": ["benchmarks.killed_engine", *_SHAPE, "--gpus", "{gpus}"],
    "bf16": ["benchmarks.engines", *_VLLM],
    "fp8": ["benchmarks.engines", *_VLLM, "--engine-arg", 'quantization="fp8"'],
    "bitsandbytes": [
        "benchmarks.engines",
        *_ONE,
        *_DISK,
        "--engine-arg",
        "max_model_len=3584",
        "--engine-arg",
        'quantization="bitsandbytes"',
    ],
    "unsloth": ["benchmarks.engines", *_ONE, *_UNSLOTH],
    "unsloth-bf16": ["benchmarks.engines", *_ONE, *_UNSLOTH, "--engine-arg", "load_in_4bit=false"],
    "unsloth-overhead": ["benchmarks.engine_overhead", *_UNSLOTH, *_HALF, *_LOGNORMAL, *_BOTH, "--pairs", "3"],
    "unsloth-equal": ["benchmarks.engine_overhead", *_UNSLOTH, *_HALF, *_EQUAL, *_BOTH, "--pairs", "5", "--warm-ups", "4"],
    "unsloth-loads": ["benchmarks.engines", *_ONE, *_UNSLOTH, "--in-flight", "16", "--tokens", "64", "--passes", "1"],
    "unsloth-suite": ["pytest", "-n0", "tests/test_unsloth.py", "tests/test_engines.py", "-k", "unsloth"],
}


def main() -> None:
    """Run what was named and is not done yet; the exit code is 1 if one of them failed."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("names", nargs="*", metavar="NAME")
    options.add_argument("--model", default="", help="folder with the shape of a model: a config and a tokenizer")
    options.add_argument("--checkpoint", default="", help="folder with a model and its weights")
    options.add_argument("--gpus", default="0", help="ids with commas between them; empty for the CPU")
    options.add_argument("--out", type=Path, default=Path("figures.jsonl"))
    given = options.parse_args()
    if unknown := [name for name in given.names if name not in MEASUREMENTS]:
        options.error(f"no measurement is called {unknown[0]}: {', '.join(MEASUREMENTS)}")
    if not given.names:
        for name, arguments in MEASUREMENTS.items():
            print(f"{name:18}{' '.join(arguments)}")
        return
    visit = Visit(given)
    for needs_all, names in itertools.groupby(given.names, lambda name: "{gpus}" in MEASUREMENTS[name]):
        if needs_all:
            for name in names:
                visit.measure(name, given.gpus, visit.cores)
        else:
            visit.side_by_side(list(names))
    sys.exit(int(visit.failed))


class Visit:
    """What is measured on a machine, and where its lines go."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._given = given
        self._done = _done(given.out)
        self._lock = threading.Lock()
        self.cores = sorted(os.sched_getaffinity(0))
        self.failed = False

    def side_by_side(self, names: list[str]) -> None:
        """Measure what needs one GPU, each on the next that is free."""
        gpus = self._given.gpus.split(",")
        share = max(1, len(self.cores) // len(gpus))
        free: SimpleQueue[int] = SimpleQueue()
        for place in range(len(gpus)):
            free.put(place)

        def work(name: str) -> None:
            place = free.get()
            try:
                self.measure(name, gpus[place], self.cores[place * share : (place + 1) * share])
            finally:
                free.put(place)

        executor = ThreadPoolExecutor(len(gpus))
        try:
            list(executor.map(work, names))
        finally:
            executor.shutdown(cancel_futures=True)

    def measure(self, name: str, gpu: str, cores: list[int]) -> None:
        """Run one measurement, unless that is done."""
        if name in self._done:
            return
        places = {"{model}": self._given.model, "{checkpoint}": self._given.checkpoint, "{gpu}": gpu, "{gpus}": gpu}
        command = [sys.executable, "-m", *(places.get(argument, argument) for argument in MEASUREMENTS[name])]
        environment = dict(os.environ)
        if MEASUREMENTS[name][0] == "pytest":  # it uses whatever GPU it sees
            environment |= {"TEST_ENGINES": "unsloth", "CUDA_VISIBLE_DEVICES": gpu}
        command = ["taskset", "--cpu-list", ",".join(map(str, cores)), *command]
        began = time.monotonic()
        with (
            self._given.out.with_name(f"{name}.log").open("a") as log,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment) as process,
        ):
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("{"):
                    self._note(measurement=name, **json.loads(line))
                    continue
                print(line, end="", file=log, flush=True)
                if line.startswith(("FAILED ", "ERROR ")) or " passed" in line or " failed" in line:
                    self._note(measurement=name, tests=line.strip("= \n"))
        self._note(measurement=name, gpu=gpu, exit_code=process.returncode, seconds=round(time.monotonic() - began, 1))
        self.failed |= process.returncode != 0

    def _note(self, **line: Any) -> None:
        with self._lock, self._given.out.open("a") as out:
            print(json.dumps(line), file=out)
            say(**line)


def _done(out: Path) -> set[str]:
    lines = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    return {line["measurement"] for line in lines if line.get("exit_code") == 0}


if __name__ == "__main__":
    main()
