"""Rows of several sources are put side by side only where they are the same question."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from producer.analysis.joining import Joined, join
from producer.analysis.sources import open_source
from workers.contract.errors import UserError
from workers.contract.messages import Outcome

from .workbooks import answered, begin_run, save_workbook, tagged

HEADERS = ["NO", "question", "output"]


def joined(home: Path, *names: str, column: str | None = None) -> list[Joined]:
    with ExitStack() as stack:
        return list(join([stack.enter_context(open_source(name, home)) for name in names], column))


def table(path: Path, *rows: list[object]) -> Path:
    return save_workbook(path, {"s": [HEADERS, *rows]})


def test_a_run_stands_beside_a_column_of_its_workbook_row_by_row(tmp_path: Path) -> None:
    path = table(tmp_path / "q.xlsx", [1, "一?", "old one"], [2, "", ""], [3, "三?", ""])
    with begin_run(tmp_path / "home", path) as store:
        store.store([answered(2, tagged("new three"), run_id=store.manifest.run_id)])

    rows = joined(tmp_path / "home", "last", f"{path}:output")

    assert [row.question for row in rows] == ["一?", "", "三?"]
    assert [[side and [reply.answer for reply in side.replies] for side in row.sides] for row in rows] == [
        [[], ["old one"]],
        [[], []],
        [["new three"], []],
    ]
    assert [row.cells for row in rows][2] == [3, "三?", ""]


def test_rows_that_ask_something_else_are_named(tmp_path: Path) -> None:
    """Never by position alone: an inserted row would set every answer beside another question's."""
    one = table(tmp_path / "a.xlsx", [1, "one", "x"], [2, "two", "x"], [3, "three", "x"])
    other = table(tmp_path / "b.xlsx", [1, "one", "y"], [3, "three", "y"], [2, "two", "y"])

    with pytest.raises(UserError, match=r"2 rows: rows 3, 4 of the first; .*--join COLUMN"):
        joined(tmp_path, f"{one}:output", f"{other}:output")


def test_sources_of_different_length_are_not_joined_by_row(tmp_path: Path) -> None:
    one = table(tmp_path / "a.xlsx", [1, "one", "x"], [2, "two", "x"])
    other = table(tmp_path / "b.xlsx", [1, "one", "y"])

    with pytest.raises(UserError, match=r"has 2 rows and .* 1; the questions differ from row 3 on"):
        joined(tmp_path, f"{one}:output", f"{other}:output")


def test_a_column_joins_rows_wherever_they_stand(tmp_path: Path) -> None:
    """Numbers that one program keeps as text are the same keys; what only one side has is there, and missing in the other."""
    one = table(tmp_path / "a.xlsx", [1, "one", "x1"], [2, "two\r\n", "x2"], [3, "three", "x3"])
    other = save_workbook(
        tmp_path / "b.xlsx",
        {"s": [["question", "No", "output"], ["three", "3", "y3"], ["five", "5", "y5"], ["one", "1", "y1"], ["two\n", 2.0, ""]]},
    )

    rows = joined(tmp_path, f"{one}:output", f"{other}:output", column="NO")

    assert [(row.key, [side and [reply.answer for reply in side.replies] for side in row.sides]) for row in rows] == [
        ("1", [["x1"], ["y1"]]),
        ("2", [["x2"], []]),
        ("3", [["x3"], ["y3"]]),
        ("5", [None, ["y5"]]),
    ]
    assert rows[3].cells == ["5", "five", "y5"]
    assert rows[0].sides[1] is not None
    assert rows[0].sides[1].row == 2
    assert rows[0].sides[1].replies[0].outcome is Outcome.ANSWERED


def test_keys_that_stand_twice_are_named_with_their_rows(tmp_path: Path) -> None:
    one = table(tmp_path / "a.xlsx", [1, "one", "x"], [2, "two", "x"])
    other = table(tmp_path / "b.xlsx", [1, "one", "y"], [2, "two", "y"], [1, "one again", "y"])

    with pytest.raises(UserError, match=r"1 value of column 'NO' stands in several rows of .*b.xlsx:output: '1' in rows 2, 4"):
        joined(tmp_path, f"{one}:output", f"{other}:output", column="NO")


def test_questions_without_a_key_are_named(tmp_path: Path) -> None:
    one = table(tmp_path / "a.xlsx", [1, "one", "x"], ["", "two", "x"])

    with pytest.raises(UserError, match=r"1 question of .* has nothing in column 'NO': row 3"):
        joined(tmp_path, f"{one}:output", f"{one}:output", column="NO")


def test_one_key_with_two_questions_is_refused(tmp_path: Path) -> None:
    one = table(tmp_path / "a.xlsx", [1, "one", "x"], [2, "two", "x"])
    other = table(tmp_path / "b.xlsx", [2, "zwei", "y"], [1, "one", "y"])

    with pytest.raises(UserError, match=r"'2' \(row 3 of .*a.xlsx:output, row 2 of .*b.xlsx:output\)"):
        joined(tmp_path, f"{one}:output", f"{other}:output", column="NO")


def test_a_join_column_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    one = table(tmp_path / "a.xlsx", [1, "one", "x"])

    with pytest.raises(UserError, match="no column 'id'; its columns are: 'NO', 'question', 'output'"):
        joined(tmp_path, f"{one}:output", f"{one}:output", column="id")


def test_a_question_that_was_cut_for_a_cell_is_still_the_same(tmp_path: Path) -> None:
    """A run of a .csv and the workbook with its answers."""
    long = "長" * 40_000
    path = tmp_path / "q.csv"
    path.write_text(f"NO,question,output\n1,{long},a\n", encoding="utf-8")
    cut = table(tmp_path / "b.xlsx", [1, long[:32_700] + "another", "b"])

    assert len(joined(tmp_path, f"{path}:output", f"{path}:output")) == 1
    with pytest.raises(UserError, match="same questions in 1 row"):
        joined(tmp_path, f"{path}:output", f"{cut}:output")
