"""The commands against a broker with workers: run, submit, status, collect, runs."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from tests.conftest import Kotae, StartWorker, eventually, make_workbook, stopped_in_the_end
from tests.test_run import stored, table
from tests.test_worker import starts
from workers.contract import broker

Generated = Callable[[], list[str]]


@pytest.fixture
def generated(start_worker: StartWorker, broker_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generated:
    """A fleet of one echo worker behind KOTAE_BROKER; call it for the rows that were generated so far."""
    ledger = tmp_path / "ledger"
    start_worker("--ledger", str(ledger))
    monkeypatch.setenv("KOTAE_BROKER", broker_url)
    return lambda: starts(ledger)


def test_whatever_decides_the_answers_makes_another_run(kotae: Kotae, generated: Generated) -> None:
    """The old answers stay what they were, and are found again by the old command."""
    make_workbook(kotae.folder / "q.xlsx", ["a", "b"])
    make_workbook(kotae.folder / "edited.xlsx", ["a", "c"])
    changes = [("--temperature", "0.6"), ("--seed", "1"), ("--system-prompt", "Be brief."), ("--samples", "2"), ("--max-tokens", "9")]
    first = kotae.json("run", "q.xlsx", "-o", "out.xlsx")["run_id"]

    others = [kotae.json("run", "q.xlsx", "-o", "out.xlsx", *change)["run_id"] for change in changes]
    others.append(kotae.json("run", "edited.xlsx", "-o", "out.xlsx")["run_id"])
    asked = len(generated())
    again = kotae.json("run", "q.xlsx", "-o", "out.xlsx")["run_id"]

    assert len({first, *others}) == 7
    assert again == first
    assert len(generated()) == asked == 13, "two rows each; the row that was not edited is paid for once"


def test_how_replies_are_read_and_other_columns_make_no_other_run(kotae: Kotae, generated: Generated) -> None:
    """Reading anew costs nothing: the raw texts are kept, and a column more is only copied."""
    make_workbook(kotae.folder / "q.xlsx", ["a", "b"])
    first = kotae.json("run", "q.xlsx", "-o", "out.xlsx", "--system-prompt", "x")
    make_workbook(kotae.folder / "q.xlsx", ["a", "b"], note=["new", "column"])

    again = kotae.json("run", "q.xlsx", "-o", "out.xlsx", "--system-prompt", "x", "--reply-format", "plain")

    (row, _) = table(kotae.folder / "out.xlsx")
    assert again["run_id"] == first["run_id"]
    assert row["answer"].startswith("<reasoning>")
    assert row["note"] == "new"
    assert len(generated()) == 2


def test_a_limited_run_is_the_beginning_of_the_whole(kotae: Kotae, generated: Generated) -> None:
    """Try a few rows, look at them, then do the rest."""
    make_workbook(kotae.folder / "q.xlsx", [f"question {row}" for row in range(10)])
    limited = kotae.json("run", "q.xlsx", "-o", "out.xlsx", "--limit", "3")
    few = [row["answer"] for row in table(kotae.folder / "out.xlsx")]

    whole = kotae.json("run", "q.xlsx", "-o", "out.xlsx")

    assert few == ["question 0", "question 1", "question 2"] + [None] * 7
    assert (limited["rows"], whole["rows"]) == (3, 10)
    assert whole["run_id"] == limited["run_id"]
    assert sorted(generated()) == sorted(f"{whole['run_id']}:{row}:0" for row in range(10))
    assert [row["answer"] for row in table(kotae.folder / "out.xlsx")] == [f"question {row}" for row in range(10)]


@pytest.mark.parametrize("forget", ["--fresh", "runs --delete", "another home"])
def test_what_was_forgotten_is_asked_anew(kotae: Kotae, generated: Generated, forget: str) -> None:
    """Redis still remembers that the rows were stored, elsewhere; that must not make us wait for ever."""
    make_workbook(kotae.folder / "q.xlsx", ["a", "b"])
    first = kotae.json("run", "q.xlsx", "-o", "out.xlsx")["run_id"]
    if forget == "runs --delete":
        assert kotae("runs", "--delete", first).code == 0
    more = {"--fresh": ["--fresh"], "runs --delete": [], "another home": ["--home", "elsewhere"]}[forget]

    again = kotae.json("run", "q.xlsx", "-o", "out.xlsx", *more)

    assert again["run_id"] == first
    assert again["outcomes"] == {"answered": 2}
    assert len(generated()) == 4


def test_submit_leaves_and_collect_writes(kotae: Kotae, generated: Generated) -> None:
    """Send in the evening, fetch in the morning."""
    make_workbook(kotae.folder / "q.xlsx", [f"question {row}" for row in range(30)])

    submitted = kotae.json("submit", "q.xlsx")
    (kotae.folder / "q.xlsx").unlink()
    collected = kotae.json("collect", submitted["run_id"][:6], "-o", "out.xlsx")

    assert collected["outcomes"] == {"answered": 30}
    assert [row["answer"] for row in table(kotae.folder / "out.xlsx")] == [f"question {row}" for row in range(30)]
    assert kotae.json("collect", "last", "-o", "again.xlsx")["stored"] == 30
    assert len(generated()) == 30


def test_submit_without_a_worker_warns_and_collect_partial_writes_what_there_is(kotae: Kotae, broker_url: str, client: redis.Redis) -> None:
    """A workbook can be had at any time; empty cells say what is missing."""
    make_workbook(kotae.folder / "q.xlsx", ["a", "", "c"])

    submitted = kotae("submit", "q.xlsx", "--model", "nobody", "--broker", broker_url)
    partial = kotae("collect", "last", "-o", "out.xlsx", "--partial", "--broker", broker_url)

    assert submitted.code == 0
    assert "no worker serves nobody" in submitted.out
    assert sum(client.llen(name) for name in broker.queue_names("nobody")) == 2
    assert partial.code == 0, partial.err
    assert [row["outcome"] for row in table(kotae.folder / "out.xlsx")] == [None, "skipped", None]


def test_submit_of_more_rows_than_fit_stays_until_all_are_sent(kotae: Kotae, generated: Generated, client: redis.Redis) -> None:
    """Then it is feeder and collector; what it has collected is in the run store already."""
    make_workbook(kotae.folder / "q.xlsx", [f"question {row}" for row in range(200)])

    submitted = kotae.json("submit", "q.xlsx", "--max-queued", "40")

    assert submitted["stored"] >= 160
    assert kotae.json("collect", "last", "-o", "out.xlsx")["outcomes"] == {"answered": 200}
    assert len(generated()) == 200


def test_status_shows_runs_and_workers(kotae: Kotae, generated: Generated) -> None:
    """Who answers, and how far we are."""
    make_workbook(kotae.folder / "q.xlsx", ["a"])
    run_id = kotae.json("run", "q.xlsx", "-o", "out.xlsx")["run_id"]

    shown = kotae("status", run_id)
    told = kotae.json("status")

    assert "1 rows: 1 answered" in shown.out
    assert "echo" in shown.out
    assert [run["run_id"] for run in told["runs"]] == [run_id]
    assert [worker["served_name"] for worker in told["workers"]] == ["echo"]


def test_runs_are_listed_and_deleted(kotae: Kotae, generated: Generated) -> None:
    """A home is not a grave."""
    make_workbook(kotae.folder / "q.xlsx", ["a"])
    run_id = kotae.json("run", "q.xlsx", "-o", "out.xlsx")["run_id"]

    assert run_id in kotae("runs").out
    assert kotae("runs", "--delete", "nope").code == 2
    assert kotae("runs", "--delete", run_id).code == 0
    assert kotae.json("runs")["runs"] == []


def test_two_producers_of_one_run_are_told_of_each_other(kotae: Kotae, start_worker: StartWorker, broker_url: str) -> None:
    """Two collectors would fight for the results; the second learns who the first is, here and on another machine."""
    make_workbook(kotae.folder / "q.xlsx", ["a"])
    start_worker("--engine-arg", "delay=1000")
    command = ("run", "q.xlsx", "-o", "out.xlsx", "--broker", broker_url)
    with stopped_in_the_end(kotae.start(*command)) as first, redis.Redis.from_url(broker_url) as client:
        eventually(lambda: client.keys("kotae.lease.*"))

        here = kotae(*command)
        elsewhere = kotae(*command, "--home", "elsewhere")
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=60)

    for second in (here, elsewhere):
        assert second.code == 2
        assert f"process {first.pid} on " in second.err


def test_a_fleet_that_now_serves_another_model_is_not_mixed_into_an_old_run(
    kotae: Kotae, start_worker: StartWorker, broker_url: str
) -> None:
    """Half old and half new weights in one workbook would be worse than no workbook."""
    make_workbook(kotae.folder / "q.xlsx", ["a", "b"])
    old = start_worker()
    assert kotae("run", "q.xlsx", "-o", "out.xlsx", "--broker", broker_url, "--limit", "1").code == 0
    old.stop()
    with redis.Redis.from_url(broker_url) as client:
        client.delete(broker.fingerprint_key("echo"))
    start_worker(command=[sys.executable, "-m", "tests.other_model"], KOTAE_ENGINE="echo", KOTAE_NAME="echo")

    mixed = kotae("run", "q.xlsx", "-o", "out.xlsx", "--broker", broker_url)
    fresh = kotae.json("run", "q.xlsx", "-o", "out.xlsx", "--broker", broker_url, "--fresh")

    assert mixed.code == 2
    assert "another model" in mixed.err
    assert fresh["outcomes"] == {"answered": 2}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--model", "nobody", "--wait-for-worker", "300ms"), "no worker serves nobody"),
        ((), "name the model to ask with --model; served at the moment: none"),
    ],
)
def test_a_fleet_without_a_worker_is_said_in_one_line(kotae: Kotae, broker_url: str, arguments: tuple[str, ...], says: str) -> None:
    """Waiting for ever would look like working."""
    make_workbook(kotae.folder / "q.xlsx", ["a"])

    finished = kotae("run", "q.xlsx", "-o", "out.xlsx", "--broker", broker_url, *arguments)

    assert finished.code == 2
    assert says in finished.err.splitlines()[-1]
    assert not (kotae.folder / ".kotae").exists()


def test_a_wrong_password_is_said_and_not_shown(kotae: Kotae, broker_url: str) -> None:
    """The line goes into tickets and chats."""
    make_workbook(kotae.folder / "q.xlsx", ["a"])
    bare = "redis://" + broker_url.rpartition("@")[2]

    by_variable = kotae("run", "q.xlsx", "-o", "out.xlsx", KOTAE_BROKER=bare, KOTAE_BROKER_PASSWORD="open-sesame")
    by_argument = kotae("run", "q.xlsx", "-o", "out.xlsx", "--broker", bare.replace("//", "//:open-sesame@"))

    for finished in (by_variable, by_argument):
        assert finished.code == 2
        assert "refused the password" in finished.err.splitlines()[-1]
        assert "open-sesame" not in finished.err + finished.out
    assert "visible in the process list" in by_argument.err


def test_a_run_outlives_a_redis_that_forgets_everything(kotae: Kotae, start_worker: StartWorker, broker_url: str) -> None:
    """A server without persistence is restarted, or somebody flushes it: rows and lease are gone, the run goes on."""
    make_workbook(kotae.folder / "q.xlsx", [f"question {row}" for row in range(60)])
    start_worker("--engine-arg", "delay=0.5", "--max-in-flight", "4")
    with stopped_in_the_end(kotae.start("run", "q.xlsx", "-o", "out.xlsx", "--broker", broker_url)) as running:
        eventually(lambda: stored(kotae) >= 4)
        with redis.Redis.from_url(broker_url) as client:
            client.flushall()
        _, err = running.communicate(timeout=120)

    assert running.returncode == 0, err
    assert [row["answer"] for row in table(kotae.folder / "out.xlsx")] == [f"question {row}" for row in range(60)]


def test_a_workbook_saved_while_a_worker_is_awaited_moves_no_answer(kotae: Kotae, start_worker: StartWorker, broker_url: str) -> None:
    """What was read is what is asked and written, however often the file is saved in the minutes that a model loads."""
    make_workbook(kotae.folder / "q.xlsx", ["first", "second"])
    with stopped_in_the_end(kotae.start("run", "q.xlsx", "-o", "out.xlsx", "--broker", broker_url, "--model", "echo")) as running:
        assert running.stdout is not None
        assert "waiting for a worker" in running.stdout.readline()
        make_workbook(kotae.folder / "q.xlsx", ["inserted", "first", "second"])
        start_worker()
        running.communicate(timeout=60)

    assert [(row["question"], row["answer"]) for row in table(kotae.folder / "out.xlsx")] == [("first", "first"), ("second", "second")]


def test_a_run_begun_locally_can_go_on_with_a_fleet(kotae: Kotae, generated: Generated) -> None:
    """Try ten rows on the own machine, send the rest to the big one."""
    make_workbook(kotae.folder / "q.xlsx", ["a", "b", "c"])
    assert kotae("run", "q.xlsx", "-o", "out.xlsx", "--engine", "echo", "--limit", "1", KOTAE_BROKER="").code == 0

    submitted = kotae.json("submit", "q.xlsx", "--model", "echo")

    assert kotae.json("collect", submitted["run_id"], "-o", "out.xlsx")["outcomes"] == {"answered": 3}
    assert len(generated()) == 2


def test_a_run_is_never_deleted_by_an_empty_name(kotae: Kotae, generated: Generated) -> None:
    """`kotae runs --delete "$UNSET"` in a script."""
    make_workbook(kotae.folder / "q.xlsx", ["a"])
    assert kotae("run", "q.xlsx", "-o", "out.xlsx").code == 0

    assert kotae("runs", "--delete", "").code == 2
    assert len(kotae.json("runs")["runs"]) == 1
