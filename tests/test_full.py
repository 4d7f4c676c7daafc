"""No room: a Redis that takes nothing more, a disk that is full. Nothing is lost, and the run goes on once there is room."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.conftest import Kotae, StartWorker, eventually, make_workbook, question, result_of, send, stopped_in_the_end
from tests.test_run import stored, table
from workers.contract import broker
from workers.contract.messages import Outcome


@pytest.fixture
def bounded(client: redis.Redis) -> Iterator[redis.Redis]:
    """A server whose memory may be bounded; the bound goes with the test."""
    client.config_set("maxmemory-policy", "noeviction")
    yield client
    client.config_set("maxmemory", 0)


def test_a_run_larger_than_redis_is_fed_as_room_is_made(
    kotae: Kotae, start_worker: StartWorker, broker_url: str, bounded: redis.Redis
) -> None:
    """The window was too large for this server; that is said, and costs nothing but patience."""
    questions = [f"question {row} " + "word " * 400 for row in range(1500)]  # five megabytes, on their way
    make_workbook(kotae.folder / "q.xlsx", questions)
    start_worker("--max-in-flight", "16", "--engine-arg", "delay=0.05")
    bounded.config_set("maxmemory", bounded.info("memory")["used_memory"] + 3_000_000)

    finished = kotae("run", "q.xlsx", "-o", "out.xlsx", "--broker", broker_url)

    assert finished.code == 0, finished.err
    assert "memory is nearly full" in finished.out
    assert [row["answer"] for row in table(kotae.folder / "out.xlsx")] == [question.strip() for question in questions]


def test_a_redis_that_takes_nothing_for_a_while_loses_no_row(
    kotae: Kotae, start_worker: StartWorker, broker_url: str, bounded: redis.Redis
) -> None:
    """Another program has filled it; somebody makes room."""
    questions = [f"question {row}" for row in range(60)]
    make_workbook(kotae.folder / "q.xlsx", questions)
    worker = start_worker("--max-in-flight", "4", "--engine-arg", "delay=0.4")
    with stopped_in_the_end(kotae.start("run", "q.xlsx", "-o", "out.xlsx", "--broker", broker_url, "--window", "20")) as running:
        eventually(lambda: stored(kotae) >= 4)
        bounded.config_set("maxmemory", 1)
        eventually(lambda: "results cannot be stored and wait" in worker.said())
        bounded.config_set("maxmemory", 0)
        _, err = running.communicate(timeout=200)

    assert running.returncode == 0, err + worker.said()
    assert [row["answer"] for row in table(kotae.folder / "out.xlsx")] == questions
    assert not bounded.keys("celery-task-meta-*")


def test_an_engine_that_waits_for_its_answers_to_be_stored_does_not_hang(
    start_worker: StartWorker, broker_url: str, bounded: redis.Redis
) -> None:
    """It makes no step since nobody gives it anything to do; to end it would cost the answers that wait."""
    worker = start_worker("--max-in-flight", "4", "--engine-arg", "delay=1", "--hang-seconds", "2")
    asked = [question(row=row) for row in range(4)]
    send(broker_url, asked, "echo")
    eventually(lambda: bounded.hlen(broker.claims_key("cafe", 0)) == 4)
    bounded.config_set("maxmemory", 1)
    eventually(lambda: "results cannot be stored and wait" in worker.said())
    eventually(lambda: worker.said().count("no sign of life could be given") > 5)  # one a second
    bounded.config_set("maxmemory", 0)

    assert [result_of(bounded, one).outcome for one in asked] == [Outcome.ANSWERED] * 4
    assert "the engine died" not in worker.said()


def test_a_full_disk_is_waited_for(kotae: Kotae, start_worker: StartWorker, broker_url: str, client: redis.Redis) -> None:
    """Answers wait in Redis until there is room; what is stored is never half a row."""
    questions = [f"question {row} " + "word " * 200 for row in range(200)]
    make_workbook(kotae.folder / "q.xlsx", questions)
    disk = kotae.folder / "disk"
    disk.mkdir()
    start_worker("--engine-arg", "delay=0.2", "--max-in-flight", "16")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1200k", "tmpfs", str(disk)], check=False).returncode != 0:
        pytest.skip("this machine lets us mount no small disk")
    try:
        ballast = disk / "ballast"
        ballast.write_bytes(b"x" * 600_000)
        with stopped_in_the_end(
            kotae.start("run", "q.xlsx", "-o", "out.xlsx", "--broker", broker_url, "--home", str(disk / "home"))
        ) as running:
            assert running.stdout is not None
            eventually(lambda: "is full: free some space" in running.stdout.readline() or None)  # type: ignore[union-attr]
            eventually(lambda: client.keys("celery-task-meta-*"))
            assert running.poll() is None
            ballast.unlink()
            subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
            _, err = running.communicate(timeout=120)
        assert running.returncode == 0, err
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert [row["answer"] for row in table(kotae.folder / "out.xlsx")] == [question.strip() for question in questions]
    assert not client.keys("celery-task-meta-*")
    assert client.llen(broker.queue_names("echo")[0]) == 0


def test_a_run_store_that_cannot_be_written_is_one_line(kotae: Kotae, start_worker: StartWorker, broker_url: str, tmp_path: Path) -> None:
    """A home that is a file, as a mistyped path may be: before any row is sent."""
    make_workbook(kotae.folder / "q.xlsx", ["a"])
    start_worker()
    (tmp_path / "file").write_text("")

    finished = kotae("run", "q.xlsx", "-o", "out.xlsx", "--broker", broker_url, "--home", "file")

    assert finished.code == 2
    assert "choose another --home" in finished.err.splitlines()[-1]
    with redis.Redis.from_url(broker_url) as client:
        assert not client.keys("kotae.sent.*")
