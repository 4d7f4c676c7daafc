"""Answers are stored several at a time, each is told when it is, and none is given up that may yet be stored."""

import json
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

import pytest
import redis
from celery import Celery
from redis.exceptions import NoPermissionError

from tests.conftest import eventually
from workers.contract import broker
from workers.contract.messages import Answer, Outcome
from workers.contract.results import PatientRedisBackend, Record
from workers.outbox import Outbox


class CountingBackend(PatientRedisBackend):
    """The real one, which writes down how many results it was given at a time."""

    batches: list[int]

    def store_all(self, records: Sequence[Record]) -> list[Exception | None]:
        """Store them."""
        self.batches.append(len(records))
        return super().store_all(records)


@pytest.fixture
def backend(broker_url: str) -> Iterator[CountingBackend]:
    """The result backend of a worker's app."""
    app = Celery(set_as_current=False)
    app.conf.update(broker.worker_config(broker.broker_settings(broker_url), "echo"))
    backend = CountingBackend(app=app, url=broker_url)
    backend.batches = []
    yield backend
    app.close()


def answer(row: int) -> Answer:
    """What a row came to."""
    return Answer(run_id="cafe", row=row, outcome=Outcome.FAILED, error="for a test", worker="w", fingerprint="f")


def has_room() -> bool:
    """Say that no thread is missed."""
    return False


def answered(row: int) -> "Future[Answer]":
    """The work at a row, done."""
    work: Future[Answer] = Future()
    work.set_result(answer(row))
    return work


def stored_rows(client: redis.Redis) -> set[int]:
    """Return the rows whose results are there."""
    keys = client.keys(broker.result_key("cafe:*"))
    return {json.loads(value)["result"]["row"] for value in client.mget(keys) if value} if keys else set()


def test_an_answer_is_told_once_it_is_stored_and_celery_understands_it(backend: CountingBackend, client: redis.Redis) -> None:
    """As the result of a task that went well."""
    assert Outbox(backend, has_room, pytest.fail).deliver("cafe:3:0", answered(3)).result(30) == answer(3)

    assert stored_rows(client) == {3}
    meta = backend.get_task_meta("cafe:3:0")
    assert (meta["status"], meta["task_id"], meta["result"]["error"]) == ("SUCCESS", "cafe:3:0", "for a test")
    assert client.ttl(broker.result_key("cafe:3:0")) == -1, "answers that nobody has collected are kept"


def test_what_ends_while_something_is_stored_is_stored_in_one_go(backend: CountingBackend, client: redis.Redis) -> None:
    """As where a whole batch of the engine ends at once."""
    outbox = Outbox(backend, has_room, pytest.fail)
    client.execute_command("CLIENT", "PAUSE", 60_000, "WRITE")
    waiting = [outbox.deliver("cafe:0:0", answered(0))]
    eventually(lambda: backend.batches == [1])
    waiting += [outbox.deliver(f"cafe:{row}:0", answered(row)) for row in range(1, 100)]
    assert not any(future.done() for future in waiting)
    client.execute_command("CLIENT", "UNPAUSE")

    assert [future.result(30).row for future in waiting] == list(range(100))
    assert backend.batches == [1, 99]
    assert stored_rows(client) == set(range(100))


class BusyOutbox:
    """An outbox to which an answer comes whenever another one is stored, up to ``most``."""

    def __init__(self, backend: CountingBackend, monkeypatch: pytest.MonkeyPatch, *, is_full: bool, most: int) -> None:
        self.futures: list[Future[Answer]] = []
        #: How many were told by the time of each storing.
        self.told: list[int] = []
        self._store_all, self.most = backend.store_all, most
        monkeypatch.setattr(backend, "store_all", self._store_while_another_comes)
        self._outbox = Outbox(backend, lambda: is_full, pytest.fail)
        self._deliver()

    def _store_while_another_comes(self, records: Sequence[Record]) -> list[Exception | None]:
        self.told.append(sum(future.done() for future in self.futures))
        done = self._store_all(records)
        if len(self.futures) < self.most:
            self._deliver()
        return done

    def _deliver(self) -> None:
        row = len(self.futures)
        self.futures.append(self._outbox.deliver(f"cafe:{row}:0", answered(row)))


@pytest.mark.parametrize("is_full", [False, True])
def test_rows_wait_until_nothing_more_comes_unless_their_threads_are_missed(
    backend: CountingBackend, monkeypatch: pytest.MonkeyPatch, is_full: bool
) -> None:
    """Where a batch of hundreds ends, each that is told would keep the others from being stored."""
    monkeypatch.setattr("workers.outbox._LATEST", 600.0)
    busy = BusyOutbox(backend, monkeypatch, is_full=is_full, most=20)
    eventually(lambda: len(busy.futures) == 20 and all(future.done() for future in busy.futures))

    assert busy.told == (list(range(20)) if is_full else [0] * 20)


def test_no_row_waits_for_long_however_many_come(backend: CountingBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever counts threads may be wrong, and Flower shows when a row is done."""
    busy = BusyOutbox(backend, monkeypatch, is_full=False, most=1_000_000)
    eventually(busy.futures[0].done)
    busy.most = 0

    eventually(lambda: all(future.done() for future in busy.futures))


def test_work_that_fails_or_is_cancelled_waits_for_no_storing(backend: CountingBackend, client: redis.Redis) -> None:
    """Its row goes back to the queue, and that at once."""
    outbox = Outbox(backend, has_room, pytest.fail)
    failed: Future[Answer] = Future()
    failed.set_exception(ValueError("no"))
    cancelled: Future[Answer] = Future()
    told = outbox.deliver("cafe:1:0", cancelled)
    client.execute_command("CLIENT", "PAUSE", 60_000, "WRITE")
    late = outbox.deliver("cafe:0:0", answered(0))
    cancelled.cancel()

    with pytest.raises(ValueError, match="no"):
        outbox.deliver("cafe:2:0", failed).result(0)
    with pytest.raises(CancelledError):
        told.result(0)
    assert not late.done()
    client.execute_command("CLIENT", "UNPAUSE")
    late.result(30)


def test_an_answer_that_finds_no_room_is_stored_once_there_is_some(
    backend: CountingBackend, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """What has come by then goes with it, and one line says that answers wait."""
    outbox = Outbox(backend, has_room, pytest.fail)
    client.config_set("maxmemory", 1)
    try:
        first = outbox.deliver("cafe:0:0", answered(0))
        eventually(lambda: len(backend.batches) == 2)
        others = [outbox.deliver(f"cafe:{row}:0", answered(row)) for row in range(1, 10)]
        assert not first.done()
    finally:
        client.config_set("maxmemory", 0)

    assert [future.result(30).row for future in [first, *others]] == list(range(10))
    assert stored_rows(client) == set(range(10))
    said = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.getMessage().split(":")[0] for record in said] == ["results cannot be stored and wait"]
    assert not said[0].exc_info


def test_a_result_that_redis_refuses_for_good_fails_alone(broker_url: str, client: redis.Redis, backend: CountingBackend) -> None:
    """Those beside it are stored, and it is not tried for ever."""
    client.acl_setuser(
        "narrow", enabled=True, nopass=True, keys=[broker.result_key("cafe:1:*")], commands=["+@all"], channels=["*"], reset=True
    )
    narrow = CountingBackend(app=backend.app, url=broker_url.replace("redis://", "redis://narrow:any@"))
    narrow.batches = []
    outbox = Outbox(narrow, has_room, pytest.fail)
    refused = outbox.deliver("cafe:0:0", answered(0))
    taken = outbox.deliver("cafe:1:0", answered(1))

    try:
        with pytest.raises(NoPermissionError):
            refused.result(30)
        assert taken.result(30) == answer(1)
        assert stored_rows(client) == {1}
    finally:
        client.acl_deluser("narrow")


def test_nothing_is_lost_or_told_before_it_is_stored_whoever_comes_when(backend: CountingBackend, client: redis.Redis) -> None:
    """Hundreds of threads, each with several answers."""
    outbox = Outbox(backend, has_room, pytest.fail)

    def deliver(row: int) -> bool:
        assert outbox.deliver(f"cafe:{row}:0", answered(row)).result(60) == answer(row)
        return bool(backend.client.exists(broker.result_key(f"cafe:{row}:0")))

    with ThreadPoolExecutor(200) as threads:
        assert all(threads.map(deliver, range(3000)))
    assert stored_rows(client) == set(range(3000))
    assert sum(backend.batches) == 3000


def test_an_outbox_that_cannot_go_on_says_so(backend: CountingBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker ends then, and its rows go back: their threads would wait forever."""
    told: list[str] = []
    monkeypatch.setattr(backend, "store_all", lambda _: [])  # as nothing should ever do
    Outbox(backend, has_room, told.append).deliver("cafe:0:0", answered(0))

    eventually(lambda: told)
    assert told[0].startswith("nobody stores its answers: ValueError")
