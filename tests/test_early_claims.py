"""Rows that come to a worker together are claimed together, and are still answered once."""

import json
from collections.abc import Iterator

import pytest
import redis
from celery.exceptions import Reject

from tests.conftest import StartWorker, eventually, question, result_of, send
from workers.attempts import Attempts
from workers.contract import broker
from workers.contract.messages import Outcome
from workers.lifecycle import Row, WorkerLife
from workers.settings import WorkerSettings

IDS = ["cafe:0:0", "cafe:1:0", "beef:0:0"]


@pytest.fixture
def life(broker_url: str) -> Iterator[WorkerLife]:
    """A worker's life around an engine, without Celery."""
    life = WorkerLife(WorkerSettings(engine="echo", name="echo"), broker.broker_settings(broker_url))
    life.start("w@tests")
    yield life
    life.stop()


def test_each_thread_finds_its_row_claimed_and_finds_that_once(life: WorkerLife, client: redis.Redis) -> None:
    """Rows of several runs may come together."""
    life.early_claims.claim(IDS)

    assert client.hgetall(broker.claims_key("cafe", 0)) == {b"0": life.me.encode(), b"1": life.me.encode()}
    assert client.hgetall(broker.deaths_key("beef", 0)) == {b"0": b"1"}
    found = [life.early_claims.take(task_id) for task_id in IDS]
    assert [standing.holder for standing in found if standing] == [life.me] * 3
    assert [life.early_claims.take(task_id) for task_id in IDS] == [None] * 3


def test_a_copy_of_a_row_that_a_thread_is_at_is_left_to_threads(life: WorkerLife, client: redis.Redis) -> None:
    """The copy's thread waits until the first is done, and must then look anew."""
    life.rows["cafe:0:0"] = Row(thread=1)

    life.early_claims.claim(IDS[:2])

    assert [life.early_claims.take(task_id) is None for task_id in IDS[:2]] == [True, False]
    assert client.hkeys(broker.claims_key("cafe", 0)) == [b"1"]


def test_what_is_not_free_is_left_to_its_thread(life: WorkerLife, client: redis.Redis) -> None:
    """It may have to wait, or to find out whether the other worker still lives."""
    client.setbit(broker.stored_key("cafe", 0), 0, 1)
    Attempts(client, "v@host#2").claim("cafe:1:0")

    life.early_claims.claim(IDS)

    assert [life.early_claims.take(task_id) is None for task_id in IDS] == [True, True, False]


def test_tasks_of_somebody_else_disturb_nobody(life: WorkerLife) -> None:
    """Anything may be sent to a queue."""
    life.early_claims.claim(["d41d8cd9-8f00", "None", *IDS])

    assert None not in [life.early_claims.take(task_id) for task_id in IDS]
    assert not len(life.early_claims)


def test_a_worker_that_stops_gives_back_what_it_claimed_and_never_began(life: WorkerLife, client: redis.Redis) -> None:
    """It is nobody's death, and the next worker need not wait until this one is gone."""
    from workers.tasks import _wait_for_claim

    life.early_claims.claim(IDS)
    life.leaving.set()

    for task_id in IDS:
        with pytest.raises(Reject):
            _wait_for_claim(life, task_id, Row(thread=1))
    assert not client.keys("kotae.claims.*")
    assert set(client.hvals(broker.deaths_key("cafe", 0)) + client.hvals(broker.deaths_key("beef", 0))) <= {b"0"}


def test_a_worker_asks_redis_for_several_rows_at_once(start_worker: StartWorker, broker_url: str, client: redis.Redis) -> None:
    """One question for each was a sixth of what a row cost a worker."""
    questions = [question(row=row) for row in range(64)]
    send(broker_url, questions, "echo")
    client.config_resetstat()

    start_worker()

    assert all(result_of(client, one).outcome is Outcome.ANSWERED for one in questions)
    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] < len(questions) / 2


def test_a_message_that_is_no_task_stops_no_worker(start_worker: StartWorker, broker_url: str, client: redis.Redis) -> None:
    """Whatever somebody pushed there by hand; Celery drops it and says so."""
    questions = [question(row=row) for row in range(8)]
    queue = broker.queue_names("echo")[0]
    send(broker_url, questions, "echo")
    odd = json.loads(client.lindex(queue, 0))
    del odd["headers"]
    odd["properties"]["delivery_tag"] = "odd"
    client.lpush(queue, json.dumps(odd))

    start_worker()

    assert all(result_of(client, one).outcome is Outcome.ANSWERED for one in questions)
    eventually(lambda: client.llen(queue) == 0 and client.hlen(broker.UNACKED) == 0)
