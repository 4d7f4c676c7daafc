"""Workbooks of what there is by now: while a run goes on, and whenever somebody asks."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from producer.manage import open_run_by_name
from tests.conftest import Kotae, StartWorker, eventually, make_workbook, stopped_in_the_end
from tests.test_run import ECHO, ours, stored, table

QUESTIONS = [f"question {row}" for row in range(6)]


def outcomes(path: Path) -> list[str | None]:
    """Whenever the file is there it is whole."""
    return [row["outcome"] for row in table(path)] if path.exists() else []


def is_asked_whole(kotae: Kotae) -> bool:
    with open_run_by_name(kotae.folder / ".kotae", "last", writing=False) as store:
        return not store.is_finished()


@contextmanager
def half_done(kotae: Kotae, start_worker: StartWorker, broker_url: str, *more: str) -> Iterator["subprocess.Popen[str]"]:
    """A run of which three rows are answered, and the others when a worker comes that is not as slow as this one."""
    make_workbook(kotae.folder / "q.xlsx", QUESTIONS)
    command = ("run", "q.xlsx", "--broker", broker_url, "-o")
    quick = start_worker()
    assert kotae(*command, "begin.xlsx", "--limit", "3").code == 0
    quick.stop()
    slow = start_worker("--engine-arg", "delay=1000")
    (kotae.folder / "out").mkdir()
    with stopped_in_the_end(kotae.start(*command, "out/out.xlsx", *more)) as running:
        eventually(lambda: running.poll() is not None or is_asked_whole(kotae))
        yield running
        slow.stop()
        start_worker()
        out, err = running.communicate(timeout=120)
    assert running.returncode == 0, out + err
    running.said = out  # type: ignore[attr-defined]
    assert outcomes(kotae.folder / "out" / "out.xlsx") == ["answered"] * 6
    assert [path.name for path in (kotae.folder / "out").iterdir()] == ["out.xlsx"]


PARTIAL = ["answered"] * 3 + [None] * 3


def test_a_run_writes_what_there_is_every_so_often(kotae: Kotae, start_worker: StartWorker, broker_url: str) -> None:
    """A run of a night can be looked at in the evening; and nobody takes the half for the whole."""
    with half_done(kotae, start_worker, broker_url, "--partial-every", "300ms"):
        eventually(lambda: outcomes(kotae.folder / "out" / "out.xlsx") == PARTIAL)

        assert {"what": "rows not settled yet", "value": 3} in table(kotae.folder / "out" / "out.xlsx", "Run")

    assert "rows not settled yet" not in {row["what"] for row in table(kotae.folder / "out" / "out.xlsx", "Run")}
    assert not [pid for pid in ours() if "producer.partial" in Path(f"/proc/{pid}/cmdline").read_text()]


def test_what_cannot_be_written_is_said_once_and_tried_again(kotae: Kotae, start_worker: StartWorker, broker_url: str) -> None:
    """A share that is away for an hour ends no run."""
    folder = kotae.folder / "out"
    with half_done(kotae, start_worker, broker_url, "--partial-every", "300ms") as running:
        eventually(lambda: outcomes(folder / "out.xlsx") == PARTIAL)
        folder.rename(kotae.folder / "away")
        assert running.stdout is not None
        line = next(line for line in running.stdout if "partial" in line)
        folder.mkdir()
        eventually(lambda: outcomes(folder / "out.xlsx") == PARTIAL)

    assert "a partial workbook could not be written: cannot write" in line
    assert line.endswith("No such file or directory; the run goes on, and it is tried again\n")
    assert "partial" not in running.said  # type: ignore[attr-defined]


def test_collecting_writes_what_there_is_while_another_process_feeds(kotae: Kotae, start_worker: StartWorker, broker_url: str) -> None:
    """It waits for the other one; its workbook need not."""
    with half_done(kotae, start_worker, broker_url):
        command = ("collect", "last", "-o", "there.xlsx", "--broker", broker_url, "--partial-every", "300ms")
        collecting = kotae.start(*command)
        eventually(lambda: outcomes(kotae.folder / "there.xlsx") == PARTIAL)

    with stopped_in_the_end(collecting):
        collecting.communicate(timeout=60)
    assert collecting.returncode == 0
    assert outcomes(kotae.folder / "there.xlsx") == ["answered"] * 6


def test_collect_partial_never_waits(kotae: Kotae, start_worker: StartWorker, broker_url: str) -> None:
    """Whether somebody else is at the run, nobody can be reached, or all is done."""
    partial = ("collect", "last", "--partial", "-o")
    with half_done(kotae, start_worker, broker_url):
        assert kotae(*partial, "fed.xlsx", "--broker", broker_url).code == 0
    assert kotae(*partial, "finished.xlsx").code == 0

    assert outcomes(kotae.folder / "fed.xlsx") == PARTIAL
    assert outcomes(kotae.folder / "finished.xlsx") == ["answered"] * 6


@pytest.mark.parametrize("state", ["no broker", "cancelled"])
def test_collect_partial_of_a_run_that_stands_still(kotae: Kotae, start_worker: StartWorker, broker_url: str, state: str) -> None:
    """The train has no network; or it was called off."""
    make_workbook(kotae.folder / "q.xlsx", QUESTIONS)
    start_worker()
    assert kotae("run", "q.xlsx", "--broker", broker_url, "-o", "begin.xlsx", "--limit", "3").code == 0
    start_worker(name="nobody-else")
    assert kotae("submit", "q.xlsx", "--broker", broker_url, "--model", "silent").code == 0
    if state == "cancelled":
        assert kotae("cancel", "last", "--broker", broker_url).code == 0

    finished = kotae("collect", "last", "--partial", "-o", "out.xlsx", "--broker", "redis://127.0.0.1:1/0")

    assert finished.code == (4 if state == "cancelled" else 0), finished.err
    assert outcomes(kotae.folder / "out.xlsx") == ["cancelled" if state == "cancelled" else None] * 6
    assert ("the workbook holds what was fetched before" in finished.out) == (state == "no broker")


def test_collect_partial_of_a_local_run_that_goes_on(kotae: Kotae) -> None:
    """It needs no broker to look into a store."""
    make_workbook(kotae.folder / "q.xlsx", ["", "slow"])
    with stopped_in_the_end(kotae.start("run", "q.xlsx", "-o", "out.xlsx", *ECHO, "--engine-arg", "delay=1000")):
        eventually(lambda: stored(kotae) == 1)

        assert kotae("collect", "last", "--partial", "-o", "partial.xlsx").code == 0

    assert outcomes(kotae.folder / "partial.xlsx") == ["skipped", None]
