"""Several runs on one fleet: each gets its share, one with priority goes first, and contract versions do not meet."""

import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
import redis

from producer.runs import RunStore
from producer.transport import Transport
from tests.conftest import Kotae, StartWorker, make_workbook, question, result_of, send
from workers.contract import broker
from workers.contract.messages import Outcome

#: Rows of a run; workers take them in groups of up to 16.
ROWS = 480
IN_FLIGHT = 16


def begun(ledger: Path) -> list[str]:
    """Return the runs of the rows in the order in which engines took them."""
    return [line.split()[1].partition(":")[0] for line in ledger.read_text().splitlines() if line.startswith("start")]


def last(order: list[str], run_id: str) -> int:
    """Return the place of a run's last row."""
    return max(place for place, one in enumerate(order) if one == run_id)


def submit_four(kotae: Kotae, *last_options: str) -> list[str]:
    """Put four runs on the broker, one after the other, before anybody answers; return their ids."""
    ids = []
    for number in range(4):
        make_workbook(kotae.folder / "q.xlsx", [f"{number}: question {row}" for row in range(ROWS)])
        ids.append(kotae.json("submit", "q.xlsx", "--model", "echo", *(last_options if number == 3 else ()))["run_id"])
    return ids


@pytest.fixture
def two_workers(start_worker: StartWorker, broker_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where two workers will write their ledger; the test starts them when the rows are there."""
    monkeypatch.setenv("KOTAE_BROKER", broker_url)
    return tmp_path / "ledger"


def start_two(start_worker: StartWorker, ledger: Path) -> None:
    slow = ("--engine-arg", "delay=0.05", "--engine-arg", "delay_spread=0.04")
    options = (*slow, "--max-in-flight", str(IN_FLIGHT), "--ledger", str(ledger))
    for place in range(2):
        start_worker(*options, wait=place == 1)


def test_four_runs_at_once_get_equal_shares(kotae: Kotae, start_worker: StartWorker, two_workers: Path) -> None:
    """However long the others are, nobody waits behind them."""
    ids = submit_four(kotae)

    start_two(start_worker, two_workers)
    for run_id in ids:
        assert kotae.json("collect", run_id, "-o", "out.xlsx")["outcomes"] == {"answered": ROWS}

    order = begun(two_workers)
    while_all_four_had_rows = Counter(order[: min(last(order, run_id) for run_id in ids)])
    assert set(while_all_four_had_rows) == set(ids)
    assert max(while_all_four_had_rows.values()) <= 1.25 * min(while_all_four_had_rows.values()), while_all_four_had_rows


def test_runs_that_start_at_the_same_moment_take_different_queues(
    kotae: Kotae, broker_url: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of them has put a row on its queue yet; two on one would get half as much each, and the earlier one nearly all at first."""
    monkeypatch.setenv("KOTAE_BROKER", broker_url)
    make_workbook(kotae.folder / "q.xlsx", ["a"])
    run_id = kotae.json("submit", "q.xlsx", "--model", "echo")["run_id"]
    store = RunStore.open(kotae.folder / ".kotae", run_id, writing=False)
    assert store is not None
    with store:
        begun = [store.manifest.model_copy(update={"queue": None, "run_id": "0" * 16}) for _ in range(broker.QUEUES - 1)]
    transport = Transport(broker.broker_settings(broker_url))

    chosen = {transport.queue_for(manifest) for manifest in begun}
    one_too_many = transport.queue_for(begun[0])
    transport.close()

    assert chosen == set(broker.queue_names_for("echo", priority=False)) - {store.manifest.queue}
    assert one_too_many in broker.queue_names_for("echo", priority=False)


def test_a_run_with_priority_goes_before_those_that_were_there_first(kotae: Kotae, start_worker: StartWorker, two_workers: Path) -> None:
    """Whoever waits for it need not wait for the night's batch."""
    ids = submit_four(kotae, "--priority")

    start_two(start_worker, two_workers)
    for run_id in ids:
        assert kotae.json("collect", run_id, "-o", "out.xlsx")["outcomes"] == {"answered": ROWS}

    order = begun(two_workers)
    before_its_last_row = Counter(order[: last(order, ids[3])])
    assert sum(before_its_last_row[other] for other in ids[:3]) <= 2 * IN_FLIGHT, "no more than what was taken when its last rows were"


def test_a_run_that_is_given_priority_later_keeps_what_is_queued_where_it_is(
    kotae: Kotae, start_worker: StartWorker, broker_url: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows on the old queue are no lost rows, and are not sent twice."""
    monkeypatch.setenv("KOTAE_BROKER", broker_url)
    make_workbook(kotae.folder / "q.xlsx", ["a", "b", "c"])
    kotae.json("submit", "q.xlsx", "--model", "echo", "--limit", "2")

    kotae.json("submit", "q.xlsx", "--model", "echo", "--priority")

    assert [client.llen(name) for name in broker.queue_names("echo") if client.llen(name)] == [2, 1]
    assert sum(client.llen(name) for name in broker.queue_names_for("echo", priority=True)) == 1
    start_worker()
    assert kotae.json("collect", "last", "-o", "out.xlsx")["outcomes"] == {"answered": 3}


# Contract versions.


@pytest.fixture
def old_kotae(tmp_path: Path) -> dict[str, str]:
    """The workers of an earlier contract version, to be started by this environment in place of ours."""
    shutil.copytree(Path(broker.__file__).parents[1], tmp_path / "old" / "workers", ignore=shutil.ignore_patterns("__pycache__"))
    names = tmp_path / "old" / "workers" / "contract" / "broker.py"
    ours = f"CONTRACT_VERSION = {broker.CONTRACT_VERSION}\n"
    assert ours in names.read_text()
    names.write_text(names.read_text().replace(ours, "CONTRACT_VERSION = 0\n"))
    return {"PYTHONPATH": str(tmp_path / "old"), "PYTHONSAFEPATH": "1"}


OLD_ECHO = [sys.executable, "-m", "workers", "--engine", "echo", "--name", "echo", "--drain-seconds", "0"]


def test_old_workers_never_take_new_rows_nor_new_ones_old_rows(
    start_worker: StartWorker,
    broker_url: str,
    client: redis.Redis,
    old_kotae: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A fleet is upgraded machine by machine; what a worker would not understand must not reach it."""
    old, new = tmp_path / "old.ledger", tmp_path / "new.ledger"
    start_worker("--ledger", str(new))
    start_worker(command=[*OLD_ECHO, "--ledger", str(old)], **old_kotae)
    new_rows, old_rows = [question(row=row) for row in range(40)], [question(row=row, run_id="beef") for row in range(40)]

    send(broker_url, new_rows, "echo")
    with monkeypatch.context() as earlier:
        earlier.setattr(broker, "CONTRACT_VERSION", 0)
        send(broker_url, old_rows, "echo")

    assert all(result_of(client, one).outcome is Outcome.ANSWERED for one in new_rows + old_rows)
    assert set(begun(new)) == {"cafe"}
    assert set(begun(old)) == {"beef"}


def test_a_run_begun_before_an_upgrade_goes_on_after_it(
    kotae: Kotae, start_worker: StartWorker, broker_url: str, old_kotae: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that lie on the old queues, where nobody takes them any more, are sent again to the new ones."""
    monkeypatch.setenv("KOTAE_BROKER", broker_url)
    make_workbook(kotae.folder / "q.xlsx", ["a", "b"])
    shutil.copytree(Path(broker.__file__).parents[2] / "producer", Path(old_kotae["PYTHONPATH"]) / "producer")
    kotae.json("submit", "q.xlsx", "--model", "echo", **old_kotae)
    with redis.Redis.from_url(broker_url) as client:
        assert not sum(client.llen(name) for name in broker.queue_names("echo"))
        start_worker()

        assert kotae.json("collect", "last", "-o", "out.xlsx")["outcomes"] == {"answered": 2}


def test_a_worker_of_another_contract_is_not_waited_for(
    kotae: Kotae, start_worker: StartWorker, broker_url: str, old_kotae: dict[str, str]
) -> None:
    """It would never take a row of ours; the line says what to do."""
    make_workbook(kotae.folder / "q.xlsx", ["a"])
    start_worker(command=OLD_ECHO, **old_kotae)

    refused = kotae("run", "q.xlsx", "-o", "out.xlsx", "--model", "echo", "--broker", broker_url, "--wait-for-worker", "1s")

    assert refused.code == 2
    assert "no worker serves echo" in refused.err
    assert "1 worker speaks contract 0, this kotae speaks 1: upgrade" in refused.err
