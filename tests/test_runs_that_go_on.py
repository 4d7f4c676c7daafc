"""Runs that do not end at the first try: cancelled, retried, detached, taken over, and what earlier runs have paid for."""

import os
import signal
from pathlib import Path

import psutil
import pytest
import redis

from tests.conftest import Kotae, StartWorker, eventually, make_workbook, stopped_in_the_end
from tests.test_fleet_commands import Generated, generated  # noqa: F401  # a fixture
from tests.test_run import stored, table
from tests.test_worker import starts
from workers.contract import broker


def numbered(count: int) -> list[str]:
    return [f"question {row}" for row in range(count)]


def answers(kotae: Kotae) -> list[str]:
    return [row["answer"] for row in table(kotae.folder / "out.xlsx")]


def test_cancel_stops_a_run_everywhere_and_keeps_its_answers(
    kotae: Kotae, start_worker: StartWorker, broker_url: str, tmp_path: Path
) -> None:
    """The command that waits ends with 4; the same command again asks the rest after all."""
    ledger = tmp_path / "ledger"
    make_workbook(kotae.folder / "q.xlsx", numbered(12))
    slow = start_worker("--engine-arg", "delay=0.5", "--max-in-flight", "1", "--ledger", str(ledger))
    command = ("run", "q.xlsx", "-o", "out.xlsx", "--broker", broker_url)
    with stopped_in_the_end(kotae.start(*command)) as running:
        eventually(lambda: stored(kotae) >= 2)

        cancelled = kotae("cancel", "last", "--broker", broker_url)
        out, _ = running.communicate(timeout=60)

    outcomes = [row["outcome"] for row in table(kotae.folder / "out.xlsx")]
    assert (cancelled.code, running.returncode) == (0, 4), cancelled.err
    assert "is cancelled" in cancelled.out
    assert "the run was cancelled" in out
    assert set(outcomes) == {"answered", "cancelled"}
    kept = outcomes.count("answered")
    slow.kill()
    start_worker("--ledger", str(ledger))

    assert kotae("collect", "last", "-o", "out.xlsx", "--broker", broker_url).code == 4, "collecting resumes nothing"
    assert kotae(*command).code == 0
    assert answers(kotae) == numbered(12)
    ended = [line.split()[1] for line in ledger.read_text().splitlines() if line.startswith("end")]
    assert len(ended) <= 12 + 1, "an answered row is not asked again; the one in flight may have ended before it was aborted"
    assert kept >= 2


def test_a_run_that_nobody_is_at_can_be_cancelled(kotae: Kotae, broker_url: str, client: redis.Redis) -> None:
    """Submitted in the evening, regretted in the morning."""
    make_workbook(kotae.folder / "q.xlsx", numbered(3))
    assert kotae("submit", "q.xlsx", "--model", "nobody", "--broker", broker_url).code == 0

    told = kotae.json("cancel", "last", "--broker", broker_url)

    assert told["outcomes"] == {"cancelled": 3}
    assert client.get(broker.generation_key(told["run_id"])) == b"1"
    assert "nothing to cancel" in kotae("cancel", "last", "--broker", broker_url).out
    assert kotae.json("cancel", "last", "--broker", broker_url) == told


def test_retry_asks_only_the_rows_without_a_reply(kotae: Kotae, start_worker: StartWorker, broker_url: str, tmp_path: Path) -> None:
    """Three of ten thousand timed out: nobody wants to pay for the others."""
    ledger = tmp_path / "ledger"
    make_workbook(kotae.folder / "q.xlsx", ["fine", "slow", "", "slow too"])
    slow = start_worker("--engine-arg", "delay=1", "--ledger", str(ledger))
    command = ("run", "q.xlsx", "-o", "out.xlsx", "--broker", broker_url, "--row-timeout", "100ms")
    assert kotae(*command).code == 3
    slow.stop()
    start_worker("--ledger", str(ledger))

    again = kotae("retry", "last", "-o", "out.xlsx", "--broker", broker_url)

    assert again.code == 0, again.err
    assert "asking anew: 3 rows (3 timed_out)" in again.out
    assert [row["outcome"] for row in table(kotae.folder / "out.xlsx")] == ["answered", "answered", "skipped", "answered"]
    assert "3 rows (3 timed_out)" in {row["value"] for row in table(kotae.folder / "out.xlsx", "Run")}
    assert len(starts(ledger)) == 6
    assert "no row to ask anew" in kotae("retry", "last", "-o", "out.xlsx", "--broker", broker_url).out


def test_malformed_rows_are_retried_with_another_seed_and_temperature(kotae: Kotae, generated: Generated) -> None:  # noqa: F811
    """The same seed would give the same reply; and until the new one is there, the old one is kept."""
    make_workbook(kotae.folder / "q.xlsx", ["a</answer>", "b"])
    first = kotae.json("run", "q.xlsx", "-o", "out.xlsx", "--reply-format", "think")
    assert first["outcomes"] == {"malformed": 2}

    refused = kotae("retry", "last", "-o", "out.xlsx", "--malformed", "--temperature", "9")
    again = kotae.json("retry", "last", "-o", "out.xlsx", "--malformed", "--temperature", "0.9")

    assert (refused.code, len(refused.err.splitlines())) == (2, 1)
    assert again["outcomes"] == {"malformed": 2}
    assert sorted(name.rpartition(":")[2] for name in generated()) == ["0", "0", "1", "1"]
    assert "2 rows (2 malformed) at temperature 0.9" in {row["value"] for row in table(kotae.folder / "out.xlsx", "Run")}


def test_an_interrupted_retry_is_resumed(kotae: Kotae, start_worker: StartWorker, broker_url: str, tmp_path: Path) -> None:
    """Also by the command that began the run."""
    make_workbook(kotae.folder / "q.xlsx", numbered(6))
    slow = start_worker("--engine-arg", "delay=2", "--max-in-flight", "2", "--drain-seconds", "0")
    command = ("run", "q.xlsx", "-o", "out.xlsx", "--broker", broker_url, "--row-timeout", "100ms")
    assert kotae(*command).code == 3
    with stopped_in_the_end(kotae.start("retry", "last", "-o", "out.xlsx", "--broker", broker_url)) as running:
        with redis.Redis.from_url(broker_url) as client:
            eventually(lambda: client.keys("kotae.sent.*.1"))
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=60)
    slow.stop()
    start_worker()

    resumed = kotae("retry", "last", "-o", "out.xlsx", "--broker", broker_url)

    assert running.returncode == 130
    assert resumed.code in (0, 3), resumed.err
    assert kotae("retry", "last", "-o", "out.xlsx", "--broker", broker_url).code == 0
    assert answers(kotae) == numbered(6)


def test_retry_of_a_local_run_loads_its_model_again(kotae: Kotae) -> None:
    """Nobody remembers the options of yesterday."""
    make_workbook(kotae.folder / "q.xlsx", ["a", "b"])
    local = ("--engine", "echo", "--engine-arg", "delay=0.3", "--row-timeout", "100ms")
    assert kotae("run", "q.xlsx", "-o", "out.xlsx", *local).code == 3

    assert kotae("retry", "last", "-o", "out.xlsx").code == 3

    assert {row["outcome"] for row in table(kotae.folder / "out.xlsx")} == {"timed_out"}


def test_retry_of_an_unfinished_run_says_what_to_do_first(kotae: Kotae, broker_url: str) -> None:
    """Its open rows would be aborted and asked anew."""
    make_workbook(kotae.folder / "q.xlsx", ["a"])
    assert kotae("submit", "q.xlsx", "--model", "nobody", "--broker", broker_url).code == 0

    refused = kotae("retry", "last", "-o", "out.xlsx", "--broker", broker_url)

    assert refused.code == 2
    assert "resume or collect it, or cancel it" in refused.err


def test_a_detached_run_needs_no_terminal(kotae: Kotae, start_worker: StartWorker, broker_url: str) -> None:
    """More rows than Redis may hold, and nobody at the keyboard; collecting waits for it, or writes what there is."""
    make_workbook(kotae.folder / "q.xlsx", numbered(40))
    start_worker("--engine-arg", "delay=0.3", "--max-in-flight", "4")

    submitted = kotae.json("submit", "q.xlsx", "--detach", "--window", "8", "--broker", broker_url)
    partial = kotae("collect", "last", "-o", "part.xlsx", "--partial")
    collected = kotae.json("collect", "last", "-o", "out.xlsx", "--broker", broker_url)

    assert partial.code == 0, partial.err
    assert collected["outcomes"] == {"answered": 40}
    assert answers(kotae) == numbered(40)
    eventually(lambda: not psutil.pid_exists(submitted["pid"]) or psutil.Process(submitted["pid"]).status() == psutil.STATUS_ZOMBIE)


def test_a_detached_run_that_cannot_begin_is_said_at_once(kotae: Kotae, broker_url: str, client: redis.Redis) -> None:
    """Not in a log that nobody reads."""
    make_workbook(kotae.folder / "q.xlsx", ["a"])
    run_id = kotae.json("submit", "q.xlsx", "--model", "nobody", "--broker", broker_url)["run_id"]
    client.set(broker.lease_key(run_id), "process 1 on elsewhere (x)", ex=1000)
    make_workbook(kotae.folder / "q.xlsx", ["a"])
    keep = os.fork()
    if keep == 0:  # somebody who renews the lease
        with redis.Redis.from_url(client.connection_pool.connection_kwargs and broker_url) as other:
            while os.getppid() != 1:
                other.set(broker.lease_key(run_id), "process 1 on elsewhere (x)", ex=1000)
        os._exit(0)
    try:
        refused = kotae("submit", "q.xlsx", "--model", "nobody", "--detach", "--broker", broker_url)
    finally:
        os.kill(keep, signal.SIGKILL)
        os.waitpid(keep, 0)

    assert refused.code == 2
    assert "owned by process 1 on elsewhere" in refused.err


def test_an_edited_workbook_pays_only_for_what_changed(kotae: Kotae, generated: Generated) -> None:  # noqa: F811
    """A spelling mistake in one of ten thousand questions."""
    make_workbook(kotae.folder / "q.xlsx", ["a", "b", "b", "c"])
    assert kotae("run", "q.xlsx", "-o", "out.xlsx").code == 0
    make_workbook(kotae.folder / "q.xlsx", ["new", "c", "b", "b", "b"])

    edited = kotae("run", "q.xlsx", "-o", "out.xlsx")
    told = kotae.json("run", "q.xlsx", "-o", "out.xlsx")
    anew = kotae.json("run", "q.xlsx", "-o", "out.xlsx", "--seed", "1")
    make_workbook(kotae.folder / "q.xlsx", ["c", "a"])
    all_anew = kotae.json("run", "q.xlsx", "-o", "out.xlsx", "--no-reuse")

    assert "3 of 5 answers are taken from earlier runs" in edited.out
    assert (told["reused"], anew["reused"], all_anew["reused"]) == (3, 0, 0)
    assert answers(kotae) == ["c", "a"]
    assert len(generated()) == 4 + 2 + 5 + 2


def test_a_killed_producer_is_replaced_at_once(kotae: Kotae, start_worker: StartWorker, broker_url: str, tmp_path: Path) -> None:
    """Its lease names a process of this machine that is no more."""
    ledger = tmp_path / "ledger"
    make_workbook(kotae.folder / "q.xlsx", numbered(30))
    start_worker("--engine-arg", "delay=0.3", "--max-in-flight", "4", "--ledger", str(ledger))
    command = ("run", "q.xlsx", "-o", "out.xlsx", "--broker", broker_url)
    for least in (4, 10):
        with stopped_in_the_end(kotae.start(*command)) as running:
            eventually(lambda least=least: stored(kotae) >= least)
            running.kill()

    finished = kotae(*command)

    assert finished.code == 0, finished.err
    assert answers(kotae) == numbered(30)
    assert len(starts(ledger)) == 30


def test_rows_that_got_lost_are_sent_again(kotae: Kotae, start_worker: StartWorker, broker_url: str) -> None:
    """kill -9 between the fetch of a message and the record of the fetch does this; nobody but the producer can notice."""
    make_workbook(kotae.folder / "q.xlsx", numbered(6))
    with stopped_in_the_end(kotae.start("run", "q.xlsx", "-o", "out.xlsx", "--model", "echo", "--broker", broker_url)) as running:
        holder = start_worker("--max-in-flight", "1", "--engine-arg", "delay=1000")
        with redis.Redis.from_url(broker_url) as client:
            (queue,) = eventually(lambda: [name for name in broker.queue_names("echo") if client.llen(name) == 5])
            lost = [client.rpop(queue) for _ in range(2)]
            assert all(lost)
        holder.stop()
        start_worker(KOTAE_MAX_IN_FLIGHT="8")
        out, err = running.communicate(timeout=120)

    assert running.returncode == 0, err
    assert "sent again: 2" in out
    assert answers(kotae) == numbered(6)


@pytest.mark.parametrize("command", [("cancel",), ("retry", "-o", "x.xlsx")], ids=["cancel", "retry"])
def test_commands_on_runs_that_are_not_there_say_so(kotae: Kotae, command: tuple[str, ...]) -> None:
    """Exit code 2, one line."""
    finished = kotae(command[0], "nope", *command[1:])

    assert (finished.code, len(finished.err.splitlines())) == (2, 1), finished.err
