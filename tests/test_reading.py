"""How a workbook is read. People's files are never tidy, and whoever gave a wrong file should learn it in one line."""

import datetime
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msoffcrypto.format.ooxml
import openpyxl
import pytest
import xlsxwriter

from producer.workbook.columns import find_question_column, normalised
from producer.workbook.reading import as_text, read_sheet
from tests.workbooks import save_workbook
from workers.contract.errors import WorkbookError

QUESTIONS = [["question"], ["What is it?"]]

CELLS = [
    "text",
    "007",
    "１２",
    3,
    -3,
    2.5,
    1e300,
    True,
    False,
    datetime.datetime(2026, 1, 2, 3, 4, 5),  # noqa: DTZ001 - cells have no time zone
    datetime.date(2026, 1, 2),
    datetime.time(3, 4, 5),
    datetime.timedelta(hours=30),
]


@pytest.mark.parametrize("cell", CELLS, ids=repr)
def test_a_cell_keeps_its_type(tmp_path: Path, cell: Any) -> None:
    """The output repeats the source's columns; "007" must not come back as 7, nor a date as a number of days."""
    path = save_workbook(tmp_path / "in.xlsx", {"S": [["question", "extra"], ["q", cell]]})

    read = next(read_sheet(path).rows())[1]

    assert (read, type(read)) == (cell, type(cell))


def test_a_whole_number_is_read_without_its_point(tmp_path: Path) -> None:
    """Excel stores every number as a float; a question of 42 must not be asked as 42.0."""
    path = save_workbook(tmp_path / "in.xlsx", {"S": [["question"], [42.0], [-1], [2.5], [2.0**60]]})

    assert read_sheet(path).questions() == ["42", "-1", "2.5", "1.152921504606847e+18"]


def test_a_question_reads_as_a_person_sees_it() -> None:
    """A model should be asked what stands in the cell on the screen, not Python's spelling of it."""
    cells: list[Any] = [
        True,
        False,
        7,
        datetime.date(2026, 1, 2),
        datetime.datetime(2026, 1, 2, 3, 4),  # noqa: DTZ001
        datetime.time(3, 4),
        "  as it is ",
    ]

    assert [as_text(cell) for cell in cells] == ["TRUE", "FALSE", "7", "2026-01-02", "2026-01-02 03:04:00", "03:04:00", "  as it is "]


def test_a_formula_reads_as_its_last_value_and_an_error_as_nothing(tmp_path: Path) -> None:
    """Sheets of questions are often built with formulas; #N/A is no question to send."""
    path = tmp_path / "in.xlsx"
    with xlsxwriter.Workbook(str(path)) as workbook:
        sheet = workbook.add_worksheet()
        sheet.write_column(0, 0, ["question", "plain"])
        sheet.write_formula("A3", '="What is "&"it?"', None, "What is it?")
        sheet.write_formula("A4", "=NA()", None, "#N/A")
        sheet.write_column(4, 0, ["last"])

    assert read_sheet(path).questions() == ["plain", "What is it?", "", "last"]


def test_a_workbook_saved_by_openpyxl_reads_the_same(tmp_path: Path) -> None:
    """Workbooks come from scripts as often as from Excel, and scripts store their strings in another way."""
    rows: list[list[Any]] = [["NO", "question", "flag"], [1, "一つ目\n二行目 😀", True], [2, "=1+1 & <b>", False]]
    path = tmp_path / "in.xlsx"
    workbook = openpyxl.Workbook()
    for r, row in enumerate(rows, start=1):
        for c, value in enumerate(row, start=1):
            cell = workbook.worksheets[0].cell(r, c, value)
            cell.data_type = "s" if isinstance(value, str) else cell.data_type
    workbook.save(path)

    sheet = read_sheet(path)

    assert [sheet.headers, *sheet.rows()] == rows


SPELLINGS = [
    "Question",
    " QUESTION ",
    "ｑｕｅｓｔｉｏｎ",
    "Ｐｒｏｍｐｔ",
    "質問",
    "　質問　",
    "設問",
    "質問文\n",
    "質　問",
    "\ufeff質 問 内 容",
]


@pytest.mark.parametrize("header", SPELLINGS)
def test_the_question_column_is_found_by_its_header(tmp_path: Path, header: str) -> None:
    """Nobody should have to name a column that is plainly called "question", in whatever width, case or language."""
    path = save_workbook(tmp_path / "in.xlsx", {"S": [["NO", header, "answer"], [1, "What is it?", "?"]]})

    sheet = read_sheet(path)

    assert sheet.questions() == ["What is it?"]
    assert sheet.headers == ["NO", header, "answer"]


def test_the_likeliest_of_several_question_headers_wins(tmp_path: Path) -> None:
    """A sheet with both a question and an instruction asks its questions, whichever column comes first."""
    path = save_workbook(tmp_path / "in.xlsx", {"S": [["instruction", "質問", "question"], ["a", "b", "c"]]})

    assert read_sheet(path).questions() == ["c"]


@pytest.mark.parametrize("wanted", ["syslang", " SYSLANG", "ｓｙｓｌａｎｇ"])
def test_a_named_column_is_taken_instead(tmp_path: Path, wanted: str) -> None:
    """--question-column is compared as loosely as our own names are."""
    path = save_workbook(tmp_path / "in.xlsx", {"S": [["question", "SysLang"], ["a", "b"]]})

    assert read_sheet(path, question_column=wanted).questions() == ["b"]


def test_headers_are_compared_without_width_case_and_white_space() -> None:
    """One rule for every comparison of headers; two rules would disagree one day."""
    spellings = ["Long Question", "ＬＯＮＧ　ＱＵＥＳＴＩＯＮ", " long \n question\t"]

    assert {normalised(spelling) for spelling in spellings} == {"long question"}
    assert normalised("回 答（Ａ案）\u200b") == normalised("回答(A案)")


@pytest.mark.parametrize("twins", [["question", "question"], ["question", "Ｑuestion "]])
def test_a_question_header_that_stands_twice_is_refused(tmp_path: Path, twins: list[str]) -> None:
    """Asking the wrong one of two columns would waste a night of GPUs."""
    path = save_workbook(tmp_path / "in.xlsx", {"S": [twins, ["a", "b"]]})

    with pytest.raises(WorkbookError, match=r"2 columns are called 'question'; rename"):
        read_sheet(path)


def test_of_two_headers_that_differ_little_the_one_written_out_is_taken(tmp_path: Path) -> None:
    """Both are there, and nobody can rename the columns of somebody else's export."""
    path = save_workbook(tmp_path / "in.xlsx", {"S": [["Question", "question"], ["a", "b"]]})

    assert [read_sheet(path, question_column=name).questions() for name in ("Question", "question")] == [["a"], ["b"]]


def test_other_headers_may_stand_twice_or_be_missing(tmp_path: Path) -> None:
    """Real files have two columns "memo" and a stray note at the side; none of that is our business."""
    rows = [["memo", "question", "memo", ""], ["a", "b", "c", "d"]]
    path = save_workbook(tmp_path / "in.xlsx", {"S": rows})

    sheet = read_sheet(path)

    assert [sheet.headers, *sheet.rows()] == rows


def test_no_header_that_means_question_is_no_error_by_itself() -> None:
    """Another sheet may have one; only who asked for the sheet can say that it is a mistake."""
    assert find_question_column(["NO", "answer"]) is None
    assert find_question_column(["NO", "answer"], "text") is None


def test_blank_rows_keep_their_place_and_number(tmp_path: Path) -> None:
    """A row is known by its number alone: if blank rows closed up, every answer below would move."""
    path = save_workbook(tmp_path / "in.xlsx", {"S": [["question", "n"], ["a", 1], ["", ""], ["", 3], ["   ", ""], ["e", 5]]})

    sheet = read_sheet(path)

    assert sheet.questions() == ["a", "", "", "   ", "e"]
    assert list(sheet.rows())[1] == ["", ""]


def test_empty_rows_at_the_end_are_left_out(tmp_path: Path) -> None:
    """Formatting and filled-down formulas far below the data must not become thousands of skipped rows."""
    path = tmp_path / "in.xlsx"
    with xlsxwriter.Workbook(str(path)) as workbook:
        sheet = workbook.add_worksheet()
        sheet.write_column(0, 0, ["question", "a"])
        sheet.write_formula("A100", '=IF(B100="","",B100)', None, "")
        sheet.write_formula("A101", "=VLOOKUP(B101,Z:Z,1)", None, "#N/A")
        sheet.write_blank(5000, 40, None, workbook.add_format({"bold": True}))

    read = read_sheet(path)

    assert (read.headers, list(read.rows())) == (["question"], [["a"]])


def test_a_table_that_begins_in_another_column_is_read(tmp_path: Path) -> None:
    """Some people leave column A free; the output has to leave it free too."""
    path = save_workbook(tmp_path / "in.xlsx", {"S": [["", "question"], ["", "a"]]})

    sheet = read_sheet(path)

    assert (sheet.headers, list(sheet.rows()), sheet.question_column) == (["", "question"], [["", "a"]], 1)


def test_the_only_sheet_with_questions_is_chosen(tmp_path: Path) -> None:
    """A cover sheet in front, notes behind: the sheet with a question column is meant."""
    path = save_workbook(tmp_path / "in.xlsx", {"Cover": [["Survey 2026"]], "Data": QUESTIONS, "Empty": [], "Notes": [["who", "what"]]})

    assert read_sheet(path).name == "Data"


def test_two_sheets_with_questions_are_listed(tmp_path: Path) -> None:
    """We cannot know which one is meant, but we can say how to tell us."""
    path = save_workbook(tmp_path / "in.xlsx", {"May": QUESTIONS, "Notes": [["x"]], "June": QUESTIONS})

    with pytest.raises(WorkbookError, match=r"on 2 sheets; choose one with --sheet: 'May', 'June'"):
        read_sheet(path)


def test_a_named_sheet_is_read(tmp_path: Path) -> None:
    """--sheet settles the matter."""
    path = save_workbook(tmp_path / "in.xlsx", {"May": QUESTIONS, "六月": [["question"], ["六月の質問"]]})

    sheet = read_sheet(path, "六月")

    assert (sheet.name, sheet.questions()) == ("六月", ["六月の質問"])


def test_a_hidden_sheet_is_ignored_unless_it_is_named(tmp_path: Path) -> None:
    """What a person cannot see is not what they mean, unless they say so."""
    path = save_workbook(tmp_path / "in.xlsx", {"Old": [["question"], ["old"]], "New": QUESTIONS}, hidden=["Old"])

    assert read_sheet(path).name == "New"
    assert read_sheet(path, "Old").questions() == ["old"]


def test_the_name_of_a_file_need_not_say_what_it_is(tmp_path: Path) -> None:
    """Downloads lose their endings; the content decides."""
    path = save_workbook(tmp_path / "download", {"S": QUESTIONS})

    assert read_sheet(path).questions() == ["What is it?"]


def encrypt(path: Path) -> None:
    plain = save_workbook(path.with_name("plain.xlsx"), {"S": QUESTIONS})
    with plain.open("rb") as source, path.open("wb") as target:
        msoffcrypto.format.ooxml.OOXMLFile(source).encrypt("secret", target)


def truncate(path: Path) -> None:
    save_workbook(path, {"S": QUESTIONS})
    path.write_bytes(path.read_bytes()[:-200])


def only_charts(path: Path) -> None:
    with xlsxwriter.Workbook(str(path)) as workbook:
        workbook.add_chartsheet().set_chart(chart := workbook.add_chart({"type": "line"}))
        chart.add_series({"values": "={1,2}"})


MISTAKES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a missing file": (lambda _: None, "there is no file"),
    "a folder": (Path.mkdir, "is a folder"),
    "a pipe": (os.mkfifo, "is no file but a device or a pipe"),
    "a text": (lambda path: path.write_text("Dear all,\nhow are you?\n"), "no question column; its columns are: 'Dear all'"),
    "a PDF": (lambda path: path.write_bytes(b"%PDF-1.7\n"), "a PDF"),
    "an old Excel file": (
        lambda path: path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)),
        "an old Office file without a sheet, or a damaged one",
    ),
    "an empty file": (Path.touch, "an empty file"),
    "a truncated workbook": (truncate, "a damaged workbook"),
    "an encrypted workbook": (encrypt, "protected with a password; save a copy without one"),
    "no question column": (lambda path: save_workbook(path, {"S": [["NO", "text"], [1, "a"]]}), "'NO', 'text'; name the one"),
    "conversations": (
        lambda path: path.write_text('{"Messages": [{"role": "user", "content": "a"}]}\n'),
        "the one with conversations with --messages-column 'Messages'",
    ),
    "no question column on several sheets": (
        lambda path: save_workbook(path, {"Cover": [["Title"]], "Blank": [], "S": [["NO", "text"], [1, "a"]]}),
        "has a question column: 'Cover' has 'Title'; 'S' has 'NO', 'text'; choose one with --sheet",
    ),
    "an empty sheet": (lambda path: save_workbook(path, {"S": []}), "no visible sheet with anything in it"),
    "only hidden questions": (
        lambda path: save_workbook(path, {"S": QUESTIONS, "T": []}, hidden=["S"]),
        "no visible sheet with anything in it",
    ),
    "only charts": (only_charts, "no visible sheet with anything in it"),
    "a header and nothing else": (lambda path: save_workbook(path, {"S": [["NO", "question"]]}), "a header and no rows below it"),
}


@pytest.mark.parametrize(("make", "helpful"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_gets_one_line_that_helps(tmp_path: Path, make: Callable[[Path], Any], helpful: str) -> None:
    """Whoever mistyped a name at the end of the day should not have to read a traceback."""
    path = tmp_path / "in.xlsx"
    make(path)

    with pytest.raises(WorkbookError) as raised:
        read_sheet(path)

    message = str(raised.value)
    assert helpful in message
    assert str(path) in message
    assert len(message.splitlines()) == 1


NAMED_MISTAKES: dict[str, tuple[str | None, str | None, str]] = {
    "an unknown sheet": ("July", None, "has no sheet 'July'; it has: 'May', 'Blank'"),
    "an unknown column": (None, "text", "has no column 'text'; its columns are: 'question', 'two lines'"),
    "an empty named sheet": ("Blank", None, "sheet 'Blank' of"),
}


@pytest.mark.parametrize(("sheet", "column", "helpful"), NAMED_MISTAKES.values(), ids=NAMED_MISTAKES)
def test_a_mistyped_name_is_answered_with_the_names_there_are(tmp_path: Path, sheet: str | None, column: str | None, helpful: str) -> None:
    """The right name is in the file; showing it saves opening Excel."""
    path = save_workbook(tmp_path / "in.xlsx", {"May": [["question", "two\nlines"], ["a", "b"]], "Blank": []})

    with pytest.raises(WorkbookError) as raised:
        read_sheet(path, sheet, column)

    assert helpful.replace("two lines", r"two\nlines") in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1
