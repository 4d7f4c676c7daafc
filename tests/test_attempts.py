"""What Redis knows of the attempts at a row: the guards that make a row be paid for once."""

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from tests.conftest import StartWorker, eventually, question, result_of, send
from tests.test_worker import starts
from workers.attempts import ENGINE_DEATH, Attempts
from workers.cohorts import CONDEMNED, cohort_size
from workers.contract import broker
from workers.contract.messages import Outcome, Presence

ROW = "cafe:7:0"


@pytest.fixture
def mine(client: redis.Redis) -> Attempts:
    """A worker's view."""
    return Attempts(client, "w@host#1")


@pytest.fixture
def theirs(client: redis.Redis) -> Attempts:
    """That of another one."""
    return Attempts(client, "v@host#2")


def test_only_one_worker_gets_a_row(mine: Attempts, theirs: Attempts) -> None:
    """Celery hands a repeated message to anybody."""
    assert mine.claim(ROW).holder == "w@host#1"
    assert theirs.claim(ROW).holder == "w@host#1"

    mine.give_back(ROW, begun=True, alone=False)

    assert theirs.claim(ROW).holder == "v@host#2"


def test_a_claim_that_is_asked_for_twice_is_one(mine: Attempts, theirs: Attempts) -> None:
    """A connection may break after Redis has done what it was asked, and redis-py asks again."""
    mine.claim(ROW)
    mine.claim(ROW)
    theirs.release(ROW, "w@host#1")

    assert theirs.claim(ROW).deaths == 1


@pytest.mark.parametrize(
    "settle",
    [
        lambda client: client.setbit(broker.stored_key("cafe", 0), 7, 1),
        lambda client: client.set(broker.result_key(ROW), "there"),
        lambda client: client.set(broker.generation_key("cafe"), 1),
    ],
    ids=["stored", "answered", "cancelled"],
)
def test_a_settled_row_is_nobodys(client: redis.Redis, mine: Attempts, settle: object) -> None:
    """And no claim of it stays behind."""
    settle(client)  # type: ignore[operator]

    assert mine.claim(ROW).settled
    assert not client.exists(broker.claims_key("cafe", 0))


def test_a_claim_of_a_process_that_is_no_more_is_taken_over_once(client: redis.Redis, mine: Attempts, theirs: Attempts) -> None:
    """A worker that was started again has its old name, but is another process."""
    presence = dict(served_name="echo", fingerprint="f", host="host", pid=1, gpu="", in_flight=0, max_in_flight=1)
    client.set(broker.presence_key("echo", "w@host"), Presence(worker="w@host", incarnation="w@host#1", **presence).model_dump_json())  # type: ignore[arg-type]
    mine.claim(ROW)
    assert not theirs.is_gone("echo", "w@host#1")
    client.set(broker.presence_key("echo", "w@host"), Presence(worker="w@host", incarnation="w@host#9", **presence).model_dump_json())  # type: ignore[arg-type]
    assert theirs.is_gone("echo", "w@host#1")

    theirs.release(ROW, "w@host#1")
    standing = theirs.claim(ROW)
    Attempts(client, "u@host#3").release(ROW, "w@host#1")

    assert mine.claim(ROW).holder == "v@host#2"
    assert standing.deaths == 1


def test_silence_is_no_death_at_once(client: redis.Redis) -> None:
    """A Redis that was away for a minute has forgotten everybody's signs of life, and they all come back."""
    assert not Attempts(client, "v@host#2").is_gone("echo", "w@host#1")
    assert Attempts(client, "v@host#2", patience=0).is_gone("echo", "w@host#1")


def test_a_row_is_suspected_only_of_what_it_was_there_for(mine: Attempts, theirs: Attempts) -> None:
    """A kill from outside says little; a death that the worker saw says more; a row that was given back is as innocent as before."""
    theirs.claim(ROW)
    mine.release(ROW, "v@host#2")
    after_a_kill = mine.claim(ROW)
    mine.give_back(ROW, begun=True, alone=False)
    after_a_drain = mine.claim(ROW)
    mine.wait(ROW)
    mine.begin(ROW, alone=True)
    mine.blame(ROW, alone=True)
    after_an_engine_death = mine.claim(ROW)
    mine.end(ROW)
    in_the_end = mine.claim(ROW)

    assert (after_a_kill.deaths, after_a_kill.alone) == (1, 0)
    assert (after_a_drain.deaths, after_a_drain.alone) == (1, 0)
    assert (after_an_engine_death.deaths, after_an_engine_death.alone) == (1 + ENGINE_DEATH, ENGINE_DEATH)
    assert (in_the_end.deaths, in_the_end.alone) == (0, 0)


def test_rows_of_an_engine_that_died_share_it_with_ever_fewer() -> None:
    """One death changes nothing, seen or from outside; a row is given up after two that it saw alone."""
    sizes = [cohort_size(deaths) for deaths in (0, 1, *(seen * ENGINE_DEATH for seen in (1, 2, 3, 4)))]

    assert sizes == [math.inf, math.inf, math.inf, 64, 8, 1]
    assert CONDEMNED == 2 * ENGINE_DEATH


def test_hundreds_of_threads_may_ask_at_once(broker_url: str) -> None:
    """Each row in flight is a thread; redis-py's pools refuse the hundred-and-first."""
    attempts = Attempts(broker.connect(broker.broker_settings(broker_url), patient=True), "w@host#1")

    with ThreadPoolExecutor(300) as threads:
        standings = list(threads.map(lambda row: attempts.claim(f"cafe:{row}:0"), range(900)))

    assert {standing.holder for standing in standings} == {"w@host#1"}


def test_a_row_that_another_worker_is_at_is_waited_for(
    start_worker: StartWorker, broker_url: str, client: redis.Redis, tmp_path: Path
) -> None:
    """After a cut connection every row in flight is delivered again, mostly to somebody else."""
    ledger = tmp_path / "ledger"
    for _ in range(2):
        start_worker("--engine-arg", "delay=2", "--max-in-flight", "2", "--ledger", str(ledger))

    send(broker_url, [question()] * 4, "echo")

    assert result_of(client, question()).outcome is Outcome.ANSWERED
    eventually(lambda: client.hlen(broker.UNACKED) == 0)
    assert starts(ledger) == ["cafe:0:0"]
    assert client.hgetall(broker.deaths_key("cafe", 0)) == {b"0": b"1"}, "kept until the collector has the result"


def test_an_answer_that_somebody_else_gave_meanwhile_is_not_stored_again(
    start_worker: StartWorker, broker_url: str, client: redis.Redis
) -> None:
    """A worker that was cut off comes back with a late result; nobody would ever collect it."""
    start_worker("--engine-arg", "delay=1")
    send(broker_url, [question()], "echo")
    eventually(lambda: client.hlen(broker.claims_key("cafe", 0)) == 1)

    client.setbit(broker.stored_key("cafe", 0), 0, 1)

    eventually(lambda: client.hlen(broker.UNACKED) == 0)
    eventually(lambda: not client.exists(broker.result_key("cafe:0:0"), broker.claims_key("cafe", 0)))
