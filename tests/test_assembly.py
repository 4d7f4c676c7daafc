"""The workbook of a run. Every row of the source stands in it, in its place, whatever became of it."""

import datetime
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.runs import RunStore
from producer.workbook.assembly import write_workbook
from producer.workbook.reading import read_sheet
from tests.workbooks import answered, begin_run, grid, records, save_workbook, sheet_names, tagged, unanswered
from workers.contract.messages import Answer, ModelIdentity, Outcome, ReplyFormat

OURS = ["answer", "reasoning", "outcome", "finish_reason", "prompt_tokens", "output_tokens", "error"]
SOURCE: list[list[Any]] = [
    ["NO", "question", "memo"],
    [1, "one?", "a"],
    [1, "two?", ""],
    ["", "", ""],
    ["007", " ", "d"],
    [2.5, "five?", True],
]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    """A run of five rows, two of them without a question, whose source is no longer there."""
    source = save_workbook(tmp_path / "in.xlsx", {"質問": SOURCE})
    with begin_run(tmp_path, source) as store:
        source.unlink()
        yield store


def put(store: RunStore, *answers: Answer) -> None:
    store.store([answer.model_copy(update={"run_id": store.manifest.run_id}) for answer in answers])


def write(store: RunStore, path: Path, name: str = "out.xlsx") -> Path:
    write_workbook(store, path / name)
    return path / name


def run_sheet(path: Path) -> dict[str, Any]:
    return {row["what"]: row["value"] for row in records(path, "Run")}


def test_every_row_of_the_source_stands_in_its_place(tmp_path: Path, store: RunStore) -> None:
    """Answers came in another order and repeated numbers name nothing: row 5 is row 5."""
    put(store, answered(4, tagged("fifth")), answered(1, tagged("second")), answered(0, tagged("first")))

    rows = grid(write(store, tmp_path), "質問")

    assert rows[0] == ["NO", "question", "memo", *OURS]
    assert [row[:3] for row in rows] == SOURCE
    assert [row[3] for row in rows[1:]] == ["first", "second", "", "", "fifth"]


def test_an_answered_row_shows_all_that_is_known_of_it(tmp_path: Path, store: RunStore) -> None:
    """Whoever judges an answer wants to see how it came about, beside it."""
    put(store, answered(0, tagged("42", "because")))

    row = records(write(store, tmp_path), "質問")[0]

    assert [row[name] for name in OURS] == ["42", "because", "answered", "stop", 11, 7, ""]


def test_a_malformed_reply_is_shown_as_the_reference_shows_it(tmp_path: Path, store: RunStore) -> None:
    """People lay our workbook beside the reference's; the outcome says that the format was broken."""
    put(store, answered(0, "just words"), answered(1, "<reasoning>cut", finish_reason="length"))

    rows = records(write(store, tmp_path), "質問")

    assert [rows[0][name] for name in OURS[:4]] == ["just words", "UNKNOWN", "malformed", "stop"]
    assert [rows[1][name] for name in OURS[:4]] == ["<reasoning>cut", "REASONING not found", "truncated", "length"]


def test_a_row_without_a_question_says_that_it_was_skipped(tmp_path: Path, store: RunStore) -> None:
    """An empty answer beside an empty question should not look like a lost one."""
    rows = records(write(store, tmp_path), "質問")

    assert [rows[2][name] for name in OURS] == ["", "", "skipped", "", "", "", "the question is empty"]
    assert rows[3]["outcome"] == "skipped"


def test_rows_that_nothing_is_known_of_have_empty_cells(tmp_path: Path, store: RunStore) -> None:
    """A workbook can be had in the middle of a run, and shows plainly what is still missing."""
    put(store, answered(1))

    rows = grid(write(store, tmp_path), "質問")

    assert len(rows) == len(SOURCE)
    assert [row[3:] for row in (rows[1], rows[5])] == [[""] * 7] * 2
    assert rows[2][5] == "answered"


def test_rows_beyond_the_limit_stay_in_the_workbook(tmp_path: Path, store: RunStore) -> None:
    """--limit asks fewer rows; it does not cut the person's file."""
    put(store, answered(0), answered(4))
    store.update(limit=2)

    rows = grid(write(store, tmp_path), "質問")

    assert [row[:3] for row in rows] == SOURCE
    assert [row[5] for row in rows[1:]] == ["answered", "", "", "", ""]


def test_the_sources_cells_keep_their_types(tmp_path: Path) -> None:
    """Numbers still add up, dates still sort, "007" is still a text."""
    cells = ["007", 7, 2.5, True, datetime.date(2026, 1, 2), datetime.time(3, 4), datetime.timedelta(hours=30), "=1+1", "#N/A"]
    source = save_workbook(tmp_path / "in.xlsx", {"S": [["question"], ["a", *cells]]})

    with begin_run(tmp_path, source) as store:
        row = grid(write(store, tmp_path), "S")[1][1 : len(cells) + 1]

    assert row == cells
    assert [type(cell) for cell in row[3:]] == [type(cell) for cell in cells[3:]]


def test_several_samples_stand_side_by_side(tmp_path: Path) -> None:
    """The first sample is `answer`, so that a workbook of one sample and one of three can be compared column by column."""
    source = save_workbook(tmp_path / "in.xlsx", {"S": [["question"], ["one?"], ["two?"]]})

    with begin_run(tmp_path, source, samples=3) as store:
        put(store, answered(0, "no tags", tagged("b", "B"), tagged("c", "C")), unanswered(1))
        path = write(store, tmp_path)

    first, second = records(path, "S")
    assert list(first) == ["question", *OURS, "answer_2", "reasoning_2", "answer_3", "reasoning_3"]
    assert [first[name] for name in ("answer", "answer_2", "reasoning_2", "answer_3", "reasoning_3")] == ["no tags", "b", "B", "c", "C"]
    assert (first["outcome"], first["output_tokens"], first["prompt_tokens"]) == ("answered", 21, 11)
    assert (second["outcome"], second["answer_3"]) == ("failed", "")


def test_an_empty_column_of_the_source_is_filled_in_place(tmp_path: Path) -> None:
    """The reference's workbooks come with empty columns for the answers; that is where they are looked for."""
    source = save_workbook(tmp_path / "in.xlsx", {"S": [["Answer", "question", "memo"], ["", "one?", "m"]]})

    with begin_run(tmp_path, source) as store:
        put(store, answered(0, tagged("42")))
        told = write_workbook(store, tmp_path / "out.xlsx")

    assert grid(tmp_path / "out.xlsx", "S") == [
        ["Answer", "question", "memo", *OURS[1:]],
        ["42", "one?", "m", "why", "answered", "stop", 11, 7, ""],
    ]
    assert told == []


def test_a_filled_column_of_the_source_is_kept_and_the_person_told(tmp_path: Path) -> None:
    """The stronger model's answers stand in `answer`; ours go beside them, and nobody has to wonder where."""
    source = save_workbook(tmp_path / "in.xlsx", {"S": [["question", "answer"], ["one?", ""], ["two?", "theirs"]]})

    with begin_run(tmp_path, source) as store:
        put(store, answered(0, tagged("ours")))
        told = write_workbook(store, tmp_path / "out.xlsx")

    rows = records(tmp_path / "out.xlsx", "S")
    assert [(row["answer"], row["answer (phi-4)"]) for row in rows] == [("", "ours"), ("theirs", "")]
    assert told == ["the source has a filled column 'answer'; ours is called 'answer (phi-4)' (--overwrite replaces the source's)"]


def test_overwriting_replaces_the_sources_column_and_nothing_else(tmp_path: Path) -> None:
    """--overwrite: no old answer may stay beside a new outcome, also where the new one is not there yet."""
    source = save_workbook(tmp_path / "in.xlsx", {"S": [["question", "answer", "memo"], ["one?", "old", "m"], ["two?", "old", "n"]]})

    with begin_run(tmp_path, source, overwrite=True) as store:
        put(store, answered(0, tagged("new")))
        path = write(store, tmp_path)

    assert [row[:3] for row in grid(path, "S")] == [["question", "answer", "memo"], ["one?", "new", "m"], ["two?", "", "n"]]


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_questions_are_never_overwritten(tmp_path: Path, overwrite: bool) -> None:
    """Asking about the column `answer` itself is how a second model judges the first; its text must stay."""
    source = save_workbook(tmp_path / "in.xlsx", {"S": [["answer"], ["is this good?"]]})

    with begin_run(tmp_path, source, question_column="answer", overwrite=overwrite) as store:
        put(store, answered(0, tagged("yes")))
        row = records(write(store, tmp_path), "S")[0]

    assert (row["answer"], row["answer (phi-4)"]) == ("is this good?", "yes")


def test_an_output_can_be_the_source_of_another_model(tmp_path: Path) -> None:
    """Three models side by side in one workbook are three runs, one after the other."""
    path = save_workbook(tmp_path / "in.xlsx", {"S": [["question"], ["one?"]]})

    for number, name in enumerate(["small", "middle", "large"]):
        with begin_run(tmp_path, path, name) as store:
            put(store, answered(0, tagged(name)))
            path = write(store, tmp_path, f"out-{number}.xlsx")

    row = records(path, "S")[0]
    assert [row[name] for name in ("answer", "answer (middle)", "answer (large)")] == ["small", "middle", "large"]


def test_the_output_shows_the_source_as_it_is_now(tmp_path: Path) -> None:
    """Between two commands somebody sorted the columns and added a note: the answers are the same, the workbook is theirs."""
    source = save_workbook(tmp_path / "in.xlsx", {"S": [["NO", "question"], [1, "one?"]]})
    with begin_run(tmp_path, source) as store:
        put(store, answered(0, tagged("42")))

    save_workbook(source, {"Renamed": [["質問", "note", "NO"], ["one?", "check", 1]]})
    with begin_run(tmp_path, source) as again:
        path = write(again, tmp_path)

    assert [row[:4] for row in grid(path, "Renamed")] == [["質問", "note", "NO", "answer"], ["one?", "check", 1, "42"]]


def test_there_is_no_sheet_of_errors_without_errors(tmp_path: Path, store: RunStore) -> None:
    """Skipped, malformed and truncated rows have what they can have; a sheet "Errors" means that there is something to do."""
    put(store, answered(0), answered(1, "no tags"), answered(4, "cut", finish_reason="length"))

    assert sheet_names(write(store, tmp_path)) == ["質問", "Run"]


def test_errors_are_listed_under_the_numbers_that_a_spreadsheet_shows(tmp_path: Path, store: RunStore) -> None:
    """The number in the list is the number to scroll to."""
    put(
        store,
        unanswered(4, Outcome.TIMED_OUT, "30 minutes were not enough"),
        unanswered(0, Outcome.REJECTED, "the prompt is too long"),
        unanswered(1),
    )

    path = write(store, tmp_path)

    assert sheet_names(path) == ["質問", "Run", "Errors"]
    assert grid(path, "Errors") == [
        ["row", "question", "outcome", "cause", "attempts"],
        [2, "one?", "rejected", "the prompt is too long", 1],
        [3, "two?", "failed", "the engine said no", 1],
        [6, "five?", "timed_out", "30 minutes were not enough", 1],
    ]
    for row, question, outcome, error, _ in grid(path, "Errors")[1:]:
        shown = grid(path, "質問")[int(row) - 1]
        assert (shown[1], shown[5], shown[9]) == (question, outcome, error)


@pytest.mark.parametrize("options", [{}, {"header_row": 3}])
def test_errors_below_a_title_have_the_numbers_of_the_source(tmp_path: Path, options: dict[str, int]) -> None:
    """The person looks for them in the file they have; which row was the header is kept with the run."""
    source = save_workbook(tmp_path / "in.xlsx", {"S": [["May"], [], ["NO", "question"], [1, "one?"], [2, "two?"]]})
    with begin_run(tmp_path, source, **options) as store:
        put(store, answered(0), unanswered(1))

        path = write(store, tmp_path)

    assert grid(path, "Errors")[1] == [5, "two?", "failed", "the engine said no", 1]
    assert [row[:2] for row in grid(path, "S")] == [["NO", "question"], [1, "one?"], [2, "two?"]]
    assert store.manifest.header_row == 3


def test_the_sheet_run_tells_what_was_asked_of_whom(tmp_path: Path) -> None:
    """A workbook found in a year must still say what produced it."""
    source = save_workbook(tmp_path / "in.xlsx", {"S": [["NO", "質問"], [1, "one?"], [2, ""], [3, "three?"]]})
    identity = ModelIdentity(
        served_name="phi-4",
        engine="vllm",
        engine_version="0.32.0",
        model="microsoft/phi-4",
        weights="abcd",
        adapters={"grpo": "ef01"},
        dtype="bfloat16",
        quantization="bitsandbytes",
        max_model_len=3584,
        versions={"torch": "2.11", "cuda": "13.0"},
    )

    with begin_run(tmp_path, source, adapter="grpo", system_prompt="\nAnswer.\n", seed=7, max_tokens=100, limit=3) as store:
        put(store, answered(0), answered(2, "no tags"))
        store.store_model("f1", identity)
        told = run_sheet(write(store, tmp_path))
        run = store.manifest

    expected = {
        "run": run.run_id,
        "kotae": run.kotae_version,
        "begun": run.created_at,
        "sheet": "S",
        "question column": "質問",
        "rows": 3,
        "limit": 3,
        "served name": "phi-4",
        "model as given": "some/model",
        "adapter": "grpo",
        "system prompt": "\nAnswer.\n",
        "reply format": "reasoning-answer",
        "blank lines": "collapse",
        "sampling: seed": 7,
        "sampling: temperature": 0.5,
        "sampling: top_p": 0.95,
        "sampling: max_tokens": 100,
        "sampling: n": 1,
        "sampling: ignore_eos": False,
        "model 1: fingerprint": "f1",
        "model 1: engine": "vllm",
        "model 1: engine_version": "0.32.0",
        "model 1: model": "microsoft/phi-4",
        "model 1: weights": "abcd",
        "model 1: adapters": "grpo=ef01",
        "model 1: dtype": "bfloat16",
        "model 1: quantization": "bitsandbytes",
        "model 1: max_model_len": 3584,
        "model 1: versions": "torch=2.11, cuda=13.0",
        "rows answered": 1,
        "rows malformed": 1,
        "rows skipped": 1,
        "yield": "1 of 2 replies keep the format",
        "prompt tokens": 22,
        "output tokens": 14,
    }
    assert {name: told.get(name) for name in expected} == expected


def test_every_model_that_answered_is_named(tmp_path: Path, store: RunStore) -> None:
    """A fleet may be upgraded in the middle of a run; whoever compares answers has to know."""
    put(store, answered(0), answered(1).model_copy(update={"fingerprint": "f2"}))

    told = run_sheet(write(store, tmp_path))

    assert (told["model 1: fingerprint"], told["model 2: fingerprint"]) == ("f1", "f2")


@pytest.mark.parametrize("name", ["Run", "run", "Errors", "errors"])
def test_a_source_may_have_a_sheet_of_our_names(tmp_path: Path, name: str) -> None:
    """The person's sheet keeps its name; ours steps aside."""
    source = save_workbook(tmp_path / "in.xlsx", {name: [["question"], ["one?"]]})

    with begin_run(tmp_path, source) as store:
        put(store, unanswered(0))
        path = write(store, tmp_path)

    first, *others = sheet_names(path)
    assert first == name
    assert len({other.casefold() for other in (first, *others)}) == 3
    assert records(path, name)[0]["outcome"] == "failed"


def test_writing_again_gives_the_same_workbook(tmp_path: Path, store: RunStore) -> None:
    """The workbook is a view: who writes it again tomorrow, or on another machine, gets the same, to the byte."""
    put(store, answered(0), answered(1, "no tags"), unanswered(4))

    first, second = write(store, tmp_path, "first.xlsx"), write(store, tmp_path, "second.xlsx")

    assert [grid(first, name) for name in sheet_names(first)] == [grid(second, name) for name in sheet_names(second)]
    assert first.read_bytes() == second.read_bytes()


def test_a_workbook_is_as_old_as_its_run(tmp_path: Path, store: RunStore) -> None:
    """Its own date is the run's, or no two writings would be equal."""
    store.update(created_at="2026-01-02T03:04:05+00:00")

    created = openpyxl.load_workbook(write(store, tmp_path)).properties.created

    assert created is not None
    assert created.isoformat() == "2026-01-02T03:04:05"


def test_another_reply_format_makes_another_workbook_of_the_same_run(tmp_path: Path, store: RunStore) -> None:
    """Read the stored replies anew and write: no worker is needed."""
    put(store, answered(0, "<think>why</think>42"))
    before = records(write(store, tmp_path), "質問")[0]

    store.update(reply_format=ReplyFormat.THINK)
    after = records(write(store, tmp_path), "質問")[0]

    assert (before["outcome"], before["answer"]) == ("malformed", "<think>why</think>42")
    assert (after["outcome"], after["reasoning"], after["answer"]) == ("answered", "why", "42")


def test_a_workbook_can_be_had_while_the_run_goes_on(tmp_path: Path, store: RunStore) -> None:
    """`kotae collect` beside a running `kotae run` only reads."""
    put(store, answered(0))

    with RunStore.open(tmp_path, store.manifest.run_id, writing=False) or pytest.fail("gone") as reader:
        rows = records(write(reader, tmp_path), "質問")

    assert rows[0]["outcome"] == "answered"


def test_what_a_cell_cannot_hold_is_marked_and_kept_in_the_store(tmp_path: Path, store: RunStore) -> None:
    """A reply of 40,000 characters is cut in the workbook only."""
    put(store, answered(0, tagged("x" * 40_000)))

    shown = records(write(store, tmp_path), "質問")[0]["answer"]

    assert (len(shown), shown[-5:]) == (32_767, "tore]")
    assert next(store.answers()).answer.completions[0].text == tagged("x" * 40_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples of a property."""
    return tmp_path_factory.mktemp("assembly")


@settings(max_examples=15)
@given(
    questions=st.lists(st.sampled_from(["same?", "", " ", "other?"]), min_size=1, max_size=12).filter(lambda texts: texts[-1] != ""),
    stored=st.sets(st.integers(0, 11)),
)
def test_any_part_of_a_run_stands_in_the_right_rows(folder: Path, questions: list[str], stored: set[int]) -> None:
    """Promise one: every row in place, whatever happened to it and to the rows around it."""
    source = save_workbook(folder / "in.xlsx", {"S": [["question"], *([text] for text in questions)]})
    there = [row for row in stored if row < len(questions) and questions[row].strip()]

    with begin_run(folder, source, fresh=(folder / "runs").exists()) as store:
        put(store, *(answered(row, tagged(f"answer {row}")) for row in there))
        rows = records(write(store, folder), "S")

    assert [row["question"] for row in rows] == questions
    assert [row["answer"] for row in rows] == [f"answer {row}" if row in there else "" for row in range(len(questions))]


def test_a_sheet_name_that_excel_would_not_allow_is_cut(tmp_path: Path) -> None:
    """Other programs write longer ones; that must not show after every answer is paid for."""
    path = save_workbook(tmp_path / "in.xlsx", {"S": [["question"], ["a"]]})
    with begin_run(tmp_path / "home", path) as store:
        long = openpyxl.load_workbook(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            long.worksheets[0].title = "L" * 40
        long.save(path)
        store.replace_source(path)
        store.update(sheet="L" * 40)

        write_workbook(store, tmp_path / "out.xlsx")

    assert openpyxl.load_workbook(tmp_path / "out.xlsx").sheetnames[0] == "L" * 31


def test_a_large_seed_is_told_with_all_its_digits(tmp_path: Path) -> None:
    """A rounded seed repeats nothing."""
    path = save_workbook(tmp_path / "in.xlsx", {"S": [["question"], ["a"]]})
    with begin_run(tmp_path / "home", path, seed=2**62 + 1) as store:
        write_workbook(store, tmp_path / "out.xlsx")

    told = {row["what"]: row["value"] for row in records(tmp_path / "out.xlsx", "Run")}
    assert int(told["sampling: seed"]) == 2**62 + 1


def test_an_output_with_errors_can_be_the_next_input(tmp_path: Path, store: RunStore) -> None:
    """Our own list of errors has a column of questions too, and must not make the choice of a sheet ambiguous."""
    put(store, unanswered(0, Outcome.REJECTED, "the prompt is too long"))

    path = write(store, tmp_path)

    assert read_sheet(path).name == "質問"
