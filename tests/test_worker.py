"""A worker as Celery runs it: real processes, the real queue, the echo engine."""

import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from shutil import which
from typing import Any

import psutil
import pytest
import redis

from tests.conftest import StartWorker, eventually, question, result_of, send
from workers.contract import broker
from workers.contract.messages import ModelIdentity, Outcome, Presence

#: The supervisor, as a person starts it.
ECHO = [sys.executable, "-m", "workers", "--engine", "echo", "--name", "echo", "--drain-seconds", "0"]


def starts(ledger: Path) -> list[str]:
    """The rows that engines started, as `run:row:generation`."""
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    return [line.split()[1].rpartition(":")[0] for line in lines if line.startswith("start ")]


def test_every_row_comes_back_as_its_own_answer(start_worker: StartWorker, broker_url: str, client: redis.Redis) -> None:
    """A hundred rows in flight, finishing in any order."""
    questions = [question(f"question {row}", row=row) for row in range(100)]
    start_worker("--engine-arg", "delay=0.1", "--engine-arg", "delay_spread=0.1")

    send(broker_url, questions, "echo")

    answers = [result_of(client, one) for one in questions]
    assert [answer.completions[0].answer for answer in answers] == [f"question {row}" for row in range(100)]
    assert all(client.ttl(broker.result_key(f"cafe:{row}:0")) == -1 for row in range(100)), "uncollected answers never expire"


def test_a_worker_says_who_it_is(start_worker: StartWorker, client: redis.Redis) -> None:
    """Producers find it by this key, which goes away with it."""
    worker = start_worker("--max-in-flight", "7")

    (key,) = client.keys("kotae.presence.echo.*")
    presence = Presence.model_validate_json(client.get(key))
    identity = ModelIdentity.model_validate_json(client.hget(broker.IDENTITIES_KEY, presence.fingerprint))
    assert (presence.served_name, presence.in_flight, presence.max_in_flight) == ("echo", 0, 7)
    assert identity.engine == "echo"
    assert 0 < client.ttl(key) <= broker.PRESENCE_TTL
    assert worker.stop() == 0
    assert not client.exists(key)


def test_rows_that_would_only_wait_are_left_to_other_workers(start_worker: StartWorker, broker_url: str, client: redis.Redis) -> None:
    """Near the end of a run nobody keeps rows that an idle GPU could begin."""
    start_worker("--engine-arg", "delay=600", "--engine-arg", "max_num_seqs=4", "--max-in-flight", "200")
    questions = [question(row=row) for row in range(100)]
    (queue, *_) = broker.queue_names("echo")

    send(broker_url, questions, "echo")
    eventually(lambda: client.hlen(broker.UNACKED) >= 8)
    start_worker("--engine-arg", "max_num_seqs=4")

    eventually(lambda: client.llen(queue) == 0)
    assert client.hlen(broker.UNACKED) < 30


def test_plain_celery_works_too(start_worker: StartWorker, broker_url: str, client: redis.Redis) -> None:
    """Who has Celery under systemd already need not learn another program; and it takes the threads pool by itself."""
    command = [sys.executable, "-m", "celery", "-A", "workers.tasks", "worker", "--loglevel", "INFO"]
    worker = start_worker(command=command, KOTAE_ENGINE="echo", KOTAE_NAME="echo", KOTAE_MAX_IN_FLIGHT="3")

    send(broker_url, [question("hello")], "echo")

    assert result_of(client, question()).completions[0].answer == "hello"
    assert "concurrency: 3 (thread)" in " ".join(worker.said().split())


def test_a_row_whose_work_is_done_is_not_done_again(
    start_worker: StartWorker, broker_url: str, client: redis.Redis, tmp_path: Path
) -> None:
    """Delivery is at least once; the guards make it pay once."""
    ledger = tmp_path / "ledger"
    start_worker("--ledger", str(ledger))
    client.setbit(broker.stored_key("cafe", 0), 1, 1)
    client.set(broker.result_key(broker.task_id("cafe", 2, 0)), "there already")
    client.set(broker.generation_key("dead"), 1)

    send(broker_url, [question(row=1), question(row=2), question(row=3, run_id="dead"), question(row=4)], "echo")

    assert result_of(client, question(row=4)).outcome is Outcome.ANSWERED
    eventually(lambda: client.hlen(broker.UNACKED) == 0)
    assert starts(ledger) == ["cafe:4:0"]
    assert client.get(broker.result_key("cafe:2:0")) == b"there already"


def test_the_same_row_sent_three_times_is_generated_once(
    start_worker: StartWorker, broker_url: str, client: redis.Redis, tmp_path: Path
) -> None:
    """Celery itself would run it three times."""
    ledger = tmp_path / "ledger"
    start_worker("--engine-arg", "delay=1", "--ledger", str(ledger))

    send(broker_url, [question()] * 3, "echo")

    assert result_of(client, question()).outcome is Outcome.ANSWERED
    eventually(lambda: client.hlen(broker.UNACKED) == 0)
    assert starts(ledger) == ["cafe:0:0"]


def test_a_question_nobody_understands_comes_back_as_failed(start_worker: StartWorker, broker_url: str, client: redis.Redis) -> None:
    """A newer producer must learn that its worker is too old, for each row, instead of waiting for ever."""
    start_worker()
    app = broker.producer_app(broker.broker_settings(broker_url))
    with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
        wire = question().to_wire() | {"from_the_future": 1}
        app.send_task(broker.ANSWER_TASK, args=(wire,), task_id="cafe:0:0", queue=broker.celery_queues("echo")[0], producer=producer)
    app.close()

    answer = result_of(client, question())

    assert answer.outcome is Outcome.FAILED
    assert "upgrade" in (answer.error or "")


def test_another_model_under_the_same_name_is_refused(start_worker: StartWorker) -> None:
    """Half of a run by one model and half by another would look like one result."""
    start_worker("--engine-arg", "delay=0")

    second = start_worker(command=[sys.executable, "-m", "tests.other_model"], wait=False, KOTAE_ENGINE="echo", KOTAE_NAME="echo")

    assert second.popen.wait(60) == 2
    assert "other workers serve echo with another model" in second.said()
    assert "Traceback" not in second.said()


def test_a_stopped_worker_hands_its_rows_to_the_next(start_worker: StartWorker, broker_url: str, client: redis.Redis) -> None:
    """SIGTERM costs no row and no visibility timeout: what is not done goes back at once."""
    slow = start_worker("--engine-arg", "delay=1000")
    questions = [question(row=row) for row in range(20)]
    send(broker_url, questions, "echo")
    eventually(lambda: client.hlen(broker.UNACKED) == 20)

    assert slow.stop() == 0
    assert client.hlen(broker.UNACKED) == 0
    start_worker()

    assert all(result_of(client, one).outcome is Outcome.ANSWERED for one in questions)


def test_rows_of_a_killed_worker_come_back(start_worker: StartWorker, broker_url: str, client: redis.Redis) -> None:
    """kill -9 of the whole machine, as far as Redis can tell."""
    victim = start_worker("--engine-arg", "delay=1000")
    questions = [question(row=row) for row in range(20)]
    send(broker_url, questions, "echo")
    eventually(lambda: client.hlen(broker.UNACKED) == 20)

    victim.kill()
    client.delete(*client.keys("kotae.presence.*"))
    start_worker()

    assert all(result_of(client, one).outcome is Outcome.ANSWERED for one in questions)


def test_a_drain_stores_and_acknowledges_what_gets_done_meanwhile(
    start_worker: StartWorker, broker_url: str, client: redis.Redis, tmp_path: Path
) -> None:
    """A kill in the middle of a long drain, as clusters do it, must not cost the answers of the drain."""
    ledger = tmp_path / "ledger"
    worker = start_worker("--engine-arg", "delay=1", "--max-in-flight", "2", "--ledger", str(ledger), "--drain-seconds", "1000")
    long = start_worker("--engine-arg", "delay=1000", "--ledger", str(ledger), "--drain-seconds", "1000", name="long")
    send(broker_url, [question(row=row) for row in range(4)], "echo")
    send(broker_url, [question(row=9)], "long")
    eventually(lambda: len(starts(ledger)) == 3)

    worker.popen.terminate()
    long.popen.terminate()

    assert worker.popen.wait(60) == 0, "it ends as soon as its rows are done, not when its time is up"
    assert sum(client.llen(name) for name in broker.queue_names("echo")) == 2, "rows it had not begun wait for others"
    assert len(client.keys("celery-task-meta-*")) == 2
    assert long.popen.poll() is None
    assert client.hlen(broker.UNACKED) == 1, "only the row that is still running is not acknowledged"


def test_a_second_signal_hands_back_at_once(start_worker: StartWorker, broker_url: str, client: redis.Redis) -> None:
    """Who presses Ctrl-C twice does not want to wait for ten minutes."""
    worker = start_worker("--engine-arg", "delay=1000", "--drain-seconds", "1000")
    send(broker_url, [question(row=row) for row in range(5)], "echo")

    def presence() -> dict[str, Any]:
        return next((json.loads(said) for key in client.keys("kotae.presence.*") if (said := client.get(key))), {})

    eventually(lambda: sum(presence().get("runs", {}).values()) == 5)  # the engine has them: what is not begun goes back at once
    worker.popen.terminate()
    eventually(lambda: presence().get("leaving"))

    worker.popen.terminate()

    assert worker.popen.wait(60) == 0
    assert sum(client.llen(name) for name in broker.queue_names("echo")) == 5
    assert not client.keys("kotae.claims.*")
    assert set(client.hvals(broker.deaths_key("cafe", 0))) == {b"0"}, "handing back is no death"


@pytest.mark.parametrize("fault", ["die", "hang"])
def test_a_dead_engine_ends_its_process_and_its_rows_are_answered(
    start_worker: StartWorker, broker_url: str, client: redis.Redis, fault: str
) -> None:
    """Its rows go back at once, a new process takes them, and the row that killed it is found and fails alone."""
    options = ("--engine-arg", f"{fault}=POISON", "--engine-arg", "delay=0.3", "--max-in-flight", "4", "--hang-seconds", "2")
    worker = start_worker(*options)
    questions = [question("POISON" if row == 3 else "fine", row=row) for row in range(8)]

    send(broker_url, questions, "echo")

    outcomes = [result_of(client, one).outcome for one in questions]
    assert outcomes == [Outcome.FAILED if row == 3 else Outcome.ANSWERED for row in range(8)]
    assert "ended with code 70; starting it again" in worker.said()
    assert ("no step for" in worker.said()) == (fault == "hang")


def test_an_engine_that_never_gets_ready_is_given_up(start_worker: StartWorker) -> None:
    """Restarting for ever would look like working. Here the process is killed whenever it loads, as one that wants too much memory is."""
    worker = start_worker("--engine-arg", "delay=0", wait=False)
    children: set[int] = set()

    def kill_what_loads() -> bool:
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(worker.popen.pid).children():
                children.add(child.pid)
                child.kill()
        return worker.popen.poll() is not None

    eventually(kill_what_loads)
    assert worker.popen.returncode == 71
    assert len(children) == 3
    assert "ended 3 times before its engine was ready, last with code -9; it is given up" in worker.said().splitlines()[-1]


@pytest.mark.skipif(which("faketime") is None, reason="needs the Debian package faketime")
def test_a_worker_whose_clock_is_wrong_refuses_to_start(start_worker: StartWorker) -> None:
    """kombu judges by the worker's own clock which rows are overdue: it would take those of all others."""
    command = ["faketime", "-f", "+20s", *ECHO]
    worker = start_worker(command=command, wait=False, FAKETIME_DONT_FAKE_MONOTONIC="1")

    assert worker.popen.wait(60) == 2
    assert "clock is 20 s ahead of that of the broker" in worker.said().splitlines()[-1]


def test_a_worker_that_is_not_allowed_what_it_needs_says_so(start_worker: StartWorker, broker_url: str, client: redis.Redis) -> None:
    """An ACL is easily too narrow."""
    client.execute_command("ACL", "SETUSER", "reader", "on", ">sesame", "~*", "&*", "+@read", "+@connection", "+time")
    worker = start_worker(wait=False, KOTAE_BROKER=f"redis://reader:sesame@{broker_url.rpartition('@')[2]}")

    assert worker.popen.wait(60) == 2
    (line,) = worker.said().splitlines()
    assert "does not allow this user what Kotae needs" in line
    assert "sesame" not in line


def test_a_cancelled_run_is_aborted_in_the_engine(start_worker: StartWorker, broker_url: str, client: redis.Redis, tmp_path: Path) -> None:
    """Cancelling raises the run's generation; rows of another run go on."""
    ledger = tmp_path / "ledger"
    start_worker("--engine-arg", "delay=4", "--max-in-flight", "4", "--ledger", str(ledger))
    send(broker_url, [question(row=row) for row in range(8)] + [question(run_id="beef")], "echo", queue=1)
    eventually(lambda: len(starts(ledger)) == 4)

    client.set(broker.generation_key("cafe"), 1)

    assert result_of(client, question(run_id="beef")).outcome is Outcome.ANSWERED
    eventually(lambda: client.hlen(broker.UNACKED) == 0)
    ended = [line.split()[1].partition(":")[0] for line in ledger.read_text().splitlines() if line.startswith("end")]
    assert ended == ["beef"]
    assert [key for key in client.keys("celery-task-meta-cafe*")] == []
    assert not client.exists(broker.claims_key("cafe", 0))


def test_no_process_outlives_the_supervisor(start_worker: StartWorker) -> None:
    """A lost worker would hold its GPU until somebody finds it."""
    worker = start_worker()
    children = psutil.Process(worker.popen.pid).children(recursive=True)
    assert children

    worker.popen.kill()
    worker.popen.wait()

    eventually(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children))


def test_a_worker_process_that_died_is_started_again(start_worker: StartWorker, broker_url: str, client: redis.Redis) -> None:
    """A CUDA fault at night must not wait for the morning."""
    worker = start_worker()
    (child,) = psutil.Process(worker.popen.pid).children()

    os.kill(child.pid, signal.SIGKILL)
    eventually(lambda: [p.pid for p in psutil.Process(worker.popen.pid).children()] not in ([], [child.pid]))
    send(broker_url, [question("still there?")], "echo")

    assert result_of(client, question()).completions[0].answer == "still there?"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--engine-arg", "delay=abc"], "engine argument delay"),
        (["--engine-arg", "speed=3"], "echo knows delay"),
        (["--engine-arg", "delay"], "write it as KEY=VALUE"),
        (["--engine", "gpt"], "KOTAE_ENGINE"),
        (["--engine", "vllm", "--gpus", "all"], "no GPU is visible"),
        (["--engine", "vllm", "--gpus", "7"], "no GPU 7 here"),
        (["--broker", "redis://127.0.0.1:1/0"], "cannot reach the broker"),
        (["--max-in-flight", "0"], "KOTAE_MAX_IN_FLIGHT"),
        (["--metrics-port", "9", "--metrics-host", "192.0.2.1"], "would be open to everybody"),
    ],
)
def test_a_mistake_is_one_line_and_no_worker(start_worker: StartWorker, options: list[str], says: str) -> None:
    """Whoever starts a fleet reads the last line of a log, not a traceback."""
    worker = start_worker(*options, wait=False, CUDA_VISIBLE_DEVICES="")

    assert worker.popen.wait(60) == 2
    (line,) = worker.said().splitlines()
    assert line.startswith("kotae-worker: ")
    assert says in line


def test_files_of_the_settings_are_those_of_the_folder_where_it_was_started(
    start_worker: StartWorker, broker_url: str, tmp_path: Path
) -> None:
    """Worker processes run in another folder; `KOTAE_BROKER_PASSWORD_FILE=secrets/broker-password` means this one all the same."""
    (tmp_path / "secret").write_text(broker_url.split("//:")[1].split("@")[0])
    bare = "redis://" + broker_url.rpartition("@")[2]

    start_worker(
        command=["env", "-C", str(tmp_path), *ECHO],
        PYTHONPATH=str(Path(broker.__file__).parents[2]),
        KOTAE_BROKER=bare,
        KOTAE_BROKER_PASSWORD_FILE="secret",
    )


def test_a_mistake_is_one_line_where_celery_is_started_by_itself_too(start_worker: StartWorker) -> None:
    """A worker without our supervisor, and Flower."""
    celery = [sys.executable, "-m", "celery", "-A", "workers.tasks", "worker"]
    worker = start_worker(command=celery, wait=False, KOTAE_BROKER_PASSWORD_FILE="/nowhere/secret")

    assert worker.popen.wait(60) == 2
    (line,) = worker.said().splitlines()
    assert "cannot read the broker's password file /nowhere/secret" in line


def test_a_result_backend_of_somebody_elses_is_refused(start_worker: StartWorker) -> None:
    """Celery takes one from its environment, and nobody would ever collect an answer there."""
    worker = start_worker(wait=False, CELERY_RESULT_BACKEND="redis://127.0.0.1:1/0")

    assert worker.popen.wait(60) == 2
    (line,) = worker.said().splitlines()
    assert "unset CELERY_RESULT_BACKEND" in line
