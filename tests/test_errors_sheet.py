"""The sheet Errors, which a person thins out and gives back: `kotae retry OUT.xlsx`."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pytest

from producer.runs import RunStore
from producer.workbook.assembly import write_workbook
from producer.workbook.errors_sheet import read_errors, rows_of
from producer.workbook.reading import read_sheet
from tests.conftest import Kotae, StartWorker, make_workbook
from tests.test_run import ECHO, table
from tests.test_worker import starts
from tests.workbooks import answered, begin_run, save_workbook, unanswered
from workers.contract.errors import WorkbookError
from workers.contract.messages import Answer, Outcome

QUESTIONS = ["first", "=1+1", "two\nlines\r\nand a bell \x07", "x" * 40_000, "007", "last"]


def run_of(folder: Path, *stored: Answer, questions: list[str] = QUESTIONS) -> RunStore:
    source = save_workbook(folder / "in.xlsx", {"S": [["by Sato"], ["NO", "question"], *([n, q] for n, q in enumerate(questions))]})
    store = begin_run(folder / "home", source)
    store.store(answer.model_copy(update={"run_id": store.manifest.run_id}) for answer in stored)
    return store


def edited(path: Path, change: Callable[[openpyxl.Workbook], object]) -> Path:
    """Change a workbook as another program does, and save it."""
    workbook = openpyxl.load_workbook(path)
    change(workbook)
    workbook.save(path)
    return path


def test_the_list_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """Questions of any kind are found again, whatever a cell does to them."""
    questions = [question[:32_000] for question in QUESTIONS]
    with run_of(tmp_path, *(unanswered(row) for row in range(6)), questions=questions) as store:
        write_workbook(store, tmp_path / "out.xlsx")

        listed = read_errors(tmp_path / "out.xlsx")

        assert listed.run_id == store.manifest.run_id
        assert rows_of(listed, read_sheet(tmp_path / "in.xlsx")) == {0, 1, 2, 3, 4, 5}


def test_a_thinned_out_list_names_the_rows_that_are_left(tmp_path: Path) -> None:
    """A person deletes what they do not want to pay for, sorts the others, and leaves a gap."""
    with run_of(tmp_path, *(unanswered(row) for row in range(6))) as store:
        write_workbook(store, tmp_path / "out.xlsx")

    def thin(workbook: openpyxl.Workbook) -> None:
        sheet = workbook["Errors"]
        sheet.delete_rows(2, 2)
        sheet.move_range("A2:E2", rows=6)

    listed = read_errors(edited(tmp_path / "out.xlsx", thin))

    assert sorted(listed.questions) == [5, 6, 7, 8]
    assert rows_of(listed, read_sheet(tmp_path / "in.xlsx")) == {2, 3, 4, 5}


@pytest.mark.skipif(shutil.which("soffice") is None, reason="LibreOffice is not installed")
@pytest.mark.parametrize("ending", ["xlsx", "ods"])
def test_a_list_that_libreoffice_saved_is_read(tmp_path: Path, ending: str) -> None:
    """That is where many people thin it out."""
    with run_of(tmp_path, *(unanswered(row) for row in range(6))) as store:
        write_workbook(store, tmp_path / "out.xlsx")
    profile = f"-env:UserInstallation=file://{tmp_path}/profile"
    command = ["soffice", profile, "--headless", "--convert-to", ending, "--outdir", tmp_path / "saved", tmp_path / "out.xlsx"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)

    listed = read_errors(tmp_path / "saved" / f"out.{ending}")

    assert rows_of(listed, read_sheet(tmp_path / "in.xlsx")) == {0, 1, 2, 3, 4, 5}


def test_of_an_output_of_an_output_the_newer_list_counts(tmp_path: Path) -> None:
    """The source had such sheets itself, and kept them."""
    with run_of(tmp_path, unanswered(0), *(answered(row) for row in range(1, 6))) as older:
        write_workbook(older, tmp_path / "older.xlsx")
    with begin_run(tmp_path / "home", tmp_path / "older.xlsx", sheet="S", keep_format=True, seed=7) as newer:
        newer.store(unanswered(row, run_id=newer.manifest.run_id) for row in (3, 5))
        write_workbook(newer, tmp_path / "out.xlsx")

        listed = read_errors(tmp_path / "out.xlsx")

        assert (listed.run_id, sorted(listed.questions)) == (newer.manifest.run_id, [5, 7])


def drop(name: str) -> Callable[[openpyxl.Workbook], object]:
    return lambda workbook: workbook.remove(workbook[name])


def put(place: str, value: object) -> Callable[[openpyxl.Workbook], object]:
    return lambda workbook: workbook["Errors"].__setitem__(place, value)


@pytest.mark.parametrize(
    ("change", "helpful"),
    [
        (drop("Errors"), "lists no row in a sheet Errors: there is nothing to ask anew"),
        (lambda workbook: workbook["Errors"].delete_rows(2, 9), "lists no row in a sheet Errors"),
        (drop("Run"), "has no sheet Run that names its run"),
        (put("A2", "first"), "row 2 of sheet 'Errors' of .* names no row of the source, but 'first'"),
        (put("A2", 2.5), "names no row of the source, but '2.5'"),
        (put("A2", 99), "lists row 99, but the questions of run .* are in the rows 3 to 8: rows may be deleted there, not changed"),
        (put("A2", 2), "lists row 2, but"),
        (put("A2", 8), "lists row 8 as 'first', but the question of run .* there is 'last'"),
        (put("B2", "another"), "lists row 3 as 'another', but the question of run .* there is 'first'"),
    ],
)
def test_a_list_that_is_not_of_this_run_is_refused(tmp_path: Path, change: Callable[[openpyxl.Workbook], object], helpful: str) -> None:
    """Asking the wrong rows costs money, and shifts answers."""
    with run_of(tmp_path, unanswered(0)) as store:
        write_workbook(store, tmp_path / "out.xlsx")
    path = edited(tmp_path / "out.xlsx", change)

    with pytest.raises(WorkbookError, match=helpful) as raised:
        rows_of(read_errors(path), read_sheet(tmp_path / "in.xlsx"))

    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(("name", "content"), [("q.csv", b"question\na\n"), ("none.xlsx", None), ("noise.xlsx", bytes(range(256)))])
def test_what_is_no_workbook_of_ours_is_refused(kotae: Kotae, name: str, content: bytes | None) -> None:
    """One line, whatever was dragged there."""
    if content is not None:
        (kotae.folder / name).write_bytes(content)

    finished = kotae("retry", name)

    assert (finished.code, len(finished.err.splitlines())) == (2, 1), finished.err


def test_attempts_count_how_often_a_row_came_to_an_end(tmp_path: Path) -> None:
    """Failed once is bad luck; failed four times is the question. Being cancelled is no attempt."""
    with run_of(tmp_path, unanswered(0), unanswered(1), *(answered(row) for row in range(2, 6))) as store:
        for generation, outcome in enumerate([Outcome.TIMED_OUT, Outcome.CANCELLED, Outcome.REJECTED], start=1):
            store.reopen({Outcome.FAILED, Outcome.TIMED_OUT, Outcome.CANCELLED}, rows={0})
            again = unanswered(0, outcome, "again", store.manifest.run_id)
            store.store([again.model_copy(update={"generation": generation}), again])
        write_workbook(store, tmp_path / "out.xlsx")

    assert [(row["row"], row["cause"], row["attempts"]) for row in table(tmp_path / "out.xlsx", "Errors")] == [
        (3, "again", 3),
        (4, "the engine said no", 1),
    ]


def test_retry_of_a_workbook_asks_the_rows_that_it_lists(kotae: Kotae, start_worker: StartWorker, broker_url: str, tmp_path: Path) -> None:
    """Exactly those, and none that has a reply by now; the workbook itself stays as the person left it."""
    ledger = tmp_path / "ledger"
    make_workbook(kotae.folder / "q.xlsx", ["one", "two", "", "three"])
    slow = start_worker("--engine-arg", "delay=1", "--ledger", str(ledger))
    first = kotae("run", "q.xlsx", "-o", "out.xlsx", "--broker", broker_url, "--row-timeout", "100ms")
    slow.stop()
    start_worker("--ledger", str(ledger))
    edited(kotae.folder / "out.xlsx", lambda workbook: workbook["Errors"].delete_rows(2))
    before = (kotae.folder / "out.xlsx").read_bytes()

    again = kotae("retry", "out.xlsx", "--broker", broker_url)
    twice = kotae("retry", "out.xlsx", "--broker", broker_url, "-o", "twice.xlsx")

    assert first.code == 3, first.err
    assert "without a reply: 3 of them, listed in the sheet Errors; kotae retry out.xlsx asks them anew" in first.out
    assert again.code == 3, again.err
    assert "asking anew: 2 rows (2 timed_out)" in again.out
    assert (kotae.folder / "out.xlsx").read_bytes() == before
    rows = table(kotae.folder / "out-retried.xlsx")
    assert [row["outcome"] for row in rows] == ["timed_out", "answered", "skipped", "answered"]
    assert [row["row"] for row in table(kotae.folder / "out-retried.xlsx", "Errors")] == [2]
    assert "2 of the 2 rows that the sheet Errors lists have a reply by now, and are not asked again" in twice.out
    assert len(starts(ledger)) == 5


def test_retry_of_another_homes_workbook_says_so(kotae: Kotae) -> None:
    """Which rows it means nobody here can tell."""
    make_workbook(kotae.folder / "q.xlsx", ["a"])
    options = (*ECHO, "--engine-arg", "delay=0.3", "--row-timeout", "50ms")
    run_id = kotae("run", "q.xlsx", "-o", "out.xlsx", "--home", "elsewhere", *options).out.rpartition("run: ")[2].split()[0]

    refused = kotae("retry", "out.xlsx")

    assert (refused.code, len(refused.err.splitlines())) == (2, 1)
    assert f"out.xlsx is the workbook of run {run_id}, which .kotae does not have; name its home with --home" in refused.err


def test_a_list_that_goes_on_in_a_second_sheet_is_one(tmp_path: Path) -> None:
    """A sheet holds a million rows; a run may fail with more."""
    with run_of(tmp_path, *(unanswered(row) for row in range(3))) as store:
        write_workbook(store, tmp_path / "out.xlsx")

    def split(workbook: openpyxl.Workbook) -> None:
        first, second = workbook["Errors"], workbook.create_sheet("Errors (2)")
        for row in (1, 4):
            second.append([cell.value for cell in first[row]])
        first.delete_rows(4)

    assert len(read_errors(edited(tmp_path / "out.xlsx", split)).questions) == 3


def test_a_sheet_of_a_person_with_nearly_our_headers_is_asked(tmp_path: Path) -> None:
    """Ours has a cause beside the outcome."""
    path = save_workbook(tmp_path / "in.xlsx", {"Intro": [["hello"]], "Q": [["row", "question", "outcome"], [1, "why", "good"]]})

    assert read_sheet(path).name == "Q"
