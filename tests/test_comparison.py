"""`kotae compare` puts sources side by side in a workbook, and refuses in one line what it cannot compare."""

import json
from pathlib import Path

import openpyxl
import pytest
from rich.console import Console

from producer.analysis.compare import compare
from producer.analysis.comparison import labels_of
from producer.analysis.sources import open_source
from producer.desk import Desk
from workers.contract.errors import UserError

from .workbooks import answered, begin_run, records, save_workbook, tagged, unanswered

HEADERS = ["NO", "question", "output", "odd\nheader"]
ROWS = [[1, "一?", "1\x07つ", "a"], [2, "二?", "", "b"], [3, "三?", "x" * 40_000, "c"]]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "home", Console(quiet=True), True)


@pytest.fixture
def workbook(tmp_path: Path, desk: Desk) -> Path:
    """A workbook of three questions with a column of replies, and a run of it that has answered one and failed at one."""
    path = save_workbook(tmp_path / "q.xlsx", {"s": [HEADERS, *[[*row[:2], str(row[2])[:32_000], row[3]] for row in ROWS]]})
    with begin_run(desk.home, path) as store:
        run_id = store.manifest.run_id
        store.store([answered(0, tagged("壱", "考える"), run_id=run_id), unanswered(1, run_id=run_id)])
    return path


def test_a_workbook_has_a_row_for_every_question_and_the_models_side_by_side(tmp_path: Path, desk: Desk, workbook: Path) -> None:
    out = tmp_path / "comparison.xlsx"

    compare(["last", f"{workbook}:output"], out, None, None, None, desk)

    rows = records(out, "Comparison")
    assert list(rows[0])[:8] == [*HEADERS, "answer (phi-4)", "answer (output)", "reasoning (phi-4)", "reasoning (output)"]
    assert [row["question"] for row in rows] == ["一?", "二?", "三?"]
    assert [(row["answer (phi-4)"], row["outcome (phi-4)"], row["outcome (output)"]) for row in rows] == [
        ("壱", "answered", "answered"),
        ("", "failed", "missing"),
        ("", "missing", "answered"),
    ]
    assert rows[1]["error (phi-4)"] == "the engine said no"
    assert (rows[0]["answer characters (phi-4)"], rows[0]["reasoning characters (phi-4)"]) == (1, 3)
    assert rows[2]["answer characters (output)"] == 32_000
    assert rows[2]["repetition (output)"] > 0.9
    sheet = openpyxl.load_workbook(out)["Comparison"]
    assert sheet.auto_filter.ref == "A1:R4"
    assert sheet.freeze_panes == "A2"
    assert sheet["E2"].alignment.wrap_text
    told = {row["what"]: row["value"] for row in records(out, "Sources")}
    assert told["source 1: label"] == "phi-4"
    assert told["joined"] == "row by row"


def test_of_several_samples_the_first_stands_there_and_what_most_of_them_say(tmp_path: Path, desk: Desk) -> None:
    """The answer that a vote would give, for who asks several times to get one."""
    path = save_workbook(tmp_path / "q.xlsx", {"s": [["question", "output"], ["6*7?", "42"], ["?", "x"]]})
    with begin_run(desk.home, path, samples=4) as store:
        said = (tagged("41"), tagged("The answer is 42."), tagged("42"), "no tags: 42")
        store.store([answered(0, *said, run_id=store.manifest.run_id)])

    compare(["last", f"{path}:output"], tmp_path / "c.xlsx", None, None, None, desk)

    rows = records(tmp_path / "c.xlsx", "Comparison")
    assert [(row["answer (phi-4)"], row["majority (phi-4)"], row["votes (phi-4)"]) for row in rows] == [
        ("41", "The answer is 42.", "2 of 3"),
        ("", "", ""),
    ]


def test_programs_are_told_how_many_rows_every_source_has(
    tmp_path: Path, desk: Desk, workbook: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(["last", f"{workbook}:output"], tmp_path / "c.xlsx", "NO", None, None, desk)

    told = json.loads(capsys.readouterr().out)
    assert (told["rows"], told["complete"]) == (3, 1)
    assert [source["outcomes"] for source in told["sources"]] == [
        {"answered": 1, "failed": 1, "missing": 1},
        {"answered": 2, "missing": 1},
    ]


@pytest.mark.parametrize(
    ("names", "out", "refusal"),
    [
        (["last"], "c.html", "needs two sources or more"),
        (["last", "q.xlsx:output"], "c.pdf", "must end in .xlsx or .html"),
        (["last", "q.xlsx:output"], "q.xlsx", "is a workbook that is compared"),
        (["last", "q.xlsx:outptu"], "c.html", "has no column 'outptu'"),
        (["last", "r.xlsx:output"], "c.html", "there is no file r.xlsx"),
    ],
)
def test_what_cannot_be_compared_is_refused_and_nothing_is_written(
    names: list[str], out: str, refusal: str, desk: Desk, workbook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir()), workbook.read_bytes()

    with pytest.raises(UserError, match=refusal):
        compare(names, Path(out), None, None, None, desk)

    assert (sorted(path.name for path in tmp_path.iterdir()), workbook.read_bytes()) == before


def test_sources_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """By what they were called on the command line, or by their number if that is the same as well."""
    header = ["question", "answer", "answer (phi-4)", "answer (phi-4) 2"]
    path = save_workbook(tmp_path / "a.xlsx", {"s": [header, ["q", "a", "b", "c"]]})
    names = [f"{path}:answer", f"{path}:answer (phi-4)", f"{path}:answer"]

    opened = []
    for name in names:
        with open_source(name, tmp_path) as source:
            opened.append(source)

    assert labels_of(opened) == [names[0], "phi-4", f"{names[0]} (2)"]
