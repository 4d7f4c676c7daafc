"""Cells and columns that steer a row and cannot be meant: one line, and nothing is sent or written."""

import datetime
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter

from producer.options import AskOptions
from producer.prepare import make_plan
from producer.questions import Questions
from tests.conftest import Kotae
from tests.test_run import ECHO
from tests.test_steering import plan, turns
from tests.workbooks import manifest, save_workbook
from workers.contract.errors import UserError


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
