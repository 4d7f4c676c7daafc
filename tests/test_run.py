"""`kotae run` without a broker, from the workbook to the workbook."""

import datetime
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
import xlsxwriter
from openpyxl import load_workbook

from producer.runs import RunStore, list_runs
from tests.conftest import Kotae, eventually, make_workbook, stopped_in_the_end
from tests.test_worker import starts

ECHO = ("--engine", "echo")


def table(path: Path, sheet: str | None = None) -> list[dict[str, Any]]:
    """Read a sheet as one dict per row, by another library than the one that wrote it."""
    workbook = load_workbook(path, data_only=True)
    rows = workbook[sheet or workbook.sheetnames[0]].iter_rows(values_only=True)
    headers = [str(header) for header in next(rows)]
    return [dict(zip(headers, row, strict=True)) for row in rows]


def cells(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Read every cell of every sheet."""
    workbook = load_workbook(path)
    return {name: list(workbook[name].iter_rows(values_only=True)) for name in workbook.sheetnames}


def ours() -> set[int]:
    """The processes that a run of ours may leave behind: everything below this one."""
    return {p.pid for p in psutil.Process().children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE}


def test_every_row_is_answered_in_its_place(kotae: Kotae) -> None:
    """The first thing anybody does; the source's own columns stay, ours follow."""
    make_workbook(kotae.folder / "q.xlsx", [f"question {row}" for row in range(60)], note=[f"note {row}" for row in range(60)])

    finished = kotae("run", "q.xlsx", "-o", "out.xlsx", *ECHO, "--engine-arg", "delay_spread=0.2")

    rows = table(kotae.folder / "out.xlsx")
    assert finished.code == 0, finished.err
    assert list(rows[0]) == [
        "NO",
        "question",
        "note",
        "answer",
        "reasoning",
        "outcome",
        "finish_reason",
        "prompt_tokens",
        "output_tokens",
        "error",
    ]
    assert [(row["NO"], row["question"], row["note"], row["answer"]) for row in rows] == [
        (number + 1, f"question {number}", f"note {number}", f"question {number}") for number in range(60)
    ]
    assert {row["outcome"] for row in rows} == {"answered"}
    assert "user: question 0" in finished.out, "the first prompt is shown before anything is sent"


def test_the_same_command_again_starts_no_engine_and_gives_the_same_cells(kotae: Kotae) -> None:
    """Somebody lost the output, or only wants to look."""
    make_workbook(kotae.folder / "q.xlsx", ["a", "", "b"])
    command = ("run", "q.xlsx", "-o", "out.xlsx", *ECHO, "--ledger", kotae.folder / "ledger")
    first = kotae(*command)
    before = cells(kotae.folder / "out.xlsx")
    (kotae.folder / "out.xlsx").unlink()

    again = kotae(*command)

    assert (first.code, again.code) == (0, 0)
    assert "no engine is started" in again.out
    assert len(starts(kotae.folder / "ledger")) == 2
    assert cells(kotae.folder / "out.xlsx") == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_resumes_and_asks_no_answered_row_again(kotae: Kotae, number: signal.Signals) -> None:
    """Ctrl-C is how people stop things, kill is how machines do; neither may cost answers or leave processes."""
    make_workbook(kotae.folder / "q.xlsx", [f"question {row}" for row in range(40)])
    ledger = kotae.folder / "ledger"
    command = ("run", "q.xlsx", "-o", "out.xlsx", *ECHO, "--ledger", ledger, "--engine-arg", "max_num_seqs=4")
    before = ours()
    with stopped_in_the_end(kotae.start(*command, "--engine-arg", "delay=0.3")) as running:
        eventually(lambda: stored(kotae) >= 8)
        left_behind = ours() - before - {running.pid}
        running.send_signal(number)
        _, err = running.communicate(timeout=60)

    answered = stored_rows(kotae)
    finished = kotae(*command)

    assert running.returncode == (130 if number != signal.SIGKILL else -9)
    assert number == signal.SIGKILL or "the same command resumes" in err
    assert 8 <= len(answered) < 40
    assert finished.code == 0, finished.err
    assert [row["answer"] for row in table(kotae.folder / "out.xlsx")] == [f"question {row}" for row in range(40)]
    # Rows that were in flight at the interruption, or had ended and were not stored yet, were started again; no answered one was.
    again = {int(task.split(":")[1]) for task, times in Counter(starts(ledger)).items() if times > 1}
    assert not again & answered
    assert left_behind
    eventually(lambda: not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in left_behind))


def stored(kotae: Kotae) -> int:
    """How many rows the newest run has stored by now."""
    return len(stored_rows(kotae))


def stored_rows(kotae: Kotae) -> set[int]:
    """Which rows the newest run has stored by now; none before there is a run."""
    home = kotae.folder / ".kotae"
    store = RunStore.open(home, name, writing=False) if (name := next(iter(list_runs(home)[::-1]), "")) else None
    if store is None:
        return set()
    with store:
        return store.settled_rows()


def test_a_worker_that_dies_for_good_is_said_in_one_line(kotae: Kotae) -> None:
    """And its log is kept, since somebody must find out why."""
    make_workbook(kotae.folder / "q.xlsx", ["a"])
    with stopped_in_the_end(kotae.start("run", "q.xlsx", "-o", "out.xlsx", *ECHO, "--engine-arg", "delay=1000")) as running:
        eventually(lambda: list_runs(kotae.folder / ".kotae"))
        (supervisor,) = [p for p in psutil.Process(running.pid).children() if "workers" in p.cmdline()]
        supervisor.kill()
        _, err = running.communicate(timeout=60)

    assert running.returncode == 1
    assert re.search(r"kotae: the local worker ended with code -9; its log is .kotae/logs/worker-\S+\.log", err)
    assert "Traceback" not in err


ODD = [
    "",
    "   ",
    "same",
    "same",
    "🙂 emoji 𠮷",
    "=1+1",
    "bell \x07 escape \x1b",
    "literal _x000D_ text",
    "line\r\nbreak",
    "http://example.org",
    "007",
    "長い" * 5000,
]


def test_odd_questions_keep_their_place_and_their_text(kotae: Kotae) -> None:
    """Real workbooks hold all of these; none may shift its neighbours."""
    make_workbook(kotae.folder / "q.xlsx", ODD)

    finished = kotae("run", "q.xlsx", "-o", "out.xlsx", *ECHO, "--blank-lines", "keep")

    from python_calamine import CalamineWorkbook  # decodes Excel's escapes, which openpyxl does not

    rows = CalamineWorkbook.from_path(str(kotae.folder / "out.xlsx")).get_sheet_by_index(0).to_python()[1:]
    assert finished.code == 0, finished.err
    assert [row[1] for row in rows] == ODD
    assert [row[4] for row in rows] == ["skipped", "skipped"] + ["answered"] * 10
    assert [row[2] for row in rows] == ["", "", *ODD[2:]]


def test_source_cells_keep_their_types(kotae: Kotae) -> None:
    """A date that comes back as a number is a broken workbook."""
    date, time_of_day = datetime.datetime(2026, 11, 22, 12, 30), datetime.time(9, 5)  # noqa: DTZ001  # Excel knows no zones
    with xlsxwriter.Workbook(str(kotae.folder / "q.xlsx")) as workbook:
        sheet = workbook.add_worksheet()
        for place, header in enumerate(["question", "when", "at", "yes", "number", "code"]):
            sheet.write(0, place, header)
        sheet.write_row(1, 0, ["a"])
        sheet.write_datetime(1, 1, date, workbook.add_format({"num_format": "yyyy-mm-dd hh:mm"}))
        sheet.write_datetime(1, 2, time_of_day, workbook.add_format({"num_format": "hh:mm"}))
        sheet.write_boolean(1, 3, True)
        sheet.write_number(1, 4, 1.5)
        sheet.write_string(1, 5, "007")

    assert kotae("run", "q.xlsx", "-o", "out.xlsx", *ECHO).code == 0

    (row,) = table(kotae.folder / "out.xlsx")
    assert (row["when"], row["at"], row["yes"], row["number"], row["code"]) == (date, time_of_day, True, 1.5, "007")


@pytest.mark.parametrize("named", [(), ("--header-row", "2")], ids=["found", "named"])
def test_a_text_is_answered_as_a_workbook_is(kotae: Kotae, named: tuple[str, ...]) -> None:
    """A title above the header, Japanese Windows text, semicolons; a header that was only found is said."""
    (kotae.folder / "q.csv").write_bytes("五月の質問\nquestion;質問\n1;一つ目\n2;二つ目、\n".encode("cp932"))

    finished = kotae("run", "q.csv", "--question-column", "質問", *named, *ECHO)

    rows = table(kotae.folder / "q-answers.xlsx", "q")
    assert finished.code == 0, finished.err
    assert [(row["question"], row["質問"]) for row in rows] == [("1", "一つ目"), ("2", "二つ目、")]
    assert all(row["質問"] in row["answer"] for row in rows)
    assert ("the header is row 2" in finished.out) == (not named)


def test_the_output_is_what_it_is_called(kotae: Kotae) -> None:
    """From whatever was given; and the run, once answered, is written in any other form without asking again."""
    (kotae.folder / "q.jsonl").write_text('{"question": "=one", "tags": ["a"]}\n{"question": "two", "late": 2.5}\n', encoding="utf-8")

    as_lines = kotae("run", "q.jsonl", "-o", "out.jsonl", *ECHO)
    as_text = kotae("run", "q.jsonl", "-o", "out.csv", "--csv", "raw", *ECHO)
    safe = kotae("collect", "last", "-o", "safe.tsv")
    again = kotae("run", "q.jsonl", "-o", "out.csv", *ECHO)

    assert [done.code for done in (as_lines, as_text, safe, again)] == [0] * 4, as_lines.err + as_text.err + safe.err
    rows = [json.loads(line) for line in (kotae.folder / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["question"], row["tags"], row["late"], row["answer"]) for row in rows] == [
        ("=one", ["a"], None, "=one"),
        ("two", None, 2.5, "two"),
    ]
    assert json.loads((kotae.folder / "out.jsonl.run.json").read_text(encoding="utf-8"))["rows answered"] == 2
    assert (kotae.folder / "safe.tsv").read_text(encoding="utf-8").startswith("question\ttags"), "raw, as the run was told last"
    assert "'=one,[" in (kotae.folder / "out.csv").read_text(encoding="utf-8").replace('"', "")


def test_filled_columns_of_the_source_are_kept_beside_ours(kotae: Kotae) -> None:
    """The reference's workbooks have a column reasoning, often filled by another model."""
    make_workbook(kotae.folder / "q.xlsx", ["a"], reasoning=["theirs"], answer=[""])

    finished = kotae("run", "q.xlsx", "-o", "out.xlsx", *ECHO)

    (row,) = table(kotae.folder / "out.xlsx")
    assert row["reasoning"] == "theirs"
    assert row["answer"] == "a"
    assert row["reasoning (echo)"]
    assert "reasoning (echo)" in finished.out


def test_redis_holds_one_task_per_row_and_never_more_than_the_window(kotae: Kotae) -> None:
    """A million rows must not sit in Redis."""
    make_workbook(kotae.folder / "q.xlsx", [f"question {row}" for row in range(600)])
    most = 0
    command = ("run", "q.xlsx", "-o", "out.xlsx", *ECHO, "--engine-arg", "delay=0.1", "--engine-arg", "max_num_seqs=32", "--window", "50")
    with stopped_in_the_end(kotae.start(*command, "--ledger", kotae.folder / "ledger")) as running:
        client = eventually(lambda: embedded_server_of(running))
        while running.poll() is None:
            most = max(most, rows_in(client))
            time.sleep(0.02)

    assert running.returncode == 0
    assert 0 < most <= 50 + 36  # a row in flight, or next in line, may be seen twice: its message and its result
    assert sorted(starts(kotae.folder / "ledger")) == sorted(set(starts(kotae.folder / "ledger")))
    assert [row["answer"] for row in table(kotae.folder / "out.xlsx")] == [f"question {row}" for row in range(600)]


def embedded_server_of(running: "subprocess.Popen[str]") -> Any:
    """Find the embedded server of a run by what its worker was told."""
    import redis

    for process in psutil.Process(running.pid).children() if running.poll() is None else []:
        if url := process.environ().get("KOTAE_BROKER"):
            return redis.Redis.from_url(url)
    return None


def rows_in(client: Any) -> int:
    """Rows that a server holds in any form: queued, taken, or answered and not collected."""
    import redis

    try:
        return sum(client.llen(key) for key in client.keys("kotae.1.*")) + client.hlen("unacked") + len(client.keys("celery-task-meta-*"))
    except redis.RedisError:
        return 0  # the run is over


def test_nothing_of_a_password_shows_in_the_process_list(kotae: Kotae) -> None:
    """Other people work on GPU machines too."""
    make_workbook(kotae.folder / "q.xlsx", ["a"])
    with stopped_in_the_end(kotae.start("run", "q.xlsx", "-o", "out.xlsx", *ECHO, "--engine-arg", "delay=2")) as running:
        client = eventually(lambda: embedded_server_of(running))
        password = client.connection_pool.connection_kwargs["password"]
        shown = [" ".join(p.cmdline()) for p in psutil.Process(running.pid).children(recursive=True)]
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=60)

    assert len(password) > 20
    assert len(shown) >= 3
    assert not any(password in line for line in shown)


MISTAKES: list[tuple[tuple[str, ...], str]] = [
    (("missing.xlsx",), "there is no file missing.xlsx"),
    (("text.xlsx",), "no question column; its columns are: 'hello'"),
    (("q.xlsx", "--header-row", "7"), "(--header-row)"),
    (("q.xlsx", "--header-row", "0"), "--header-row"),
    (("none.xlsx",), "no question column; its columns are: 'NO', 'text'"),
    (("q.xlsx", "--sheet", "Nope"), "it has: 'questions'"),
    (("q.xlsx", "--question-column", "Nope"), "'NO', 'question'"),
    (("q.xlsx", "-o", "nowhere/out.xlsx"), "cannot be written"),
    (("q.xlsx", "-o", "q.xlsx"), "is the workbook itself"),
    (("q.xlsx", "-o", "out.ods"), "must end in .xlsx"),
    (("q.xlsx", "--engine", "vllm", "--model", "/nope"), "no model at /nope"),
    (("q.xlsx", "--broker", "redis://127.0.0.1:1/0"), "cannot reach the broker"),
    (("q.xlsx", "--broker", "nonsense"), "cannot be used"),
    (("q.xlsx", "--temperature", "3"), "--temperature 3.0: must be less than or equal to 2"),
    (("q.xlsx", "--temperature", "hot"), "--temperature"),
    (("q.xlsx", "--top-p", "0"), "--top-p"),
    (("q.xlsx", "--max-tokens", "0"), "--max-tokens"),
    (("q.xlsx", "--samples", "2", "--temperature", "0"), "raise the temperature"),
    (("q.xlsx", "--row-timeout", "soon"), "90s, 30m or 2h"),
    (("q.xlsx", "--reply-format", "xml"), "--reply-format"),
    (("q.xlsx", "--enforce-format", "--max-tokens", "32"), "--max-tokens must be at least 64"),
    (("q.xlsx", "--enforce-format", "--stop", "."), "--stop would end replies before the tags"),
    (("q.xlsx", "--enforce-format", "--ignore-eos"), "--ignore-eos would let replies go on behind the tags"),
    (("q.xlsx", "--enforce-format", "--reply-format", "plain"), "leave the option out"),
    (("q.xlsx", "--system-prompt", "@nowhere"), "@nowhere"),
    (("q.xlsx", "--engine", "gpt"), ": 'gpt' is not one of 'vllm', 'unsloth', 'openai', 'echo'"),
    (("q.xlsx", "--engine-arg", "delay"), "KEY=VALUE"),
    (("q.xlsx", "--limit", "0"), "--limit 0"),
    (("q.xlsx", "--bogus"), "--bogus"),
]


@pytest.mark.parametrize(("arguments", "says"), MISTAKES, ids=[" ".join(arguments) for arguments, _ in MISTAKES])
def test_a_mistake_is_one_line_exit_2_and_nothing_written(kotae: Kotae, arguments: tuple[str, ...], says: str) -> None:
    """No traceback, nothing half done: mend it and go on."""
    make_workbook(kotae.folder / "q.xlsx", ["a"])
    make_workbook(kotae.folder / "none.xlsx", []).unlink()
    with xlsxwriter.Workbook(str(kotae.folder / "none.xlsx")) as workbook:
        sheet = workbook.add_worksheet()
        sheet.write_row(0, 0, ["NO", "text"])
        sheet.write_row(1, 0, [1, "a"])
    (kotae.folder / "text.xlsx").write_text("hello")
    before = {path: path.read_bytes() for path in kotae.folder.iterdir()}

    engine = () if "--engine" in arguments else ECHO
    output = () if "-o" in arguments else ("-o", "out.xlsx")
    finished = kotae("run", *arguments, *engine, *output)

    assert finished.code == 2
    assert says in finished.err
    assert len(finished.err.splitlines()) == 1, finished.err
    assert {path: path.read_bytes() for path in kotae.folder.iterdir()} == before


def test_what_the_engine_refuses_is_one_line_too(kotae: Kotae) -> None:
    """The worker found out, in another process; the person reads it here."""
    make_workbook(kotae.folder / "q.xlsx", ["a"])

    for arguments, says in ((("--engine-arg", "speed=3"), "echo knows delay"), (("--enforce-format",), "cannot hold replies")):
        finished = kotae("run", "q.xlsx", "-o", "out.xlsx", *ECHO, *arguments)

        assert (finished.code, len(finished.err.splitlines())) == (2, 1), finished.err
        assert says in finished.err
    assert sorted(os.listdir(kotae.folder)) == ["q.xlsx"]


def test_a_file_beside_the_workbook_replaces_no_module_of_ours(kotae: Kotae) -> None:
    """People keep scripts called queue.py where they work."""
    make_workbook(kotae.folder / "q.xlsx", ["a"])
    for name in ("workers", "redis", "queue"):
        (kotae.folder / f"{name}.py").write_text("raise SystemExit('shadowed')")
    command = [sys.executable, "-P", "-c", "from producer.cli import run; run()", "run", "q.xlsx", "-o", "out.xlsx", *ECHO]

    finished = subprocess.run(command, cwd=kotae.folder, capture_output=True, text=True, timeout=60, check=False)

    assert finished.returncode == 0, finished.stderr
