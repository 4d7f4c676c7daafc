"""`kotae status` and `watch`: how far, how fast, at which cost, and which share of the fleet."""

import datetime
import json
import os
import pty
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
import redis
from rich.console import Console

from producer.manifest import Tally
from producer.overview import pace_of
from producer.progress import RunProgress
from producer.runs import RunStore
from tests.conftest import Kotae, StartWorker, eventually, make_workbook, stopped_in_the_end
from tests.workbooks import answered, manifest
from workers.contract import broker
from workers.contract.messages import Outcome
from workers.meter import Meter

SLOW = ("--engine-arg", "delay=0.5", "--max-in-flight", "4")


class Clock:
    """A clock that a test turns."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_time_of_gpus_is_shared_by_the_rows_they_have_at_each_moment() -> None:
    """What all rows are charged is the time in which the engine had any; idle time is charged to nobody."""
    clock = Clock()
    meter = Meter(gpus=2, clock=clock)

    clock.now += 100
    with meter.row("a") as first:
        clock.now += 3
        with meter.row("b") as second:
            clock.now += 4
            assert meter.in_flight() == {"a": 1, "b": 1}
            charged_to_the_second = second()
        clock.now += 1
        charged_to_the_first = first()
    clock.now += 100

    assert charged_to_the_second == pytest.approx(4.0), "half of four seconds of two GPUs"
    assert charged_to_the_first == pytest.approx(2 * 3 + 4 + 2 * 1)
    assert charged_to_the_first + charged_to_the_second == pytest.approx(2 * (3 + 4 + 1))
    assert meter.in_flight() == {}


def test_a_workers_rates_follow_the_last_half_minute() -> None:
    """A worker that slows down must not live on its morning."""
    clock = Clock()
    meter = Meter(gpus=1, clock=clock)
    rates = []

    for rows in (10, 10, 10, 0, 0, 0, 0, 0, 0):
        clock.now += 10
        for _ in range(rows):
            meter.answered(tokens=50)
        rates.append(meter.rates())

    assert rates[2] == pytest.approx((1.0, 50.0))
    assert rates[-1] == pytest.approx((0.0, 0.0))


@pytest.fixture
def half_done(tmp_path: Path) -> RunStore:
    """A run of 1,000 rows with a store, of which a test stores some."""
    (tmp_path / "q.xlsx").touch()
    return RunStore.create(tmp_path, manifest(rows=1000), tmp_path / "q.xlsx")


def at(store: RunStore, row: int, seconds_ago: float, now: datetime.datetime) -> None:
    """Store a row as it had been stored some time ago."""
    store.store([answered(row)])
    moment = (now - datetime.timedelta(seconds=seconds_ago)).isoformat(timespec="milliseconds")
    store._db.execute("UPDATE answers SET stored_at = ? WHERE row = ?", (moment, row))
    store._db.commit()


def test_the_time_left_follows_workers_that_come_and_go(half_done: RunStore) -> None:
    """Ten rows a second for ten minutes, then one a second since half of a fleet left: what is left takes as long as one a second takes."""
    now = datetime.datetime.now(datetime.UTC)
    with half_done as store:
        for row in range(300):
            at(store, row, 700 - row / 10, now)
        for row in range(300, 360):
            at(store, row, 360 - row, now)
        steady = pace_of(store, now)
        stopped = pace_of(store, now + datetime.timedelta(seconds=300))

    assert steady.rows_per_second == pytest.approx(1.0, rel=0.05)
    assert steady.seconds_left == pytest.approx(640, rel=0.05)
    assert stopped.rows_per_second == 0
    assert stopped.seconds_left is None


def test_a_slow_run_has_a_pace_too(half_done: RunStore) -> None:
    """Rows that take minutes leave a minute empty now and then."""
    now = datetime.datetime.now(datetime.UTC)
    with half_done as store:
        for row in range(60):
            at(store, row, 30 * (60 - row), now)

        pace = pace_of(store, now)

    assert pace.rows_per_second == pytest.approx(1 / 30, rel=0.05)


def test_the_first_row_does_not_foretell_the_end() -> None:
    """It came after an engine had loaded, or was the shortest: "5 h left" of a run of two minutes helps nobody."""
    progress = RunProgress(Console(file=StringIO()), Tally(1000, {}, 0, 0))
    said = []

    for rows in (1, 18, 1):
        progress.watch([answered(0)] * rows)
        said.append(" left" in progress._rates())

    assert said == [False, False, True]


def test_status_says_what_rows_cost_and_which_share_each_run_has(
    kotae: Kotae, start_worker: StartWorker, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs, one with priority: whoever asks sees who has the engine, and who waits."""
    monkeypatch.setenv("KOTAE_BROKER", broker_url)
    ids = []
    for number, options in enumerate([(), ("--priority",)]):
        make_workbook(kotae.folder / "q.xlsx", [f"{number}: question {row}" for row in range(12)])
        ids.append(kotae.json("submit", "q.xlsx", "--model", "echo", *options)["run_id"])
    start_worker("--engine-arg", "delay=1000", "--max-in-flight", "4")

    def placed() -> dict[str, object]:
        told = kotae.json("status")
        return told if told["in_flight"] == {ids[1]: 4} else {}

    told = eventually(placed)
    shown = kotae("status", ids[1])

    ordinary, first = sorted(told["runs"], key=lambda run: run["priority"])
    assert (first["run_id"], first["in_flight"], first["share"], first["on_its_queue"]) == (ids[1], 4, 1.0, 8)
    assert (ordinary["run_id"], ordinary["in_flight"], ordinary["share"], ordinary["on_its_queue"]) == (ids[0], 0, 0.0, 12)
    assert told["waiting"] == {"echo": 20}
    (worker,) = told["workers"]
    assert (worker["contract"], worker["runs"], worker["max_in_flight"]) == (broker.CONTRACT_VERSION, {ids[1]: 4}, 4)
    assert 0 <= worker["seconds_since_seen"] <= broker.PRESENCE_TTL
    assert "4 in flight (100% of echo) · 8 on its queue · goes first" in shown.out
    assert "echo: 4 rows in engines, 20 waiting" in shown.out


def test_the_cost_of_a_run_is_the_time_of_its_gpus_at_their_price(
    kotae: Kotae, start_worker: StartWorker, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that are answered side by side share the time; rows taken from an earlier run cost nothing again."""
    monkeypatch.setenv("KOTAE_BROKER", broker_url)
    start_worker(*SLOW)
    make_workbook(kotae.folder / "q.xlsx", [f"question {row}" for row in range(8)])
    kotae.json("run", "q.xlsx", "-o", "out.xlsx")
    make_workbook(kotae.folder / "q.xlsx", [f"question {row}" for row in range(9)])
    kotae.json("run", "q.xlsx", "-o", "out.xlsx")

    first, second = kotae.json("status", "--gpu-hour-price", "3600")["runs"]
    store = RunStore.open(kotae.folder / ".kotae", first["run_id"], writing=False)
    assert store is not None
    with store:
        seconds = sum(stored.answer.seconds for stored in store.answers())

    assert first["seconds_to_first_answer"] >= 0.5
    assert first["gpu_seconds"] >= 2 * 0.5 * 0.99, "eight rows, four at a time, of half a second each"
    assert first["gpu_seconds"] < seconds, "they share the engine"
    assert first["gpu_seconds_per_row"] == pytest.approx(first["gpu_seconds"] / 8, rel=0.01)
    assert first["cost"] == pytest.approx(first["gpu_seconds"], rel=0.01)
    assert (second["reused"], second["gpu_seconds_per_row"]) == (8, pytest.approx(second["gpu_seconds"], rel=0.01))
    assert "first answer after " in kotae("status", "last").out
    assert "GPU-seconds a row · cost" in kotae("status", "last", "--gpu-hour-price", "3600").out


def test_watch_stays_until_the_run_is_finished(
    kotae: Kotae, start_worker: StartWorker, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks at what another process does, and touches nothing."""
    monkeypatch.setenv("KOTAE_BROKER", broker_url)
    make_workbook(kotae.folder / "q.xlsx", ["a", "b"])
    kotae.json("submit", "q.xlsx", "--model", "echo", "--detach")

    with stopped_in_the_end(kotae.start("watch", "last", "--json")) as watching:
        assert watching.stdout is not None
        first = json.loads(watching.stdout.readline())
        start_worker()
        *_, last = [json.loads(line) for line in watching.stdout]
        assert watching.wait(60) == 0

    assert (first["runs"][0]["finished"], first["runs"][0]["stored"], first["workers"]) == (False, 0, [])
    assert (last["runs"][0]["finished"], last["runs"][0]["outcomes"]) == (True, {Outcome.ANSWERED: 2})
    assert "2 rows: 2 answered" in kotae("watch", "last").out


def test_watch_is_live_on_a_terminal(kotae: Kotae, start_worker: StartWorker, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was drawn is drawn over, with what engines have at the moment, until the run is finished."""
    monkeypatch.setenv("KOTAE_BROKER", broker_url)
    make_workbook(kotae.folder / "q.xlsx", [f"question {row}" for row in range(20)])
    kotae.json("submit", "q.xlsx", "--model", "echo", "--detach")
    start_worker(*SLOW)
    ours, terminal = pty.openpty()
    command = [sys.executable, "-m", "producer.cli", "watch", "last", "--gpu-hour-price", "2"]

    with subprocess.Popen(command, cwd=kotae.folder, stdout=terminal, stderr=terminal, env=os.environ | {"TERM": "xterm"}) as watching:
        os.close(terminal)
        drawn = b"".join(iter(lambda: _read(ours), b"")).decode()
        assert watching.wait(60) == 0
    os.close(ours)

    assert "\x1b[1A" in drawn, "the cursor goes up"
    assert re.search(r"echo: \d rows in engines, \d+ waiting", drawn)
    assert re.search(r"cost 0\.\d+ a row", drawn)
    assert "20 rows: 20 answered" in drawn


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # nobody writes any more
        return b""


def test_watch_and_status_of_nothing_are_one_line(kotae: Kotae, broker_url: str, client: redis.Redis) -> None:
    """A mistake is no traceback."""
    assert "no runs in" in kotae("status").out
    assert "no workers" in kotae("status", "--broker", broker_url).out
    for command in (("watch", "nope"), ("status", "--broker", "redis://127.0.0.1:1/0"), ("status", "--gpu-hour-price", "-1")):
        finished = kotae(*command)
        assert finished.code == 2
        assert len(finished.err.splitlines()) == 1
