"""`kotae run` with several models: a run each, side by side in one workbook."""

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from openpyxl import load_workbook

from producer.runs import RunStore, list_runs
from tests.conftest import Kotae, StartWorker, eventually, make_workbook, stopped_in_the_end
from tests.endpoint import Endpoint, endpoint, refuses, well


def table(path: Path, sheet: str | None = None) -> list[dict[str, Any]]:
    """Return the rows of a sheet by header."""
    workbook = load_workbook(path)
    header, *rows = (workbook[sheet] if sheet else workbook.worksheets[0]).iter_rows(values_only=True)
    return [dict(zip(header, row, strict=True)) for row in rows]


def stored(home: Path) -> list[int]:
    """Return how many rows each run has stored."""
    opened = [RunStore.open(home, run_id, writing=False) for run_id in list_runs(home)]
    with ExitStack() as stack:
        return [stack.enter_context(store).tally().stored for store in opened if store is not None]


@pytest.fixture
def fleet(start_worker: StartWorker, broker_url: str) -> str:
    """A fleet that serves `a` and `b`, each by a worker that takes a while."""
    start_worker(name="a", wait=False)
    start_worker(name="b")
    return broker_url


def test_models_of_a_fleet_answer_side_by_side_and_each_run_stands_alone(kotae: Kotae, fleet: str, start_worker: StartWorker) -> None:
    """One command; what a model has answered is not paid for again by a command for it alone, or for it and another."""
    make_workbook(kotae.folder / "q.xlsx", ["one", "two", ""], answer=["gold", "", ""])

    told = kotae.json("run", "q.xlsx", "--broker", fleet, "--model", "a", "--model", "b", "-o", "out.xlsx")

    rows = table(kotae.folder / "out.xlsx")
    assert [(row["question"], row["answer"], row["answer (a)"], row["answer (b)"]) for row in rows] == [
        ("one", "gold", "one", "one"),
        ("two", None, "two", "two"),
        (None, None, None, None),
    ]
    assert list(rows[0])[3:8] == ["answer (a)", "reasoning (a)", "outcome (a)", "finish_reason (a)", "prompt_tokens (a)"]
    assert [run["served_name"] for run in told["runs"]] == ["a", "b"]
    assert [row["a"] for row in table(kotae.folder / "out.xlsx", "Run") if row["what"] == "run"] == [told["runs"][0]["run_id"]]
    alone = kotae.json("run", "q.xlsx", "--broker", fleet, "--model", "b", "-o", "b.xlsx")
    assert alone["run_id"] == told["runs"][1]["run_id"]
    # What one model lacks costs the other nothing
    short = kotae("run", "q.xlsx", "--broker", fleet, "--model", "nobody", "--model", "a", "--wait-for-worker", "1s", "-o", "less.jsonl")
    assert short.code == 2
    assert "kotae: nobody: no worker serves nobody" in short.err
    written = [json.loads(line) for line in (kotae.folder / "less.jsonl").read_text().splitlines()]
    assert [row["answer (a)"] for row in written] == ["one", "two", None]
    assert not any("nobody" in header for header in written[0])


@pytest.fixture
def api() -> Iterator[Endpoint]:
    """An endpoint with the models `big` and `small`."""
    with endpoint() as server:
        yield server


def test_models_of_this_machine_take_turns_and_one_that_cannot_be_loaded_loses_nothing(kotae: Kotae, api: Endpoint) -> None:
    """The exit code is that of the worst: 3 for rows without an answer, 2 for a model that is not there."""
    make_workbook(kotae.folder / "q.xlsx", ["one", "two"])

    def otherwise(handler: Any, body: dict[str, Any]) -> None:
        refused = body["model"] == "small" and body["messages"][-1]["content"] == "two"
        (refuses(400, "not this one") if refused else well(f"<answer>by {body['model']}</answer>", reasoning="so"))(handler, body)

    api.otherwise = otherwise
    prices = ("--engine-arg", "price_in=1000000", "--engine-arg", "price_out=10000000")
    where = ("run", "q.xlsx", "--engine", "openai", "--base-url", api.url, *prices, "-o", "out.xlsx")

    finished = kotae(*where, "--model", "big", "--model", "bog", "--model", "small", OPENAI_API_KEY="x")

    host = api.url.split("/")[2]
    rows = table(kotae.folder / "out.xlsx")
    assert finished.code == 2
    assert f"kotae: bog@{host}: no model bog" in finished.err
    assert [(row[f"answer (big@{host})"], row[f"answer (small@{host})"]) for row in rows] == [("by big", "by small"), ("by big", None)]
    assert [row[f"reasoning (big@{host})"] for row in rows] == ["so", "so"]
    told = {row["what"]: row[f"big@{host}"] for row in table(kotae.folder / "out.xlsx", "Run")}
    assert told["price of these answers"] == 2 * 1 + 2 * 2 * 10  # a word of prompt and two of reply in each row
    errors = next(name for name in load_workbook(kotae.folder / "out.xlsx").sheetnames if name.startswith("Errors"))
    assert "not this one" in table(kotae.folder / "out.xlsx", errors)[0]["cause"]
    asked = len(api.asked)
    again = kotae(*where, "--model", "big", "--model", "small", OPENAI_API_KEY="x")
    assert again.code == 3
    assert len(api.asked) == asked  # both are as far as they can be


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--model", "a", "--model", "a"), "named twice"),
        (("--model", "a", "--model", "b", "--keep-format"), "--keep-format goes with one model"),
        (("--model", "a", "--model", "b", "--partial-every", "5m"), "--partial-every goes with one model"),
    ],
)
def test_what_cannot_be_for_several_is_said_before_anything_is_asked(kotae: Kotae, options: tuple[str, ...], says: str) -> None:
    make_workbook(kotae.folder / "q.xlsx", ["one"])

    finished = kotae("run", "q.xlsx", "--broker", "redis://127.0.0.1:1", *options, "-o", "out.xlsx")

    assert (finished.code, finished.err.count("\n")) == (2, 1)
    assert says in finished.err
    assert not (kotae.folder / "out.xlsx").exists()


def test_the_variable_names_one_model_also_with_a_space_in_it(kotae: Kotae) -> None:
    """As it did before there could be several."""
    make_workbook(kotae.folder / "q.xlsx", ["one"])

    finished = kotae("run", "q.xlsx", "-o", "out.xlsx", KOTAE_MODEL="./my model")

    assert "no model at ./my model" in finished.err


def test_interrupted_all_models_stop_and_the_same_command_resumes(kotae: Kotae, start_worker: StartWorker, broker_url: str) -> None:
    """The threads of the models hear of it too."""
    slow = ("--engine-arg", "delay=0.5", "--engine-arg", "max_num_seqs=2")
    start_worker(*slow, name="a", wait=False)
    start_worker(*slow, name="b")
    make_workbook(kotae.folder / "q.xlsx", [f"question {row}" for row in range(20)])
    command = ("run", "q.xlsx", "--broker", broker_url, "--model", "a", "--model", "b", "-o", "out.xlsx")

    with stopped_in_the_end(kotae.start(*command)) as process:
        eventually(lambda: len(rows := stored(kotae.folder / ".kotae")) == 2 and all(rows))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert not (kotae.folder / "out.xlsx").exists()
    told = kotae.json(*command)

    assert [run["outcomes"] for run in told["runs"]] == [{"answered": 20}] * 2
