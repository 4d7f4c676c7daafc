"""Columns that steer a row: what its cells say arrives at the engine, what they leave is the run's."""

import datetime
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter
from hypothesis import given
from hypothesis import strategies as st
from python_calamine import CalamineWorkbook

from producer.manage import questions_in
from producer.options import AskOptions
from producer.prepare import Plan, make_plan, open_run
from producer.questions import Questions
from producer.sampling import BadValue, own_sampling
from producer.steering import SAMPLING_FIELDS
from tests.conftest import Kotae, StartWorker, make_workbook
from tests.test_fleet_commands import Generated, generated  # noqa: F401  # a fixture
from tests.test_run import ECHO, table
from tests.workbooks import manifest, save_workbook
from workers.contract.errors import UserError
from workers.contract.messages import Question, ReplyFormat, Sampling

TELL = (*ECHO, "--engine-arg", "tell=true")


def plan(path: Path, rows: list[list[Any]], **options: Any) -> Plan:
    """Return what `kotae run` knows before it sends anything."""
    return make_plan(save_workbook(path / "q.xlsx", {"S": rows}), AskOptions(**{"system_prompt": "Answer.", **options}))


def asked(plan: Plan, adapter: str | None = None) -> list[Question]:
    """Return all questions of a plan as they travel."""
    run = manifest(rows=len(plan.rows), sampling=plan.sampling, system_prompt=plan.system_prompt, adapter=adapter, steering=plan.steering)
    questions = Questions(plan.rows, run)
    return [questions.of(row) for row in range(len(plan.rows))]


def said(question: Question) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in question.messages]


def turns(*contents: str, system: str = "") -> str:
    """Return a conversation as a cell holds it; user and assistant take turns."""
    roles = ("user", "assistant")
    conversation = [{"role": roles[number % 2], "content": content} for number, content in enumerate(contents)]
    return json.dumps([{"role": "system", "content": system}] * bool(system) + conversation)


# Sampling, system prompt, adapter.


def test_what_a_row_says_arrives_at_the_engine_and_the_rest_is_the_runs(kotae: Kotae) -> None:
    """Told by the engine itself. Numbers may stand there as text, with full-width digits or around them white space."""
    make_workbook(
        kotae.folder / "q.xlsx",
        ["a", "b", "c", "d"],
        persona=["You are Ann.", "", "You are <b>Bob</b>.\n", ""],
        Temp=[0, "", " １.２ ", 0.25],
        tokens=[100, "", "64", ""],
        seed=["", "", 7, "9007199254740993"],
        ends=["[END]", "", '["x", "\\n\\n"]', "[]"],
        eos=[True, "", "FALSE", ""],
    )
    columns = ("temperature=ＴＥＭＰ", "max-tokens=tokens", "seed", "stop=ends", "ignore_eos=eos")

    finished = kotae(
        *("run", "q.xlsx", "-o", "out.xlsx", *TELL, "--system-prompt", "Be kind.", "--temperature", "0.9", "--stop", "halt"),
        *("--system-prompt-column", " persona ", *(part for column in columns for part in ("--sampling-column", column))),
    )

    assert finished.code == 0, finished.err
    assert "the first prompt, with temperature 0.0, max_tokens 100, stop ('[END]',), ignore_eos True:" in finished.out
    assert "system: You are Ann." in finished.out
    arrived = [json.loads(row["reasoning"]) for row in table(kotae.folder / "out.xlsx")]
    sampling = [one["sampling"] for one in arrived]
    assert [one["messages"][0]["content"] for one in arrived] == ["You are Ann.", "Be kind.", "You are <b>Bob</b>.\n", "Be kind."]
    assert [one["temperature"] for one in sampling] == [0, 0.9, 1.2, 0.25]
    assert [one["max_tokens"] for one in sampling] == [100, 2048, 64, 2048]
    assert [one["stop"] for one in sampling] == [["[END]"], ["halt"], ["x", "\n\n"], []]
    assert [one["ignore_eos"] for one in sampling] == [True, False, False, False]
    assert [one["seed"] for one in sampling[2:]] == [7, 9007199254740993]
    assert len({one["seed"] for one in sampling}) == 4
    told = dict(CalamineWorkbook.from_path(str(kotae.folder / "out.xlsx")).get_sheet_by_name("Run").to_python())
    assert told["system prompt column"] == " persona "
    assert told["sampling columns"] == "temperature=ＴＥＭＰ, max_tokens=tokens, seed=seed, stop=ends, ignore_eos=eos"


def test_a_row_that_names_an_adapter_gets_it_or_is_rejected(kotae: Kotae) -> None:
    """The model's adapters are known before anything is sent; the other rows are answered, and the engine lives."""
    make_workbook(kotae.folder / "q.xlsx", ["a", "b", "c"], lora=["", " tuned ", ""])

    finished = kotae("run", "q.xlsx", "-o", "out.xlsx", *ECHO, "--adapter-column", "lora")

    rows = table(kotae.folder / "out.xlsx")
    assert finished.code == 3
    assert "warning: echo has no adapter tuned (it has: none); rows that name it will be rejected" in finished.out
    assert [row["outcome"] for row in rows] == ["answered", "rejected", "answered"]
    assert "no adapter 'tuned' here" in rows[1]["error"]


def test_a_rows_adapter_takes_the_place_of_the_runs(tmp_path: Path) -> None:
    """An empty cell leaves it."""
    rows = [["question", "lora"], ["a", ""], ["b", "tuned"], ["c", 7]]

    questions = asked(plan(tmp_path, rows, adapter_column="lora"), adapter="base-lora")

    assert [question.adapter for question in questions] == ["base-lora", "tuned", "7"]


@given(
    st.builds(
        Sampling,
        temperature=st.floats(0.01, 2),
        top_p=st.floats(0.01, 1),
        top_k=st.integers(-1, 1000),
        min_p=st.floats(0, 1),
        max_tokens=st.integers(100, 10_000),
        min_tokens=st.integers(0, 100),
        seed=st.integers(0, 2**63 - 1),
        stop=st.lists(st.text(min_size=1, max_size=5).filter(str.strip), max_size=3).map(tuple),
        repetition_penalty=st.floats(0.1, 3),
        presence_penalty=st.floats(-2, 2),
        frequency_penalty=st.floats(-2, 2),
        ignore_eos=st.booleans(),
    )
)
def test_every_sampling_can_be_said_in_cells(sampling: Sampling) -> None:
    """Each field, as the text that a cell shows."""
    fields = sampling.model_dump(mode="json", exclude={"n", "enforce_format"})
    texts = {field: json.dumps(value) if isinstance(value, (list, bool)) else str(value) for field, value in fields.items()}

    assert Sampling().model_copy(update=own_sampling(Sampling(), texts)) == sampling


@given(
    st.sampled_from(SAMPLING_FIELDS), st.text(st.characters(exclude_categories=[]), max_size=12) | st.text('0123456789.-e[]"', max_size=8)
)
def test_any_text_is_a_value_or_refused(field: str, text: str) -> None:
    """What a person finds in a cell of somebody else's workbook is no reason to fall over."""
    with suppress(BadValue):
        Sampling.model_validate(Sampling().model_dump() | own_sampling(Sampling(), {field: text}))


# Templates.


def test_a_template_shows_cells_as_they_are_shown(tmp_path: Path) -> None:
    """Whole numbers without a point, dates as ISO 8601; headers as everywhere; a row that fills no hole is skipped."""
    day = datetime.datetime(2026, 11, 23)  # noqa: DTZ001  # Excel knows no zones
    rows = [["分野 ", "n", "day", "yes", "x"], ["a{b}", 3.0, day, True, ""], ["", "", "", "", "only here"], ["{n}", 0.5, "", "", ""]]

    made = plan(tmp_path, rows, prompt="{{{分野}}} {N}: {DAY}, {ｙｅｓ}.\n")

    assert [said(question)[1][1] for question in asked(made)] == ["{a{b}} 3: 2026-11-23, TRUE.\n", "", "{{n}} 0.5: , .\n"]
    assert [answer.row for answer in Questions(made.rows, manifest(rows=3)).skipped()] == [1]


def test_a_template_is_rendered_before_anything_is_sent(kotae: Kotae) -> None:
    """From a file, to the byte; what is shown is what is asked."""
    make_workbook(kotae.folder / "q.xlsx", ["Why?", "", "How?"], field=["Physics", "", ""])
    (kotae.folder / "prompt.txt").write_text("[{field}] {question}\nThink.\n", encoding="utf-8")

    finished = kotae("run", "q.xlsx", "-o", "out.xlsx", *TELL, KOTAE_PROMPT="@prompt.txt", KOTAE_SYSTEM_PROMPT_COLUMN="field")

    rows = table(kotae.folder / "out.xlsx")
    assert finished.code == 0, finished.err
    assert "  │ system: Physics\n  │ user: [Physics] Why?\n  │ user: Think.\n" in finished.out
    assert [row["outcome"] for row in rows] == ["answered", "skipped", "answered"]
    assert json.loads(rows[2]["reasoning"])["messages"][1]["content"] == "[] How?\nThink.\n"
    assert "[{field}] {question}\nThink.\n" in {row["value"] for row in table(kotae.folder / "out.xlsx", "Run")}


@pytest.mark.parametrize("hole", ["question.__class__", "question!r", "question:>10", "question[0]", "0", "__class__", "missing"])
def test_no_python_is_reachable_from_a_template(tmp_path: Path, hole: str) -> None:
    """What stands between braces is the name of a column, and nothing else; it is refused with the columns that there are."""
    with pytest.raises(UserError) as refused:
        plan(tmp_path, [["question", "field"], ["a", "b"]], prompt=f"{{question}} {{{hole}}}")

    assert str(refused.value) == f"--prompt: no column is called {hole!r}; the columns are: 'question', 'field'"


# Which run it is.

STEERED: list[list[Any]] = [["question", "system", "temp", "seed", "lora"], ["a", "S", 0.2, 1, "x"], ["b", "", "", "", ""]]
STEERING: dict[str, Any] = {
    "system_prompt_column": "system",
    "sampling_column": ["temperature=temp", "seed=seed"],
    "adapter_column": "lora",
}


def changed(place: int, cell: Any) -> list[list[Any]]:
    header, first, second = STEERED
    return [header, [*first[:place], cell, *first[place + 1 :]], second]


@pytest.mark.parametrize(("place", "cell"), [(0, "A"), (1, "s"), (1, ""), (2, 0.3), (2, ""), (3, 2), (3, ""), (4, "y"), (4, "")], ids=str)
def test_a_cell_that_steers_decides_which_run_it_is_and_only_its_own_row(tmp_path: Path, place: int, cell: Any) -> None:
    """Otherwise answers to different questions would be mixed, or all be paid for again."""
    run = manifest(rows=2)
    before, after = plan(tmp_path, STEERED, **STEERING), plan(tmp_path, changed(place, cell), **STEERING)
    keys = [[Questions(made.rows, run).key(row) for row in range(2)] for made in (before, after)]

    assert before.run_id("m", None) != after.run_id("m", None)
    assert keys[0][0] != keys[1][0]
    assert keys[0][1] == keys[1][1]


def test_columns_that_change_nothing_change_no_run(tmp_path: Path) -> None:
    """Empty cells, and cells that say what the run says anyway; a template that is the question alone."""
    rows = [["question", "system", "temp", "talk", "lora"], ["a", "Answer.", 0.5, "", "lora"], ["b", "", "", turns("b"), ""]]
    steering = {
        "prompt": "{question}",
        "system_prompt_column": "system",
        "sampling_column": ["temperature=temp"],
        "messages_column": "talk",
        "adapter_column": "lora",
    }

    assert plan(tmp_path, rows, **steering).run_id("m", "lora") == plan(tmp_path, rows).run_id("m", "lora")


def test_a_rows_own_seed_is_taken_as_it_stands_and_no_other_moves(tmp_path: Path) -> None:
    """Also by a cell that says 0, as the run does."""
    plain = asked(plan(tmp_path, [["question", "seed"], ["a", ""], ["a", ""], ["b", ""]]))
    own = asked(plan(tmp_path, [["question", "seed"], ["a", 0], ["a", ""], ["b", ""]], sampling_column=["seed"]))

    assert [question.sampling.seed for question in own] == [0, plain[0].sampling.seed, plain[2].sampling.seed]


def test_a_question_asked_at_several_temperatures_keeps_each_seed(tmp_path: Path) -> None:
    """Insert one more, and the others are the rows that they were."""
    few = asked(plan(tmp_path, [["question", "temp"], ["a", 0.1], ["a", 0.9]], sampling_column=["temperature=temp"]))
    more = asked(plan(tmp_path, [["question", "temp"], ["a", 0.5], ["a", 0.1], ["a", 0.9]], sampling_column=["temperature=temp"]))

    assert [question.sampling for question in few] == [question.sampling for question in more][1:]
    assert len({question.sampling.seed for question in more}) == 3


# Runs that go on.


def test_an_edited_cell_pays_for_its_own_row_alone(kotae: Kotae, generated: Generated) -> None:  # noqa: F811
    """Answers of the earlier run are taken where all that steers is the same."""
    columns = ("--sampling-column", "temperature=temp", "--system-prompt-column", "system")
    make_workbook(kotae.folder / "q.xlsx", ["a", "b", "c"], temp=[0.1, "", 0.3], system=["S", "T", ""])
    assert kotae("run", "q.xlsx", "-o", "out.xlsx", *columns).code == 0
    make_workbook(kotae.folder / "q.xlsx", ["a", "b", "c"], temp=[0.1, "", 0.4], system=["S", "T", ""])

    told = kotae.json("run", "q.xlsx", "-o", "out.xlsx", *columns)
    plain = kotae.json("run", "q.xlsx", "-o", "out.xlsx")

    assert told["reused"] == 2
    assert plain["reused"] == 0
    assert len(generated()) == 3 + 1 + 3


def test_whoever_goes_on_with_a_run_reads_the_same_columns(kotae: Kotae, start_worker: StartWorker, broker_url: str) -> None:
    """From the run's own copy: the process in the background, and `retry`, whose temperature and other seed win over the row's."""
    rows = range(40)
    talks = [turns("x", "y", f"question {row}") if row % 2 else "" for row in rows]
    make_workbook(kotae.folder / "q.xlsx", [f"q{row}" for row in rows], talk=talks, temp=[0.25] * 40, seed=[5] * 40)
    start_worker("--engine-arg", "tell=true")
    columns = ("--messages-column", "talk", "--sampling-column", "temperature=temp", "--sampling-column", "seed")
    malformed = ("--system-prompt", "", "--reply-format", "think")

    def arrived(out: str) -> list[dict[str, Any]]:
        return [json.loads(row["answer"].splitlines()[1]) for row in table(kotae.folder / out)]

    submitted = kotae(
        *("submit", "q.xlsx", "--detach", "--window", "8", "--broker", broker_url, "--prompt", "Q: {question}"), *columns, *malformed
    )
    (kotae.folder / "q.xlsx").unlink()
    collected = kotae("collect", "last", "-o", "out.xlsx", "--broker", broker_url)
    again = kotae("retry", "last", "-o", "again.xlsx", "--malformed", "--temperature", "0.75", "--broker", broker_url)

    assert (submitted.code, collected.code, again.code) == (0, 0, 0), submitted.err + collected.err + again.err
    told, retold = arrived("out.xlsx"), arrived("again.xlsx")
    asked = [["x", "y", f"question {row}"] if row % 2 else [f"Q: q{row}"] for row in rows]
    assert [[message["content"] for message in one["messages"]] for one in told] == asked
    assert [one["messages"] for one in retold] == [one["messages"] for one in told]
    assert {(one["sampling"]["temperature"], one["sampling"]["seed"]) for one in told} == {(0.25, 5)}
    assert {one["sampling"]["temperature"] for one in retold} == {0.75}
    assert 5 not in {one["sampling"]["seed"] for one in retold}


def test_formats_are_held_to_only_where_they_can_be(tmp_path: Path) -> None:
    """The run's rule for --max-tokens is every row's."""
    rows = [["question", "x"], ["a", 64], ["b", ""]]

    questions = asked(plan(tmp_path, rows, sampling_column=["max_tokens=x"], enforce_format=True))

    assert [(q.sampling.max_tokens, q.sampling.enforce_format) for q in questions] == [
        (64, ReplyFormat.REASONING_ANSWER),
        (2048, ReplyFormat.REASONING_ANSWER),
    ]


def test_a_total_row_is_no_conversation_for_whoever_reads_the_run_again(tmp_path: Path) -> None:
    """The table may hold the column that steers, and not the one with the questions."""
    path = tmp_path / "q.xlsx"
    with xlsxwriter.Workbook(str(path)) as workbook:
        sheet = workbook.add_worksheet()
        sheet.add_table(
            "A1:B4",
            {
                "data": [[turns("hi"), 1], [turns("ho"), 2]],
                "total_row": True,
                "columns": [{"header": "msgs", "total_string": "Sum"}, {"header": "n", "total_function": "sum"}],
            },
        )
        sheet.write_column("E1", ["question", "one", "two", "three"])
    made = make_plan(path, AskOptions(messages_column="msgs"))

    with open_run(made, tmp_path / "home", "echo", None, None) as store:
        again = [said(questions_in(store).of(row))[-1][1] for row in range(3)]

    assert again == ["hi", "ho", ""]


def test_overwriting_keeps_what_was_asked(kotae: Kotae) -> None:
    """A column of our name that steers holds the only copy of its texts."""
    make_workbook(kotae.folder / "q.xlsx", ["one"], answer=["Tell: "])
    finished = kotae("run", "q.xlsx", "-o", "out.xlsx", "--overwrite", "--prompt", "{answer}{question}", *ECHO)

    (row,) = table(kotae.folder / "out.xlsx")
    assert finished.code == 0, finished.err
    assert (row["answer"], row["answer (echo)"]) == ("Tell: ", "Tell: one")


def test_a_template_minds_only_the_columns_that_it_names(tmp_path: Path) -> None:
    """Two columns called question are one too many for those who ask them; and a mark at a file's start is no text."""
    (tmp_path / "prompt.txt").write_text("{title}!", encoding="utf-8-sig")

    made = plan(tmp_path, [["title", "question", "question"], ["T", "a", "b"]], prompt=f"@{tmp_path / 'prompt.txt'}")

    assert said(asked(made)[0])[-1] == ("user", "T!")
