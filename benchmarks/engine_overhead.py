"""What the queue costs: Kotae's tokens/s over the same engine offline, for the same prompts, lengths, seeds and engine arguments.

Offline is ``LLM.chat`` of vLLM, or ``fast_generate`` of a model that Unsloth loads. Both engines are loaded once and take turns, pass
by pass; every pass has prompts of its own, so that no prefix cache helps it. Kotae's time runs from the first row sent to the last
answer stored on disk: one Celery task per row, through a real server. Both sides make their token ids within their time. With
``--kotae-gpu 0 --offline-gpu 1`` each has a GPU of its own; with ``--alone`` only one of them is loaded at a time, with all the
memory, and each stays for its passes of two pairs: Kotae 1, offline 1 and 2, Kotae 2 and 3, ...

    python -m benchmarks.engine_overhead --rows 64 --mean-tokens 64 --max-tokens 64 --pairs 3
"""

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Protocol

from producer.local import DEMO
from producer.prepare import Plan, open_run
from workers.contract.messages import ModelIdentity, Question

from .arguments import add_engine, add_lengths, at_least_one
from .fleet import Fleet, Passed, machine, say, start_fleet, today, wait_for_memory
from .ledgers import edges, most_in_flight, spans
from .workload import SizedQuestions, lengths


class Side(Protocol):
    """One of the two that are compared."""

    name: str

    def start(self) -> None:
        """Load the engine, if it is not loaded."""

    def stop(self) -> None:
        """Give the GPU back."""

    def answer(self, plan: Plan) -> dict[str, Any]:
        """Answer a workbook; return what is printed of it, ``tokens_per_s`` among it."""


def main() -> None:
    """Measure and print JSON lines, the summary last."""
    given = _options()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        home = Path(folder)
        fleet = stack.enter_context(start_fleet(home, given.model, given.engine, dict(given.engine_args)))
        kotae = Kotae(fleet, given)
        offline = Offline(fleet, kotae, given, home / "offline.log")
        stack.callback(offline.stop)
        measured: dict[tuple[int, int], dict[str, float]] = {}
        plans: dict[tuple[int, int], Plan] = {}
        for stay in _stays(given.rows, given.pairs, kotae, offline, alone=given.alone):
            for side in {side.name: side for side, _ in stay}.values():
                side.start()
                for _ in range(given.warm_ups):
                    say(side=side.name, warm_up=side.answer(fleet.new_pass(max(1, given.rows[-1] // 2), given.max_tokens)))
            for side, pair in stay:
                plans.setdefault(pair, fleet.new_pass(pair[0], given.max_tokens))
                told = side.answer(plans[pair])
                measured.setdefault(pair, {})[side.name] = told["tokens_per_s"]
                say(pair=pair[1], side=side.name, **told)
            if any(side is offline for side, _ in stay):
                _offline_alone(offline, fleet, given)
            if given.alone:
                for side, _ in stay:
                    side.stop()
        ratios = {rows: [one["kotae"] / one["offline"] for (size, _), one in measured.items() if size == rows] for rows in given.rows}
        identity = kotae.identity
        say(
            benchmark="engine_overhead",
            machine=machine(),
            date=today(),
            versions={"vllm": identity.engine_version, **identity.versions},
            engine=identity.engine,
            engine_args=identity.engine_args,
            alone=given.alone,
            mean_tokens=given.mean_tokens,
            max_tokens=given.max_tokens,
            ratios={rows: [round(ratio, 3) for ratio in some] for rows, some in ratios.items()},
            median_ratio={rows: round(statistics.median(some), 3) for rows, some in ratios.items()},
            most_in_flight=kotae.most_in_flight,
        )


def _options() -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__)
    add_engine(options)
    options.add_argument(
        "--rows", type=at_least_one, default=[64], nargs="+", help="rows of a pass; several sizes are measured one after the other"
    )
    options.add_argument("--pairs", type=at_least_one, default=3)
    options.add_argument("--warm-ups", type=at_least_one, default=1, help="passes of half the rows before those that count")
    add_lengths(options, 64, 64)
    options.add_argument("--kotae-gpu", default="")
    options.add_argument("--offline-gpu", default="")
    options.add_argument("--alone", action="store_true", help="never load both engines at once")
    options.add_argument("--loop", type=int, default=0, help="also ask so many rows one at a time, as the reference program does")
    options.add_argument("--unseeded", action="store_true", help="also ask offline without a seed per row")
    return options.parse_args()


def _stays(sizes: list[int], pairs: int, kotae: Side, offline: Side, *, alone: bool) -> list[list[tuple[Side, tuple[int, int]]]]:
    """Return who answers which pass (its rows and the number of its pair), in groups between which engines may be unloaded.

    The two passes of a pair are neighbours in time.
    """
    order = [(kotae, offline), (offline, kotae)]
    turns = [(side, (rows, pair)) for rows in sizes for pair in range(1, pairs + 1) for side in order[(pair - 1) % 2]]
    if not alone:
        return [turns]
    return [list(stay) for _, stay in itertools.groupby(turns, key=lambda turn: turn[0].name)]


def _offline_alone(offline: "Offline", fleet: Fleet, given: argparse.Namespace) -> None:
    """Measure, once, what only offline can show."""
    if given.loop:
        say(one_at_a_time=offline.answer(fleet.new_pass(given.loop, given.max_tokens), one_at_a_time=True))
    if given.unseeded:
        say(offline_without_seeds=offline.answer(fleet.new_pass(given.rows[-1], given.max_tokens), seeded=False))
    given.loop, given.unseeded = 0, False


class Kotae:
    """A worker, and us as the producer."""

    name = "kotae"
    identity: ModelIdentity

    def __init__(self, fleet: Fleet, given: argparse.Namespace) -> None:
        self._fleet, self._given = fleet, given
        self.most_in_flight = 0

    def start(self) -> None:
        if not self._fleet.workers:
            self._fleet.start_worker(self._given.kotae_gpu)
            say(kotae_ready_after=self._fleet.wait())
            self.identity = self._fleet.identity()

    def stop(self) -> None:
        self._fleet.stop_workers()

    def answer(self, plan: Plan) -> dict[str, Any]:
        passed = self._fleet.ask(plan, self._given.mean_tokens)
        ledger = self._fleet.workers[-1].ledger
        self.most_in_flight = max(self.most_in_flight, most_in_flight(ledger))
        return passed.rate() | edges(spans(ledger, passed.run_id), passed.began, passed.ended)


class Offline:
    """The engine without a queue, in a process of its own."""

    name = "offline"

    def __init__(self, fleet: Fleet, kotae: Kotae, given: argparse.Namespace, log: Path) -> None:
        self._fleet, self._kotae, self._given, self._log = fleet, kotae, given, log
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        if self._process is not None:
            return
        gpu = self._given.offline_gpu
        identity = self._kotae.identity  # what Kotae's worker says it has
        environment = os.environ | ({"CUDA_VISIBLE_DEVICES": gpu} if gpu else {})
        if identity.engine == "vllm":
            environment["VLLM_USE_V2_MODEL_RUNNER"] = str(int(identity.versions["model_runner"] == "V2"))
        with self._log.open("ab") as errors:
            command = [sys.executable, "-m", "benchmarks.offline"]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
            )
        began = time.monotonic()
        self._ask({"engine": identity.engine, "model": _path(identity.model), "engine_args": identity.engine_args})
        say(offline_ready_after=round(time.monotonic() - began, 1))

    def stop(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
            self._process = None
            wait_for_memory([self._given.offline_gpu])

    def answer(self, plan: Plan, *, seeded: bool = True, one_at_a_time: bool = False) -> dict[str, Any]:
        sizes = lengths(plan.sheet.height, self._given.mean_tokens, self._given.max_tokens)
        with open_run(plan, self._fleet.home / "offline", self._fleet.model.served_name, None, None) as store:
            questions = SizedQuestions(plan.sheet.questions(), store.manifest, sizes)
            asked = [questions.of(row) for row in range(len(sizes))]
        told = self._ask(
            {
                "conversations": [[message.model_dump() for message in question.messages] for question in asked],
                "sampling": [_sampling(question, seeded) for question in asked],
                "one_at_a_time": one_at_a_time,
                "brief": True,
            }
        )
        return Passed(len(sizes), sum(told["lengths"]), told["seconds"], 0, 0, "", sizes).rate()

    def _ask(self, line: dict[str, Any]) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(line) + "\n")
        process.stdin.flush()
        for said in process.stdout:
            if said.startswith("OFFLINE "):
                answer: dict[str, Any] = json.loads(said.removeprefix("OFFLINE "))
                return answer
        raise SystemExit("offline ended without an answer:\n" + self._log.read_text(errors="replace")[-3000:])


def _sampling(question: Question, seeded: bool) -> dict[str, Any]:
    sampling = question.sampling.model_dump(exclude={"enforce_format"})
    return sampling if seeded else sampling | {"seed": None}


def _path(model: str) -> str:
    if model != DEMO:
        return model
    from workers.engines.demo_model import demo_model_path

    return str(demo_model_path())


if __name__ == "__main__":
    main()
