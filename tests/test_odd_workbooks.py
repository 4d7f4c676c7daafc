"""Workbooks that other programs and people make: read as they were meant, or refused in one line."""

import datetime
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import xlsxwriter

from producer.workbook.cells import CellError
from producer.workbook.reading import read_sheet
from tests.crafted import QUESTIONS, ods_cell, ods_row, patched, save_ods, text_cell, with_sheet
from tests.workbooks import save_workbook
from workers.contract.errors import WorkbookError


def test_an_error_stays_in_its_cell_and_is_no_question(tmp_path: Path) -> None:
    """#N/A in a column beside the questions is part of the source; as a question there is nothing to ask."""
    path = tmp_path / "in.xlsx"
    with xlsxwriter.Workbook(str(path)) as workbook:
        sheet = workbook.add_worksheet()
        sheet.write_row(0, 0, ["question", "looked up"])
        for row, (question, error) in enumerate([("a", "#N/A"), ("b", "#DIV/0!"), ("c", "#REF!"), ("", "#NAME?")], start=1):
            sheet.write_string(row, 0, question)
            sheet.write_formula(row, 1, "=1", None, error)
        sheet.write_formula("A6", "=NA()", None, "#N/A")
        sheet.write_row(6, 0, ["last", 1])

    read = read_sheet(path)

    assert read.questions() == ["a", "b", "c", "", "", "last"]
    assert [row[1] for row in read.rows()] == ["#N/A", "#DIV/0!", "#REF!", "#NAME?", "", 1]
    assert isinstance(list(read.rows())[4][0], CellError)


@pytest.mark.parametrize("epoch_1904", [False, True])
def test_dates_and_long_times_are_the_same_in_both_epochs(tmp_path: Path, epoch_1904: bool) -> None:
    """Workbooks from old Macs count days from 1904; shifts run past midnight."""
    cells: list[Any] = [
        datetime.date(2026, 1, 2),
        datetime.datetime(2026, 1, 2, 3, 4, 5),  # noqa: DTZ001 - cells have no time zone
        datetime.time(23, 59, 59),
        datetime.timedelta(hours=24),
        datetime.timedelta(hours=47, minutes=59),
    ]
    path = tmp_path / "in.xlsx"
    formats = {
        datetime.date: "yyyy-mm-dd",
        datetime.datetime: "yyyy-mm-dd hh:mm:ss",
        datetime.time: "hh:mm",
        datetime.timedelta: "[h]:mm",
    }
    with xlsxwriter.Workbook(str(path), {"date_1904": epoch_1904}) as workbook:
        sheet = workbook.add_worksheet()
        sheet.write(0, 0, "question")
        for row, cell in enumerate(cells, start=1):
            sheet.write_datetime(row, 0, cell, workbook.add_format({"num_format": formats[type(cell)]}))

    read = read_sheet(path)

    assert [row[0] for row in read.rows()] == cells
    assert read.questions() == ["2026-01-02", "2026-01-02 03:04:05", "23:59:59", "24:00:00", "47:59:00"]


def test_what_excel_escapes_is_read_as_it_was_meant(tmp_path: Path) -> None:
    """A prompt must not carry a literal _x000D_, and a text that looks like an escape must stay one."""
    inline = "".join(
        f'<row r="{i}">{text_cell(f"A{i}", text)}</row>'
        for i, text in enumerate(["question", "one_x000D_\ntwo", "_x005F_x0041_", "_x0041_"], start=1)
    )

    assert read_sheet(with_sheet(tmp_path / "inline.xlsx", inline)).questions() == ["one\r\ntwo", "_x0041_", "A"]


def test_an_old_excel_file_reads_as_a_new_one(tmp_path: Path) -> None:
    """Nobody converts a thousand old files first."""
    xlwt = pytest.importorskip("xlwt", reason="xlwt writes the .xls of this test")
    cells: list[Any] = ["あ", "007", 3, 2.5, True, datetime.datetime(2026, 1, 2, 3, 4, 5), datetime.date(2026, 1, 2)]  # noqa: DTZ001
    workbook = xlwt.Workbook()
    sheet = workbook.add_sheet("S")
    for row, cell in enumerate(["question", *cells]):
        code = {datetime.datetime: "yyyy-mm-dd hh:mm:ss", datetime.date: "yyyy-mm-dd"}.get(type(cell), "General")
        sheet.write(row, 0, cell, xlwt.easyxf(num_format_str=code))
    workbook.save(tmp_path / "in.xls")

    for name in ("in.xls", "called.xlsx"):
        path = tmp_path / name
        path.write_bytes((tmp_path / "in.xls").read_bytes())
        assert [(row[0], type(row[0])) for row in read_sheet(path).rows()] == [(cell, type(cell)) for cell in cells]


def test_an_open_document_keeps_its_types(tmp_path: Path) -> None:
    """LibreOffice's own format, with its own words for dates, times and errors."""
    rows = [
        ods_cell("あ"),
        ods_cell("3", "float", 'office:value="3"'),
        ods_cell("2.5", "float", 'office:value="2.5"'),
        ods_cell("TRUE", "boolean", 'office:boolean-value="true"'),
        ods_cell("x", "date", 'office:date-value="2026-01-02"'),
        ods_cell("x", "date", 'office:date-value="2026-01-02T03:04:05"'),
        ods_cell("x", "time", 'office:time-value="PT03H04M05S"'),
        ods_cell("x", "time", 'office:time-value="PT30H00M00S"'),
        ods_cell("#N/A", "string", 'office:string-value=""', 'calcext:value-type="error"'),
        ods_cell("_x0041_"),
    ]
    path = save_ods(tmp_path / "in.ods", "".join(map(ods_row, [ods_cell("question"), *rows])))

    read = read_sheet(path)

    assert [row[0] for row in read.rows()] == [
        "あ",
        3,
        2.5,
        True,
        datetime.date(2026, 1, 2),
        datetime.datetime(2026, 1, 2, 3, 4, 5),  # noqa: DTZ001
        datetime.time(3, 4, 5),
        datetime.timedelta(hours=30),
        "#N/A",
        "_x0041_",
    ]
    assert isinstance(list(read.rows())[8][0], CellError)


@pytest.mark.parametrize("name", ["in.xlsm", "in.xls", "in.ods", "in.csv", "in"])
def test_the_content_decides_whatever_the_name(tmp_path: Path, name: str) -> None:
    """Mail programs and downloads rename files; the library would believe them."""
    path = save_workbook(tmp_path / name, {"S": QUESTIONS})

    assert read_sheet(path).questions() == ["What is it?"]


@pytest.mark.parametrize("library", ["xlsxwriter", "openpyxl"])
def test_titles_above_the_header_are_passed_over(tmp_path: Path, library: str) -> None:
    """Reports begin with a title and a date; the row number is the one that a spreadsheet program shows."""
    rows: list[list[Any]] = [["Questions of May"], [], ["by", "Sato"], ["NO", "質問", "memo"], [1, "a", ""], ["", "", ""], [3, "c", "x"]]
    path = tmp_path / "in.xlsx"
    if library == "xlsxwriter":
        save_workbook(path, {"S": rows})
    else:
        workbook = openpyxl.Workbook()
        for row in rows:
            workbook.worksheets[0].append(row)
        workbook.save(path)

    read = read_sheet(path)

    assert (read.headers, read.header_row, read.shown_row(2)) == (["NO", "質問", "memo"], 4, 7)
    assert read.questions() == ["a", "", "c"]


HEADERS: dict[str, tuple[list[list[Any]], dict[str, Any], int]] = {
    "a title that is itself called so": ([["質問"], ["NO", "質問"], [1, "a"]], {}, 2),
    "only one column": ([["Questions of May"], [], ["question"], ["a"]], {}, 3),
    "rows that hold the word as data": ([["text", "prompt "], ["a", "question"], ["b", "question"]], {}, 1),
    "a named column": ([["of May"], ["NO", "text"], ["1", "a"]], {"question_column": "TEXT"}, 2),
    "a given row": ([["question", "x"], ["a", "question"], ["b", "c"]], {"header_row": 2}, 2),
    "free rows above": ([[], [], ["question"], ["a"]], {}, 3),
}


@pytest.mark.parametrize(("rows", "options", "expected"), HEADERS.values(), ids=HEADERS)
def test_the_header_is_found(tmp_path: Path, rows: list[list[Any]], options: dict[str, Any], expected: int) -> None:
    """A wrong header row would ask the wrong column, or lose a row of data."""
    path = save_workbook(tmp_path / "in.xlsx", {"S": rows})

    assert read_sheet(path, **options).header_row == expected


def test_the_word_question_in_a_row_of_data_is_no_header(tmp_path: Path) -> None:
    """Taking it for one would silently drop the rows above."""
    path = save_workbook(tmp_path / "in.xlsx", {"S": [["text", "kind"], ["a", "question"], ["b", "question"]]})

    with pytest.raises(WorkbookError, match=r"its columns are: 'text', 'kind'; name the one"):
        read_sheet(path)


@pytest.mark.parametrize(("row", "helpful"), [(2, "row 2 of sheet 'S'"), (9, "ends in row 3")])
def test_a_header_row_that_cannot_be_one_is_said(tmp_path: Path, row: int, helpful: str) -> None:
    """A typing mistake in --header-row is answered in the words of the option."""
    path = save_workbook(tmp_path / "in.xlsx", {"S": [["question"], [], ["a"]]})

    with pytest.raises(WorkbookError, match=f"{helpful}.*--header-row"):
        read_sheet(path, "S", header_row=row)


def test_merged_cells_keep_every_row(tmp_path: Path) -> None:
    """The value stands in the first cell of the merger; the others are rows without a question."""
    path = tmp_path / "in.xlsx"
    with xlsxwriter.Workbook(str(path)) as workbook:
        sheet = workbook.add_worksheet()
        sheet.write_row(0, 0, ["group", "question"])
        sheet.merge_range("A2:A4", "one")
        sheet.merge_range("B3:B4", "b")
        sheet.write("B2", "a")
        sheet.write("B5", "c")

    assert list(read_sheet(path).rows()) == [["one", "a"], ["", "b"], ["", ""], ["", "c"]]


def test_a_sheet_in_another_spelling_is_read(tmp_path: Path) -> None:
    """Some programs write prefixes, single quotes, or cells that do not say where they are."""
    path = tmp_path / "in.xlsx"
    save_workbook(path, {"S": QUESTIONS})
    data = (
        "<x:row><x:c t='inlineStr'><x:is><x:t>question</x:t></x:is></x:c><x:c t='inlineStr'><x:is><x:t>n</x:t></x:is></x:c></x:row>"
        "<x:row><x:c t='inlineStr'><x:is><x:t>a</x:t></x:is></x:c><x:c t='e'><x:v>#N/A</x:v></x:c></x:row>"
    )
    space = "xmlns:x='http://schemas.openxmlformats.org/spreadsheetml/2006/main'"
    xml = f"<?xml version='1.0'?><x:worksheet {space}><x:sheetData>{data}</x:sheetData></x:worksheet>"
    patched(path, lambda parts: parts.update({"xl/worksheets/sheet1.xml": xml.encode()}))

    read = read_sheet(path)

    assert (read.headers, list(read.rows())) == (["question", "n"], [["a", "#N/A"]])


def test_a_dimension_that_lies_is_not_believed(tmp_path: Path) -> None:
    """Some programs write A1 for any sheet, some the whole grid."""
    data = f'<row r="1">{text_cell("A1", "question")}</row><row r="2">{text_cell("A2", "a")}</row>'

    for claim in ("A1", "A1:XFD1048576"):
        path = with_sheet(tmp_path / "in.xlsx", data, more=f'<dimension ref="{claim}"/>')
        assert read_sheet(path).questions() == ["a"]


def test_sixteen_thousand_columns_are_read(tmp_path: Path) -> None:
    """As wide as a sheet can be."""
    path = save_workbook(tmp_path / "in.xlsx", {"S": [["question", *(f"h{i}" for i in range(16_383))], ["a"] * 16_384]})

    assert len(read_sheet(path).headers) == 16_384
