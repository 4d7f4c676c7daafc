"""What the queue costs: Kotae's tokens/s over offline ``LLM.chat`` of the same prompts, lengths, seeds and engine arguments.

Both engines are loaded once and take turns, pass by pass; every pass has prompts of its own, so that no prefix cache helps it.
Kotae's time runs from the first row sent to the last answer stored on disk: one Celery task per row, through a real server.
Both sides make their token ids within their time. With ``--kotae-gpu 0 --offline-gpu 1`` each has a GPU of its own, with all its memory.

    python -m benchmarks.engine_overhead --rows 64 --mean-tokens 64 --max-tokens 64 --pairs 3
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from producer.local import DEMO
from producer.prepare import Plan, open_run
from workers.contract.messages import Question

from .fleet import Fleet, Passed, machine, parse_engine_args, say, start_fleet, today
from .ledgers import most_in_flight
from .workload import SizedQuestions, lengths


def main() -> None:
    """Measure and print JSON lines, the summary last."""
    given = _options()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        home = Path(folder)
        fleet = stack.enter_context(start_fleet(home, given.model, "vllm", parse_engine_args(given.engine_arg)))
        worker = fleet.start_worker(given.kotae_gpu)
        offline = stack.enter_context(_offline(given.offline_gpu, home / "offline.log"))
        say(kotae_ready_after=fleet.wait())
        identity = fleet.identity()
        _ask(offline, {"model": _path(identity.model), "engine_args": identity.engine_args})  # what Kotae's worker says it has
        ratios = []
        for pair in range(given.pairs + 1):  # the first pair warms both sides
            plan = fleet.new_pass(given.rows if pair else given.rows // 2, given.max_tokens)
            kotae = fleet.ask(plan, given.mean_tokens)
            plain = _plain(plan, fleet, kotae, offline)
            ratios.append(kotae.tokens / kotae.seconds / plain["tokens_per_s"])
            say(pair=pair or "warm-up", kotae=kotae.rate(), offline=plain, ratio=round(ratios[-1], 3))
        if given.loop:
            plan = fleet.new_pass(given.loop, given.max_tokens)
            say(one_at_a_time=_plain(plan, fleet, _sizes(given.loop, given), offline, one_at_a_time=True))
        if given.unseeded:
            plan = fleet.new_pass(given.rows, given.max_tokens)
            say(offline_without_seeds=_plain(plan, fleet, _sizes(given.rows, given), offline, seeded=False))
        say(
            benchmark="engine_overhead",
            machine=machine(),
            date=today(),
            versions={"vllm": identity.engine_version, **identity.versions},
            engine_args=identity.engine_args,
            rows=given.rows,
            mean_tokens=given.mean_tokens,
            max_tokens=given.max_tokens,
            median_ratio=round(statistics.median(ratios[1:]), 3),
            min_ratio=round(min(ratios[1:]), 3),
            max_ratio=round(max(ratios[1:]), 3),
            most_in_flight=most_in_flight(worker.ledger),
        )


def _options() -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", default=DEMO)
    options.add_argument("--rows", type=int, default=64)
    options.add_argument("--pairs", type=int, default=3)
    options.add_argument("--mean-tokens", type=int, default=64)
    options.add_argument("--max-tokens", type=int, default=64)
    options.add_argument("--engine-arg", action="append", default=[], help="KEY=JSON")
    options.add_argument("--kotae-gpu", default="")
    options.add_argument("--offline-gpu", default="")
    options.add_argument("--loop", type=int, default=0, help="also ask so many rows one at a time, as the reference program does")
    options.add_argument("--unseeded", action="store_true", help="also ask offline without a seed per row")
    return options.parse_args()


def _sizes(rows: int, given: argparse.Namespace) -> Passed:
    return Passed(rows, 0, 0, 0, 0, "", lengths(rows, given.mean_tokens, given.max_tokens))


def _plain(
    plan: Plan, fleet: Fleet, like: Passed, offline: "subprocess.Popen[str]", *, seeded: bool = True, one_at_a_time: bool = False
) -> dict[str, Any]:
    with open_run(plan, fleet.home, fleet.model.served_name, None, None) as store:
        questions = SizedQuestions(plan.sheet.questions(), store.manifest, like.sizes)
        asked = [questions.of(row) for row in range(like.rows)]
    told = _ask(
        offline,
        {
            "conversations": [[message.model_dump() for message in question.messages] for question in asked],
            "sampling": [_sampling(question, seeded) for question in asked],
            "one_at_a_time": one_at_a_time,
            "brief": True,
        },
    )
    return Passed(like.rows, sum(told["lengths"]), told["seconds"], 0, 0, "", like.sizes).rate()


def _sampling(question: Question, seeded: bool) -> dict[str, Any]:
    sampling = question.sampling.model_dump(exclude={"enforce_format"})
    return sampling if seeded else sampling | {"seed": None}


@contextlib.contextmanager
def _offline(gpu: str, log: Path) -> Iterator["subprocess.Popen[str]"]:
    """Start offline vLLM; it loads no model before it is told which."""
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": gpu} if gpu else {})
    command = [sys.executable, "-m", "benchmarks.offline"]
    with (
        log.open("wb") as errors,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()


def _path(model: str) -> str:
    if model != DEMO:
        return model
    from workers.engines.demo_model import demo_model_path

    return str(demo_model_path())


def _ask(process: "subprocess.Popen[str]", line: dict[str, Any]) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(line) + "\n")
    process.stdin.flush()
    for said in process.stdout:
        if said.startswith("OFFLINE "):
            answer: dict[str, Any] = json.loads(said.removeprefix("OFFLINE "))
            return answer
    raise SystemExit("offline vLLM ended without an answer")


if __name__ == "__main__":
    main()
