"""The figures that need GPUs, one measurement after the other, for a machine that is lent for minutes.

Lines of JSON go to ``--out`` as they come, each with the name of its measurement. What ended well according to that file is not
measured again, so the same command goes on where the machine was taken away. Without names it lists what there is.

    python -m benchmarks.visit --model SHAPE --checkpoint FOLDER --out figures.jsonl overhead fp8
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from .fleet import say

#: Phi-4's shape with random weights, which vLLM makes up by itself.
_SHAPE = ["--model", "{model}", "--engine-arg", 'load_format="dummy"', "--engine-arg", "max_model_len=3584"]
#: A checkpoint on disk, which Unsloth needs.
_DISK = ["--model", "{checkpoint}"]
_BOTH, _ONE = ["--kotae-gpu", "{gpu}", "--offline-gpu", "{gpu}"], ["--gpu", "{gpu}"]
_VLLM = [*_ONE, *_DISK, "--engine-arg", "max_model_len=3584"]
_UNSLOTH = ["--engine", "unsloth", *_DISK]
_LOGNORMAL = ["--rows", "2048", "--mean-tokens", "250", "--max-tokens", "1024"]

#: What each measurement runs, as a module of ours or of pytest and its arguments.
MEASUREMENTS: dict[str, list[str]] = {
    "overhead": ["benchmarks.engine_overhead", *_SHAPE, *_LOGNORMAL, *_BOTH, "--pairs", "3", "--alone", "--loop", "8", "--unseeded"],
    "start": ["benchmarks.engine_start", *_SHAPE, *_ONE],
    "scaling": ["benchmarks.scaling", *_SHAPE, "--gpus", "0,1", "--order", "good", "--order", "perfect"],
    "killed-engine": ["benchmarks.killed_engine", *_SHAPE, "--gpus", "0,1"],
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
    "unsloth-overhead": ["benchmarks.engine_overhead", *_UNSLOTH, *_LOGNORMAL, *_BOTH, "--pairs", "3", "--alone"],
    "unsloth-loads": ["benchmarks.engines", *_ONE, *_UNSLOTH, "--in-flight", "16", "--tokens", "64", "--passes", "1"],
    "unsloth-suite": ["pytest", "-n0", "tests/test_unsloth.py", "tests/test_engines.py", "-k", "unsloth"],
}


def main() -> None:
    """Run what was named and is not done yet; the exit code is 1 if one of them failed."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("names", nargs="*", metavar="NAME")
    options.add_argument("--model", default="", help="folder with the shape of a model: a config and a tokenizer")
    options.add_argument("--checkpoint", default="", help="folder with a model and its weights")
    options.add_argument("--gpu", default="0", help="id of the GPU for what needs one; empty for the CPU")
    options.add_argument("--out", type=Path, default=Path("figures.jsonl"))
    given = options.parse_args()
    if unknown := [name for name in given.names if name not in MEASUREMENTS]:
        options.error(f"no measurement is called {unknown[0]}: {', '.join(MEASUREMENTS)}")
    if not given.names:
        for name, arguments in MEASUREMENTS.items():
            print(f"{name:18}{' '.join(arguments)}")
        return
    done = _done(given.out)
    codes = [_measure(name, given) for name in given.names if name not in done]
    sys.exit(int(any(codes)))


def _done(out: Path) -> set[str]:
    lines = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    return {line["measurement"] for line in lines if line.get("exit_code") == 0}


def _measure(name: str, given: argparse.Namespace) -> int:
    places = {"{model}": given.model, "{checkpoint}": given.checkpoint, "{gpu}": given.gpu}
    command = [sys.executable, "-m", *(places.get(argument, argument) for argument in MEASUREMENTS[name])]
    environment = dict(os.environ)
    if MEASUREMENTS[name][0] == "pytest":  # it uses whatever GPU it sees
        environment |= {"TEST_ENGINES": "unsloth", "CUDA_VISIBLE_DEVICES": given.gpu}
    began = time.monotonic()
    with given.out.open("a") as out:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            for line in _told(process.stdout):
                _note(out, measurement=name, **line)
        _note(out, measurement=name, exit_code=process.returncode, seconds=round(time.monotonic() - began, 1))
    return process.returncode


def _told(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Return the lines of JSON among what a measurement prints, and the last line of a test run."""
    for line in lines:
        if line.startswith("{"):
            yield json.loads(line)
        elif " passed" in line or " failed" in line:
            yield {"tests": line.strip("= \n")}


def _note(out: TextIO, **line: Any) -> None:
    print(json.dumps(line), file=out, flush=True)
    say(**line)


if __name__ == "__main__":
    main()
