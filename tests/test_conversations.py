"""Conversations in a column: they take the place of the question, and anything else in a cell is refused."""

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from python_calamine import CalamineWorkbook

from producer.conversation import read_conversation
from producer.options import AskOptions
from producer.prepare import make_plan
from producer.questions import Questions
from tests.conftest import Kotae
from tests.test_run import ECHO, table
from tests.test_steering import asked, plan, said, turns
from tests.workbooks import manifest, save_workbook


def json_of(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Values that are nearly messages."""
    keys = st.sampled_from(["role", "content", "name"])
    return st.lists(children, max_size=2) | st.dictionaries(keys, st.sampled_from(["user", "assistant", "x"]) | children, max_size=3)


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
