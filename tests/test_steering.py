"""Columns that steer a row: what its cells say arrives at the engine, what they leave is the run's, and a bad cell stops all."""

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

from producer.conversation import read_conversation
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


def json_of(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Values that are nearly messages."""
    keys = st.sampled_from(["role", "content", "name"])
    return st.lists(children, max_size=2) | st.dictionaries(keys, st.sampled_from(["user", "assistant", "x"]) | children, max_size=3)


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


# Conversations.


@given(
    st.text(st.characters(exclude_categories=[]), max_size=12)
    | st.recursive(st.none() | st.text("ab", max_size=2), json_of).map(json.dumps)
)
def test_any_text_is_a_conversation_or_refused(text: str) -> None:
    """With one line that says why."""
    try:
        says = read_conversation(text)[-1].role
    except ValueError as error:
        says = str(error)

    assert says == "user" or "\n" not in says


def test_a_conversation_takes_the_place_of_the_question(tmp_path: Path) -> None:
    """The system prompt stands before it only if it has none; a row without one asks its question; nothing at all is skipped."""
    rows = [
        ["question", "talk"],
        ["unused", turns("Hi", "Hello", "How are you?")],
        ["unused", turns("Hi", system="Be brief.")],
        ["Why?", ""],
        ["", " "],
        ["unused", turns("")],
    ]

    made = plan(tmp_path, rows, messages_column="TALK")

    assert list(map(said, asked(made)))[:3] == [
        [("system", "Answer."), ("user", "Hi"), ("assistant", "Hello"), ("user", "How are you?")],
        [("system", "Be brief."), ("user", "Hi")],
        [("system", "Answer."), ("user", "Why?")],
    ]
    run = manifest(rows=5)
    assert [answer.row for answer in Questions(made.rows, run).skipped()] == [3, 4]


def test_conversations_need_no_column_of_questions(tmp_path: Path) -> None:
    """JSON Lines as they are made for other programs: the list itself, not a text of it."""
    path = tmp_path / "q.jsonl"
    lines = [{"id": 1, "messages": json.loads(turns("長い 🙂", "so?", "そう"))}, {"id": 2, "messages": None}]
    path.write_text("\n".join(json.dumps(line) for line in lines))

    made = make_plan(path, AskOptions(messages_column="messages", system_prompt=""))

    assert said(asked(made)[0]) == [("user", "長い 🙂"), ("assistant", "so?"), ("user", "そう")]
    assert [answer.row for answer in Questions(made.rows, manifest(rows=2)).skipped()] == [1]


def test_a_sheet_found_by_its_conversations_keeps_its_column_of_questions(kotae: Kotae) -> None:
    """Below a title, on one of two sheets; rows without a conversation ask their question, also for whoever goes on."""
    conversations = [["Talks of May"], ["question", "talk"], ["a", turns("b")], ["c", ""]]
    save_workbook(kotae.folder / "q.xlsx", {"Notes": [["question"], ["no"]], "Talks": conversations})

    finished = kotae("run", "q.xlsx", "-o", "out.xlsx", *ECHO, "--messages-column", "talk")

    told = dict(CalamineWorkbook.from_path(str(kotae.folder / "out.xlsx")).get_sheet_by_name("Run").to_python())
    assert finished.code == 0, finished.err
    assert [row["answer"] for row in table(kotae.folder / "out.xlsx", "Talks")] == ["b", "c"]
    assert (told["sheet"], told["question column"], told["messages column"]) == ("Talks", "question", "talk")


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


# Mistakes.


def test_a_bad_cell_stops_all_in_one_line_and_nothing_is_written(kotae: Kotae) -> None:
    """The row as a spreadsheet program numbers it, below a title; also behind --limit."""
    save_workbook(
        kotae.folder / "q.xlsx",
        {
            "S": [
                ["Questions of May"],
                ["question", "temp"],
                ["a", 0.5],
                ["b", ""],
                ["c", "hot\nor cold"],
                ["d", 3],
                ["", "ignored"],
                ["e", "x"],
            ]
        },
    )

    finished = kotae("run", "q.xlsx", "-o", "out.xlsx", *ECHO, "--limit", "1", "--sampling-column", "temperature=temp")

    assert finished.code == 2
    assert finished.err == (
        "kotae: sheet 'S', row 5, column 'temp': 'hot or cold' must be a valid number, unable to parse string as a number;"
        " 2 more rows are bad\n"
    )
    assert [path.name for path in kotae.folder.iterdir()] == ["q.xlsx"]


BAD: list[tuple[dict[str, Any], Any, str]] = [
    ({"sampling_column": ["max_tokens=x"]}, 0, "'0' must be greater than or equal to 1"),
    ({"sampling_column": ["max_tokens=x"]}, 12.5, "'12.5' must be a valid integer"),
    ({"sampling_column": ["max_tokens=x"]}, True, "'TRUE' must be a valid integer"),
    ({"sampling_column": ["temperature=x"]}, datetime.date(2026, 1, 2), "'2026-01-02' must be a valid number"),
    ({"sampling_column": ["temperature=x"]}, "nan", "'nan' must be a finite number"),
    ({"sampling_column": ["seed=x"]}, -1, "'-1' must be greater than or equal to 0"),
    ({"sampling_column": ["ignore_eos=x"]}, "maybe", "'maybe' must be a valid boolean"),
    ({"sampling_column": ["stop=x"]}, '["a"', "is no JSON list of texts"),
    ({"sampling_column": ["min_tokens=x"], "max_tokens": 10}, 20, "'20' min_tokens 20 is more than max_tokens 10"),
    ({"sampling_column": ["temperature=x"], "samples": 2}, 0, "'0' 2 samples at temperature 0 would be"),
    ({"sampling_column": ["max_tokens=x"], "enforce_format": True}, 63, "'63' must be at least 64, so that the tags of --enforce-format"),
    ({"sampling_column": ["stop=x"], "enforce_format": True}, ".", "'.' would end replies before the tags of --enforce-format"),
    ({"sampling_column": ["ignore_eos=x"], "enforce_format": True}, True, "'TRUE' would let replies go on behind the tags"),
    ({"messages_column": "x"}, "[{", "is no list of messages: Invalid JSON"),
    ({"messages_column": "x"}, "[" * 10_000, "is no list of messages: Invalid JSON"),
    ({"messages_column": "x"}, "Why?", "is no list of messages: Invalid JSON"),
    ({"messages_column": "x"}, '{"role": "user", "content": "a"}', "is no list of messages: it must be a list"),
    ({"messages_column": "x"}, "[]", "holds no message"),
    ({"messages_column": "x"}, '["a"]', "message 1 must be an object"),
    ({"messages_column": "x"}, '[{"role": "robot", "content": "a"}]', "'role' of message 1 must be 'system', 'user' or 'assistant'"),
    ({"messages_column": "x"}, '[{"role": "user"}]', "'content' of message 1 is missing"),
    ({"messages_column": "x"}, '[{"role": "user", "content": [{"type": "text"}]}]', "'content' of message 1 must be a text"),
    ({"messages_column": "x"}, '[{"role": "user", "content": "a", "name": "b"}]', "'name' of message 1 is not known"),
    ({"messages_column": "x"}, turns("a", "b"), "ends with a message of the assistant"),
    ({"messages_column": "x"}, '[{"role": "user", "content": "\\ud800"}]', "is no list of messages: Invalid JSON"),
]


@pytest.mark.parametrize(("options", "cell", "says"), BAD, ids=[f"{next(iter(o.values()))} {c!s:.20}" for o, c, _ in BAD])
def test_what_a_cell_cannot_mean_is_said(tmp_path: Path, options: dict[str, Any], cell: Any, says: str) -> None:
    """Before anything is sent, not by the worker, thousands of rows later."""
    with pytest.raises(UserError) as refused:
        plan(tmp_path, [["question", "x"], ["a", ""], ["b", cell]], **options)

    assert str(refused.value).startswith("sheet 'S', row 3, column 'x': ")
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_error_is_not_an_empty_cell(tmp_path: Path) -> None:
    """#N/A in a column of adapters would silently ask the model without one; a question made of an error is none."""
    import xlsxwriter

    with xlsxwriter.Workbook(str(tmp_path / "q.xlsx")) as workbook:
        sheet = workbook.add_worksheet("S")
        sheet.write_column(0, 0, ["question", "a"])
        sheet.write(0, 1, "lora")
        sheet.write_formula(1, 1, "=NA()", None, "#N/A")

    with pytest.raises(UserError, match="row 2, column 'lora': '#N/A' is an error"):
        make_plan(tmp_path / "q.xlsx", AskOptions(adapter_column="lora"))
    templated = make_plan(tmp_path / "q.xlsx", AskOptions(prompt="{question} {lora}"))
    assert len(list(Questions(templated.rows, manifest(rows=1)).skipped())) == 1


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"system_prompt_column": "Nope"}, "--system-prompt-column: no column is called 'Nope'; the columns are: 'question', 'x', 'X'"),
    ({"adapter_column": ""}, "--adapter-column: no column is called ''"),
    ({"messages_column": "Nope"}, "no column 'Nope'; its columns are: 'question', ' ', 'x', 'X'"),
    ({"adapter_column": "ｘ"}, "--adapter-column: 2 columns are called 'x'; rename all but one"),
    ({"sampling_column": ["temperature=Nope"]}, "--sampling-column temperature: no column is called 'Nope'"),
    ({"sampling_column": ["warmth=question"]}, "the fields are: temperature, top_p,"),
    ({"sampling_column": ["=question"]}, "write FIELD=COLUMN"),
    ({"sampling_column": ["n=question"]}, "n is the run's, not a row's"),
    ({"sampling_column": ["enforce-format=question"]}, "enforce_format is the run's, not a row's"),
    ({"sampling_column": ["seed=question", "seed=x"]}, "seed has the column 'question' already"),
    ({"prompt": "@nowhere"}, "--prompt @nowhere: the file cannot be read"),
    ({"prompt": "{question"}, "--prompt: the { at character 1 is alone"),
]


@pytest.mark.parametrize(("options", "says"), WRONG, ids=[str(options) for options, _ in WRONG])
def test_a_column_or_a_field_that_is_not_there_is_said(tmp_path: Path, options: dict[str, Any], says: str) -> None:
    """With those that there are."""
    with pytest.raises(UserError) as refused:
        plan(tmp_path, [["question", " ", "x", "X"], ["a", "b", "", ""]], **options)

    assert says in str(refused.value)


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
