"""From the workbook through Celery and a real vLLM back to the workbook."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
import pytest
import redis
from python_calamine import CalamineWorkbook

from producer.workbook.reading import read_sheet
from tests.conftest import PATIENCE, Kotae, StartWorker, eventually, free_port, make_workbook, question, send, stopped_in_the_end
from tests.test_metrics import VLLM_NAMES
from tests.test_run import stored, table
from tests.test_worker import starts
from workers.contract import broker
from workers.contract.messages import ChatMessage, Question
from workers.contract.replies import REASONING_ANSWER_PROMPT
from workers.engines.demo_model import demo_model_path

EXAMPLE = Path(__file__).parent.parent / "examples" / "questions.xlsx"


@pytest.fixture
def fleet(vllm_worker: Any, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The session's vLLM behind KOTAE_BROKER."""
    monkeypatch.setenv("KOTAE_BROKER", broker_url)
    monkeypatch.delenv("KOTAE_NAME")
    return vllm_worker


def test_the_example_workbook_is_answered_in_its_format(kotae: Kotae, fleet: Any) -> None:
    """What `make demo` shows: both parts filled in every row, and where they come from."""
    told = kotae.json("run", EXAMPLE, "-o", "out.xlsx", "--max-tokens", "80", "--enforce-format")

    rows = table(kotae.folder / "out.xlsx")
    provenance = dict(CalamineWorkbook.from_path(str(kotae.folder / "out.xlsx")).get_sheet_by_name("Run").to_python())
    assert told["outcomes"] == {"answered": 24}
    assert all(row["answer"] and row["reasoning"] for row in rows)
    assert [row["question"] for row in rows] == read_sheet(EXAMPLE).questions()
    assert all(row["output_tokens"] <= 80 and row["finish_reason"] == "stop" for row in rows)
    assert provenance["model 1: weights"] == fleet._identity.weights
    assert provenance["model 1: engine_version"] == "0.32.0"
    assert provenance["sampling: enforce_format"] == "reasoning-answer"
    assert provenance["system prompt"] == REASONING_ANSWER_PROMPT


def test_the_samples_of_a_row_are_one_request_of_the_engine(kotae: Kotae, fleet: Any, vllm_ledger: Path) -> None:
    """They share the prompt, which is read and counted once; each goes its own way from there."""
    make_workbook(kotae.folder / "q.xlsx", ["Say a number.", "Name a colour."])

    told = kotae.json("run", "q.xlsx", "-o", "out.xlsx", "--samples", "3", "--max-tokens", "8", "--ignore-eos", "--temperature", "0.9")

    rows = table(kotae.folder / "out.xlsx")
    assert len([name for name in starts(vllm_ledger) if name.startswith(told["run_id"])]) == 2
    assert told["output_tokens"] == 2 * 3 * 8
    assert told["prompt_tokens"] == sum(row["prompt_tokens"] for row in rows)
    assert all(len({row["answer"], row["answer_2"], row["answer_3"]}) > 1 for row in rows)


def test_odd_rows_get_the_outcomes_that_are_theirs(kotae: Kotae, fleet: Any) -> None:
    """Each in its place, with its own text, whatever the model makes of it."""
    questions = ["", "same", "same", "word " * 3000, "🙂 emoji", "=1+1", "bell \x07", "literal _x000D_ text", "line\r\nbreak", "last"]
    make_workbook(kotae.folder / "q.xlsx", questions)

    finished = kotae("run", "q.xlsx", "-o", "out.xlsx", "--max-tokens", "12", "--temperature", "0.9")

    rows = CalamineWorkbook.from_path(str(kotae.folder / "out.xlsx")).get_sheet_by_index(0).to_python()
    errors = CalamineWorkbook.from_path(str(kotae.folder / "out.xlsx")).get_sheet_by_name("Errors").to_python()
    outcomes = [row[rows[0].index("outcome")] for row in rows[1:]]
    assert finished.code == 3, finished.err
    assert [row[1] for row in rows[1:]] == questions
    assert (outcomes[0], outcomes[3]) == ("skipped", "rejected")
    assert set(outcomes[1:3] + outcomes[4:]) <= {"answered", "malformed", "truncated"}
    assert errors[1:] == [[5.0, "word " * 3000, "rejected", rows[4][rows[0].index("error")], 1]]
    assert "2048" in rows[4][rows[0].index("error")]
    answers = [row[rows[0].index("answer")] for row in rows[1:]]
    assert answers[1] != answers[2], "equal questions have seeds of their own"


def test_an_interrupted_run_asks_no_answered_row_again(kotae: Kotae, fleet: Any, vllm_ledger: Path) -> None:
    """Tokens are what costs; the count is the engine's own."""
    questions = [f"Tell me about the number {row}." for row in range(70)]
    make_workbook(kotae.folder / "q.xlsx", questions)
    command = ("run", "q.xlsx", "-o", "out.xlsx", "--max-tokens", "16", "--ignore-eos")
    with stopped_in_the_end(kotae.start(*command)) as running:
        eventually(lambda: stored(kotae) > 0)
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=60)
    answered = stored(kotae)

    finished = kotae(*command)

    run_id = kotae.json("status")["runs"][-1]["run_id"]
    generated = [name for name in starts(vllm_ledger) if name.startswith(run_id)]
    assert (running.returncode, finished.code) == (130, 0)
    assert 0 < answered <= 70
    assert sorted(generated) == sorted(f"{run_id}:{row}:0" for row in range(70)), (
        "each row once: also those in flight are awaited, not asked again"
    )
    assert [row["question"] for row in table(kotae.folder / "out.xlsx")] == questions


def test_the_answers_are_the_models(kotae: Kotae, fleet: Any) -> None:
    """The same prompts to offline vLLM, one at a time: token for token the same prompt, and nearly always the same reply."""
    questions = read_sheet(EXAMPLE).questions()
    conversations = [[{"role": "system", "content": REASONING_ANSWER_PROMPT}, {"role": "user", "content": text}] for text in questions]
    engine = {"model": str(demo_model_path()), "engine_args": fleet._identity.engine_args}
    one_by_one = {"conversations": conversations, "sampling": [{"temperature": 0, "max_tokens": 8}] * 24, "one_at_a_time": True}

    as_it_is = ("--reply-format", "plain", "--blank-lines", "keep", "--system-prompt", REASONING_ANSWER_PROMPT)
    told = kotae.json("run", EXAMPLE, "-o", "out.xlsx", "--temperature", "0", "--max-tokens", "8", *as_it_is)
    asked = f"{json.dumps(engine)}\n{json.dumps(one_by_one)}\n"
    offline = subprocess.run(
        [sys.executable, "-m", "benchmarks.offline"], input=asked, capture_output=True, text=True, timeout=280, check=False
    )

    assert offline.returncode == 0, offline.stderr[-2000:]
    expected = json.loads(offline.stdout.rpartition("OFFLINE ")[2])["outputs"]
    assert len(expected) == len(questions) == told["rows"]
    ours = [
        fleet.engine._engine.chat_template.render([ChatMessage.model_validate(m) for m in conversation]) for conversation in conversations
    ]
    answers = [row["answer"] or "" for row in table(kotae.folder / "out.xlsx")]
    assert ours == [one["prompt_token_ids"] for one in expected]
    assert [row["prompt_tokens"] for row in table(kotae.folder / "out.xlsx")] == [len(one["prompt_token_ids"]) for one in expected]
    equal = sum(answer == one["text"] for answer, one in zip(answers, expected, strict=True))
    assert equal >= 0.9 * len(questions), f"{equal} of {len(questions)} replies begin with the same 8 tokens"


def results(client: redis.Redis, questions: list[Question]) -> int:
    """Return how many answers wait for a collector."""
    keys = [broker.result_key(broker.task_id(one.run_id, one.row, one.generation)) for one in questions]
    return client.exists(*keys)


def test_a_killed_engine_core_costs_its_rows_only_time(
    start_worker: StartWorker, broker_url: str, client: redis.Redis, tmp_path: Path
) -> None:
    """As a CUDA fault does it: the process around vLLM's core notices, gives its rows back, and a new one answers them."""
    ledger = tmp_path / "ledger"
    port = free_port()
    small = [f"--engine-arg={pair}" for pair in ("max_num_seqs=150", "max_model_len=512", "max_num_batched_tokens=512")]
    where = ["--name", "echo", "--gpus", "none", "--metrics-port", str(port), "--ledger", str(ledger)]
    command = [sys.executable, "-m", "workers", "--model", "demo", *where, *small]
    worker = start_worker(command=command, patience=4 * PATIENCE)
    questions = [question(f"Count from {row}.", row=row, max_tokens=1, ignore_eos=True) for row in range(150)]
    send(broker_url, questions, "echo")
    eventually(lambda: len(starts(ledger)) == 150)
    (core,) = [p for p in psutil.Process(worker.popen.pid).children(recursive=True) if "EngineCore" in " ".join(p.cmdline())]

    core.kill()

    eventually(lambda: "ended with code 70; starting it again" in worker.said())
    waiting, ended = sum(client.llen(name) for name in broker.queue_names("echo")), results(client, questions)
    assert waiting + ended == 150, "given back at once, not after the visibility timeout"
    assert client.hlen(broker.UNACKED) == 0
    assert waiting > 75, "the kill met most of them"
    eventually(lambda: results(client, questions) >= ended + 8, patience=4 * PATIENCE)
    assert len(starts(ledger)) > 150
    with urlopen(f"http://127.0.0.1:{port}/metrics") as metrics:
        lines = metrics.read().decode().splitlines()
    (generated,) = [line for line in lines if line.startswith("vllm:generation_tokens_total")]
    assert 'gpu="cpu"' in generated
    assert 'served_name="echo"' in generated
    assert {line.partition("{")[0] for line in lines} >= VLLM_NAMES, "what the dashboard asks for"
    assert float(generated.split()[-1]) >= 8, "its metrics are served again too"


def test_columns_steer_each_row_in_one_batch(kotae: Kotae, fleet: Any) -> None:
    """Adapter, system prompt, length, seed and conversation of a row reach the model; the worker's one adapter is heard."""
    asked, pirate = "What is the capital of France?", "You are a pirate. Answer as one."
    plainly = [{"role": "user", "content": asked}]
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}, *plainly]
    make_workbook(
        kotae.folder / "q.xlsx",
        [asked] * 8,
        lora=["", "tuned", "", "", "nobody", "", "", ""],
        system=["", "", pirate, "", "", "", "", ""],
        tokens=["", "", "", 5, "", "", "", ""],
        talk=["", "", "", "", "", json.dumps(talk), "", ""],
        temp=["", "", "", "", "", "", 1.5, 1.5],
        seed=["", "", "", "", "", "", 7, 7],
    )
    columns = ("--adapter-column", "lora", "--system-prompt-column", "system", "--messages-column", "talk")
    sampling = ("temperature=temp", "seed", "max_tokens=tokens")
    steering = (*columns, *(part for column in sampling for part in ("--sampling-column", column)))
    plain = ("--reply-format", "plain", "--temperature", "0", "--max-tokens", "16", "--ignore-eos")

    finished = kotae("run", "q.xlsx", "-o", "out.xlsx", *plain, *steering)

    rows = table(kotae.folder / "out.xlsx")
    answers = [row["answer"] for row in rows]
    assert finished.code == 3, finished.err
    assert "no adapter nobody (it has: tuned)" in finished.out
    assert [row["outcome"] for row in rows] == ["truncated"] * 4 + ["rejected"] + ["truncated"] * 3
    assert [row["output_tokens"] for row in rows] == [16, 16, 16, 5, None, 16, 16, 16]
    conversations = {0: plainly, 1: plainly, 2: [{"role": "system", "content": pirate}, *plainly], 5: talk}
    for row, conversation in conversations.items():
        prompt = fleet.engine._engine.chat_template.render([ChatMessage.model_validate(message) for message in conversation])
        assert rows[row]["prompt_tokens"] == len(prompt)
    assert answers[1] != answers[0], "the adapter is heard"
    assert answers[0].startswith(answers[3]), "the same greedy reply, shorter"
    assert answers[6] == answers[7] != answers[0], "the rows' own seed, at their own temperature"
