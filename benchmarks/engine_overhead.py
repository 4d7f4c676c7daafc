"""What the queue costs: Kotae's tokens/s over offline ``LLM.generate`` of the same prompts, lengths, seeds and engine arguments.

Both engines are loaded once and take turns, pass by pass; every pass has prompts of its own, so that no prefix cache helps it.
Kotae's time runs from the first row sent to the last answer stored on disk: one Celery task per row, through a real server.

    python -m benchmarks.engine_overhead --rows 64 --pairs 3
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xlsxwriter

from producer.feed import Feeder
from producer.local import DEMO, LocalFleet, choose_model, local_fleet
from producer.options import AskOptions
from producer.prepare import Plan, make_plan, open_run, questions_of
from producer.transport import Transport
from workers.contract.messages import ModelIdentity, Question


def main() -> None:
    """Measure and print one JSON object, with a line per pass before it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", default=DEMO)
    options.add_argument("--rows", type=int, default=64)
    options.add_argument("--pairs", type=int, default=3)
    options.add_argument("--max-tokens", type=int, default=64)
    options.add_argument("--engine-arg", action="append", default=[])
    given = options.parse_args()
    engine_args = {key: json.loads(value) for key, _, value in (pair.partition("=") for pair in given.engine_arg)}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        home = Path(folder)
        model = choose_model(given.model, "vllm", engine_args, None)
        fleet = stack.enter_context(local_fleet(model, home, ledger=home / "ledger"))
        transport = stack.enter_context(contextlib.closing(Transport(fleet.settings)))
        (worker, *_) = fleet.wait_until_ready(transport, lambda _: None)
        identity = transport.identity(worker.fingerprint)
        assert identity is not None
        offline = stack.enter_context(_offline(identity))
        results = []
        for number in range(given.pairs + 1):  # the first pair warms both sides
            plan = _plan(home, number, given.rows, given.max_tokens)
            kotae = _kotae(plan, home, transport, fleet, model.served_name)
            plain = _plain(plan, home, model.served_name, offline)
            ratio = kotae["tokens_per_s"] / plain["tokens_per_s"]
            print(json.dumps({"pair": number or "warm-up", "kotae": kotae, "offline": plain, "ratio": ratio}), flush=True)
            results.append(ratio)
        measured = results[1:]
        told = {
            "benchmark": "engine_overhead",
            "rows": given.rows,
            "max_tokens": given.max_tokens,
            "engine_args": identity.engine_args,
            "versions": {"vllm": identity.engine_version, **identity.versions},
            "median_ratio": statistics.median(measured),
            "min_ratio": min(measured),
            "max_ratio": max(measured),
            "most_in_flight": _most_in_flight(home / "ledger"),
        }
        print(json.dumps(told))


def _plan(home: Path, number: int, rows: int, max_tokens: int) -> Plan:
    path = home / f"pass-{number}.xlsx"
    with xlsxwriter.Workbook(str(path)) as workbook:
        sheet = workbook.add_worksheet()
        sheet.write_column(
            0, 0, ["question", *(f"Pass {number}: what can be said about the number {row}, and why?" for row in range(rows))]
        )
    return make_plan(path, AskOptions(max_tokens=max_tokens, ignore_eos=True))


def _kotae(plan: Plan, home: Path, transport: Transport, fleet: LocalFleet, served_name: str) -> dict[str, float]:
    with open_run(plan, home, served_name, None, None) as store:
        store.update(queue=transport.emptiest_queue(served_name, store.manifest.run_id))
        questions = questions_of(plan, store)
        began = time.monotonic()
        Feeder(transport, store, questions, 20_000, print).run(lambda _: fleet.check())
        return _rate(time.monotonic() - began, store.tally().output_tokens)


def _plain(plan: Plan, home: Path, served_name: str, offline: "subprocess.Popen[str]") -> dict[str, float]:
    with open_run(plan, home, served_name, None, None) as store:
        questions = [questions_of(plan, store).of(row) for row in range(len(plan.sheet.rows))]
    told = _ask(offline, {"conversations": [_conversation(q) for q in questions], "sampling": [_sampling(q) for q in questions]})
    return _rate(told["seconds"], sum(len(output["token_ids"]) for output in told["outputs"]))


def _conversation(question: Question) -> list[dict[str, str]]:
    return [message.model_dump() for message in question.messages]


def _sampling(question: Question) -> dict[str, Any]:
    return question.sampling.model_dump(exclude={"enforce_format"})


def _rate(seconds: float, tokens: int) -> dict[str, float]:
    return {"seconds": round(seconds, 2), "tokens": tokens, "tokens_per_s": round(tokens / seconds, 1)}


@contextlib.contextmanager
def _offline(identity: ModelIdentity) -> Iterator["subprocess.Popen[str]"]:
    """Start offline vLLM with the engine arguments that Kotae's worker says it has."""
    model = identity.model
    if model == DEMO:
        from workers.engines.demo_model import demo_model_path

        model = str(demo_model_path())
    command = [sys.executable, "-m", "benchmarks.offline"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            _ask(process, {"model": model, "engine_args": identity.engine_args})
            yield process
        finally:
            process.terminate()


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


def _most_in_flight(ledger: Path) -> int:
    """Return how many rows the engine had at most between their start and their end, by its own count."""
    most = now = 0
    for line in ledger.read_text().splitlines():
        now += 1 if line.startswith("start ") else -1
        most = max(most, now)
    return most


if __name__ == "__main__":
    main()
