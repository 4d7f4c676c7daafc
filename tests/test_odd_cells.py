"""Cells that are not what they seem: errors, totals of tables, quotations that stand off, old encodings, line breaks of OpenDocument."""

import datetime
import json
import shutil
import subprocess
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import xlsxwriter
import xlwt
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl.styles import Alignment
from python_calamine import CalamineWorkbook

from producer.workbook.assembly import write_workbook
from producer.workbook.cells import CellError
from producer.workbook.charsets import encoding_of
from producer.workbook.corrections import Corrections
from producer.workbook.quoting import quoted_from_the_start
from producer.workbook.reading import read_sheet
from tests.conftest import Kotae, make_workbook
from tests.crafted import ods_cell, ods_row, patched, save_ods, text_cell, with_sheet
from tests.kept import repack
from tests.test_run import ECHO, table
from tests.workbooks import answered, begin_run, save_workbook
from workers.contract.errors import WorkbookError

ERRORS = ["#N/A", "#DIV/0!", "#NULL!", "#VALUE!", "#REF!", "#NAME?", "#NUM!"]


def errors(path: Path, name: str) -> Path:
    cells = "".join(f'<row r="{n}">{text_cell(f"A{n}", "q")}<c r="B{n}" t="e"><v>{e}</v></c></row>' for n, e in enumerate(ERRORS, start=2))
    return with_sheet(path / name, f'<row r="1">{text_cell("A1", "question")}{text_cell("B1", "value")}</row>{cells}')


def test_an_error_is_an_error_in_a_fresh_workbook_too(tmp_path: Path) -> None:
    """The sums of others count on it: as text it would be skipped without a word."""
    source = errors(tmp_path, "in.xlsx")
    with begin_run(tmp_path / "home", source) as store:
        store.store(answered(row, "#N/A", run_id=store.manifest.run_id) for row in range(len(ERRORS)))
        write_workbook(store, tmp_path / "out.xlsx")

    sheet = openpyxl.load_workbook(tmp_path / "out.xlsx").worksheets[0]
    cells = [sheet.cell(row, 2) for row in range(2, len(ERRORS) + 2)]
    assert [(cell.value, cell.data_type) for cell in cells] == [(error, "e") for error in ERRORS]
    assert (sheet.cell(2, 3).value, sheet.cell(2, 3).data_type) == ("#N/A", "s"), "what the model says is text"
    again = read_sheet(tmp_path / "out.xlsx")
    assert [row[1] for row in again.rows()] == ERRORS
    assert {type(row[1]) for row in again.rows()} == {CellError}
    assert CalamineWorkbook.from_path(str(tmp_path / "out.xlsx")).get_sheet_by_index(0).to_python()[1][1] == ""


def test_an_error_of_another_program_is_text(tmp_path: Path) -> None:
    """Excel would call the file damaged over an error that it does not know."""
    value = 'calcext:value-type="error"'
    source = save_ods(
        tmp_path / "in.ods", ods_row(ods_cell("question"), ods_cell("n")) + ods_row(ods_cell("a"), ods_cell("Err:502", more=value))
    )
    with begin_run(tmp_path / "home", source) as store:
        write_workbook(store, tmp_path / "out.xlsx")

    cell = openpyxl.load_workbook(tmp_path / "out.xlsx").worksheets[0]["B2"]
    assert (cell.value, cell.data_type) == ("Err:502", "s")


# -- totals


def with_totals(path: Path, where: str = "A1:C4") -> Path:
    with xlsxwriter.Workbook(str(path)) as workbook:
        sheet = workbook.add_worksheet("S")
        columns = [{"header": "NO", "total_string": "Total"}, {"header": "question", "total_function": "count"}, {"header": "n"}]
        sheet.add_table(where, {"data": [[1, "a", 5], [2, "b", 6]], "columns": columns, "total_row": True})
        sheet.write("B5", "below the table")
    return path


@pytest.mark.parametrize("keep_format", [False, True])
def test_the_total_row_of_a_table_is_no_question_and_stays_in_its_place(kotae: Kotae, keep_format: bool) -> None:
    """ "2" is how many questions there are; nobody wants to pay for its answer."""
    with_totals(kotae.folder / "q.xlsx")

    finished = kotae("run", "q.xlsx", "-o", "out.xlsx", *ECHO, *(["--keep-format"] if keep_format else []))

    rows = table(kotae.folder / "out.xlsx")
    assert finished.code == 0, finished.err
    assert [row["outcome"] for row in rows] == ["answered", "answered", "skipped", "answered"]
    assert (rows[2]["NO"], rows[2]["error"]) == ("Total", "this is the total row of a table")
    assert rows[3]["answer"] == "below the table"


def test_a_table_beside_the_questions_has_no_say(tmp_path: Path) -> None:
    """Its total row may stand beside a question."""
    path = tmp_path / "in.xlsx"
    with xlsxwriter.Workbook(str(path)) as workbook:
        sheet = workbook.add_worksheet("S")
        sheet.write_column(0, 0, ["question", "a", "b", "c"])
        sheet.add_table("C1:D3", {"data": [[1, 2]], "columns": [{"header": "x"}, {"header": "y"}], "total_row": True})

    assert read_sheet(path).questions() == ["a", "b", "c"]


# -- text


def test_a_quotation_may_stand_off_from_the_comma(tmp_path: Path) -> None:
    """As people type it; cut at the comma, half a question would be asked."""
    path = tmp_path / "in.csv"
    path.write_text('NO, "question"\n1, "What, exactly?"\n2,  "two\nlines, and ""more""" \n3, plain, not quoted\n 4,5" pipe\n')

    read = read_sheet(path)

    assert read.headers[:2] == ["NO", "question"]
    assert [row[:2] for row in read.rows()] == [
        ["1", "What, exactly?"],
        ["2", 'two\nlines, and "more"'],
        ["3", " plain"],
        [" 4", '5" pipe'],
    ]


cells = st.text(st.sampled_from(["a", " ", '"', ",", "\n", "é"]), max_size=6)


@settings(max_examples=200)
@given(st.lists(st.lists(cells, min_size=1, max_size=4), min_size=1, max_size=4), st.integers(0, 2), st.integers(0, 2))
def test_quotations_that_stand_off_are_those_that_do_not(rows: list[list[str]], before: int, after: int) -> None:
    """Blanks around a quotation change nothing, whatever is in it."""
    quoted = [['"' + cell.replace('"', '""') + '"' for cell in row] for row in rows]
    text = "".join(",".join(" " * before + cell + " " * after for cell in row) + "\n" for row in quoted)
    plain = "".join(",".join(row) + "\n" for row in quoted)

    assert "".join(quoted_from_the_start(text.splitlines(keepends=True), ",")) == plain
    assert "".join(quoted_from_the_start(plain.splitlines(keepends=True), ",")) == plain


TEXT = "NO,質問\n1,日本の首都はどこですか。\n2,ｶﾅとカナ\n"


@pytest.mark.parametrize(
    ("encoding", "told"),
    [("utf-8", None), ("cp932", "cp932"), ("euc_jp", "EUC-JP"), ("iso2022_jp_ext", "ISO-2022-JP"), ("utf-16", "UTF-16")],
)
def test_a_japanese_text_is_read_as_what_it_is_and_that_is_said(kotae: Kotae, encoding: str, told: str | None) -> None:
    """Read as something else it would be asked as noise, and answered."""
    text = TEXT if encoding != "iso2022_jp_ext" else TEXT.replace("ｶﾅ", "かな")
    (kotae.folder / "q.csv").write_bytes(text.encode(encoding))

    finished = kotae("run", "q.csv", "-o", "out.xlsx", *ECHO)

    assert [row["answer"] for row in table(kotae.folder / "out.xlsx")] == [line.partition(",")[2] for line in text.splitlines()[1:]]
    said = [line for line in finished.out.splitlines() if "is not UTF-8" in line]
    assert len(said) == (told is not None)
    assert told is None or told in said[0]


KANA = st.text(st.characters(min_codepoint=0x3041, max_codepoint=0x3093), min_size=1, max_size=8)
KANJI = st.text(st.sampled_from("日本語質問国家経済東京大阪京都回答説明教育文化歴史"), max_size=8)


@settings(max_examples=200)
@given(st.lists(st.tuples(KANJI, KANA), min_size=1, max_size=5), st.sampled_from(["cp932", "euc_jp"]))
def test_japanese_sentences_tell_their_encoding(
    tmp_path_factory: pytest.TempPathFactory, words: list[tuple[str, str]], encoding: str
) -> None:
    """Every sentence has kana; the two encodings are never mistaken for each other over it."""
    path = tmp_path_factory.getbasetemp() / "in.csv"
    path.write_bytes("\n".join(kanji + kana for kanji, kana in words).encode(encoding))

    assert encoding_of(path) == encoding


def test_a_list_of_narrow_kana_is_windows_text(tmp_path: Path) -> None:
    """Customers are listed so; pairs of such characters could be kanji in EUC-JP."""
    names = ["NAME", "ﾔﾏﾀﾞ ﾀﾛｳ", "ｽｽﾞｷ ﾊﾅｺ", "ｲﾄｳ"]
    (tmp_path / "in.csv").write_bytes("\n".join(names).encode("cp932"))

    assert (tmp_path / "in.csv").read_text(encoding_of(tmp_path / "in.csv")).split("\n") == names


@pytest.mark.parametrize("digits", [20, 5000, 100_000])
def test_a_number_of_any_length_is_kept_to_the_digit(tmp_path: Path, digits: int) -> None:
    """Python refuses to count that far; the line is fine all the same."""
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps({"question": "a"})[:-1] + ', "n": -' + "7" * digits + "}\n")

    assert list(read_sheet(path).rows()) == [["a", "-" + "7" * digits]]


# -- what the library reads amiss


@pytest.mark.parametrize("epoch_1904", [False, True])
def test_a_time_below_zero_is_no_other_time(tmp_path: Path, epoch_1904: bool) -> None:
    """Six hours too few are shown as #### or as -6:00, and never as 18:00, which the library makes of them."""
    formats = ["hh:mm", "yyyy/m/d", "[$-411]ggge", "[h]:mm", "0.00", '0"days"', "#,##0;[Red]-#,##0"]
    with xlsxwriter.Workbook(str(tmp_path / "in.xlsx"), {"date_1904": epoch_1904}) as workbook:
        sheet = workbook.add_worksheet()
        sheet.write_row(0, 0, ["question", *formats])
        for column, code in enumerate(formats, start=1):
            sheet.write_number(1, column, -0.25, workbook.add_format({"num_format": code}))
            sheet.write_formula(2, column, "=A1-A2", workbook.add_format({"num_format": code}), -1)

    rows = [row[1:] for row in read_sheet(tmp_path / "in.xlsx").rows()]

    hours = datetime.timedelta(hours=-6)
    assert rows == [[-0.25, -0.25, -0.25, hours, -0.25, -0.25, -0.25], [-1, -1, -1, 4 * hours, -1, -1, -1]]


def test_a_text_that_looks_like_a_time_below_zero_is_a_text(tmp_path: Path) -> None:
    """And what stands in a comment is nothing at all."""
    path = tmp_path / "in.xlsx"
    with xlsxwriter.Workbook(str(path)) as workbook:
        sheet = workbook.add_worksheet()
        sheet.write_row(0, 0, ["question", "n", "m"])
        sheet.write_formula(1, 0, '="q"', None, "q")
        sheet.write_formula(1, 1, '="-5"', workbook.add_format({"num_format": "hh:mm"}), "-5")
        sheet.write_number(1, 2, 7)
    commented = b'<!-- <c r="C2" t="e"><v>#N/A</v></c> --></sheetData>'

    plain = [list(read_sheet(path).rows())]
    patched(path, with_part("xl/worksheets/sheet1.xml", b"</sheetData>", commented))

    assert [*plain, list(read_sheet(path).rows())] == [[["q", "-5", 7]]] * 2


def test_an_old_excel_file_keeps_its_errors_and_times_below_zero(tmp_path: Path) -> None:
    """The library knows neither of them."""
    workbook = xlwt.Workbook()
    workbook.add_sheet("Cover").write(0, 0, "Title")
    sheet = workbook.add_sheet("質問")
    clock = xlwt.easyxf(num_format_str='[$-411]h"時"mm"分"')
    rows: list[Any] = [["question", "n", "late"], ["a", 0x2A, -0.25], ["b", 0x07, -3], ["c", 1.5, -0.01], ["d", True, 0.5]]
    for row, (question, number, late) in enumerate(rows):
        sheet.write(row, 0, question)
        if type(number) is int:
            sheet.row(row).set_cell_error(1, number)
        else:
            sheet.write(row, 1, number)
        sheet.write(row, 2, late, clock)
    workbook.save(tmp_path / "in.xls")

    read = list(read_sheet(tmp_path / "in.xls").rows())

    assert [row[1:] for row in read] == [["#N/A", -0.25], ["#DIV/0!", -3], [1.5, -0.01], [True, datetime.time(12)]]
    assert [type(row[1]) for row in read[:2]] == [CellError] * 2


@pytest.mark.skipif(shutil.which("soffice") is None, reason="LibreOffice is not installed")
def test_errors_of_formulas_stay_in_an_old_excel_file(tmp_path: Path) -> None:
    """As LibreOffice saves them, beside charts and on another sheet than the first."""
    with xlsxwriter.Workbook(str(tmp_path / "in.xlsx")) as workbook:
        workbook.add_worksheet("Cover").insert_chart("B2", chart := workbook.add_chart({"type": "line"}))
        chart.add_series({"values": "={1,2}"})
        sheet = workbook.add_worksheet("S")
        sheet.write_row(0, 0, ["question", "n"])
        for row, (formula, value) in enumerate([("=NA()", "#N/A"), ("=1/0", "#DIV/0!"), ("=SUM(B2:B3)", "#N/A"), ("=1-2", -1)], start=1):
            sheet.write(row, 0, "q")
            sheet.write_formula(row, 1, formula, None, value)
    save_as(tmp_path / "in.xlsx", "xls")

    assert [row[1] for row in read_sheet(tmp_path / "in.xls").rows()] == ["#N/A", "#DIV/0!", "#N/A", -1]


def with_part(part: str, old: bytes, new: bytes) -> Callable[[dict[str, bytes]], Any]:
    return lambda parts: parts.update({part: parts[part].replace(old, new)})


def without_part(part: str) -> Callable[[dict[str, bytes]], Any]:
    return lambda parts: parts.pop(part)


STRANGE = {
    "a macro sheet of old": with_part(
        "xl/_rels/workbook.xml.rels",
        b'openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet2.xml',
        b'microsoft.com/office/2006/relationships/xlMacrosheet" Target="worksheets/sheet2.xml',
    ),
    "a sheet that there is nothing of": without_part("xl/worksheets/sheet2.xml"),
    "a sheet that leads nowhere": with_part("xl/workbook.xml", b'r:id="rId2"', b'r:id="rId99"'),
}


@pytest.mark.parametrize("change", STRANGE.values(), ids=STRANGE)
def test_a_sheet_that_nobody_can_read_does_not_refuse_the_others(tmp_path: Path, change: Callable[[dict[str, bytes]], Any]) -> None:
    """The questions are on another one."""
    path = save_workbook(tmp_path / "in.xlsx", {"Q": [["question"], ["a"]], "Macro1": [["question"], ["b"]], "Z": [["x"]]})
    assert patched(path, change) == path

    read = read_sheet(path)

    assert (read.name, read.questions()) == ("Q", ["a"])


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.sampled_from(["#N/A", CellError("#N/A"), -1])), max_size=20))
def test_corrections_are_found_by_their_rows_whatever_their_order(cells: list[tuple[int, int, Any]]) -> None:
    """An error is another thing than its text, and rows may stand in any order in a file."""
    corrections = Corrections()
    for cell in cells:
        corrections.add(*cell)

    for row in range(6):
        found = [(column, type(value), value) for column, value in corrections.of_row(row)]
        assert found == [(column, type(value), value) for number, column, value in cells if number == row]


def test_millions_of_errors_take_little_memory() -> None:
    """A lookup that is filled down to the last row of twenty columns is a file of 10 MB."""
    corrections = Corrections()
    tracemalloc.start()

    for row in range(50_000):
        for column in range(4):
            corrections.add(row, column, CellError("#N/A"))

    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 20 * 200_000


# -- OpenDocument


def save_as(path: Path, ending: str) -> None:
    """Have LibreOffice save a workbook under another ending."""
    profile = f"-env:UserInstallation=file://{path.parent}/profile"
    command = ["soffice", profile, "--headless", "--convert-to", ending, "--outdir", path.parent, path]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


def cell(xml: str) -> str:
    return f'<table:table-cell office:value-type="string">{xml}</table:table-cell>'


ODF = {
    "<text:p>a<text:line-break/>b</text:p>": "a\nb",
    "<text:p>a<text:tab/>b</text:p>": "a\tb",
    "<text:p>a</text:p><text:p/><text:p>b</text:p>": "a\n\nb",
    "<text:p>x</text:p>\n  <text:p>y</text:p>": "x\ny",
    "<text:p>a\n      b</text:p>": "a\n      b",
    "<text:p>def f(x):</text:p><text:p>    return  x</text:p>": "def f(x):\n    return  x",
    '<text:p>a <text:s text:c="2"/>b</text:p>': "a   b",
    "<text:p>a<text:span>b<text:line-break/></text:span><text:a>c</text:a></text:p>": "ab\nc",
    "<office:annotation><text:p>a note</text:p></office:annotation><text:p>x<text:tab/></text:p>": "x\t",
    "<text:p><text:ruby><text:ruby-base>漢</text:ruby-base><text:ruby-text>かん</text:ruby-text></text:ruby>字</text:p>": "漢字",
}


def test_open_documents_text_is_read_by_its_rules(tmp_path: Path) -> None:
    """A question of three lines must not become one word."""
    path = save_ods(tmp_path / "in.ods", ods_row(ods_cell("question")) + "".join(ods_row(cell(xml)) for xml in ODF))

    assert read_sheet(path).questions() == list(ODF.values())


def test_a_repeated_cell_is_right_in_all_its_places(tmp_path: Path) -> None:
    """OpenDocument writes equal neighbours once."""
    twice = (
        '<table:table-cell office:value-type="string" table:number-columns-repeated="2"><text:p>a<text:tab/>b</text:p></table:table-cell>'
    )
    rows = ods_row(ods_cell("question"), ods_cell("n")) + ods_row(twice, more=' table:number-rows-repeated="2"')

    assert list(read_sheet(save_ods(tmp_path / "in.ods", rows)).rows()) == [["a\tb", "a\tb"]] * 2


@pytest.mark.skipif(shutil.which("soffice") is None, reason="LibreOffice is not installed")
def test_libreoffice_says_the_same_in_both_of_its_formats(tmp_path: Path) -> None:
    """Saved as .ods or as .xlsx, a question is the same question."""
    workbook = openpyxl.Workbook()
    sheet = workbook.worksheets[0]
    texts = ["one\ntwo", "a\n\nb", "tab\there", "two  spaces   three", "\nfirst", "last\n", "  indent", "if x:\n    return  y"]
    texts += ["<b>&amp;</b>", "007", "🙂"]
    for text in ["question", *texts]:
        sheet.append([text, 1])
    for row in sheet.iter_rows():
        row[0].alignment = Alignment(wrap_text=True)
    workbook.save(tmp_path / "in.xlsx")
    save_as(tmp_path / "in.xlsx", "ods")

    assert read_sheet(tmp_path / "in.ods").questions() == read_sheet(tmp_path / "in.xlsx").questions() == texts


# -- refusals come before anything is sent


def test_a_torn_formula_is_refused_before_anything_is_asked(kotae: Kotae) -> None:
    """Told after a night of GPUs it would be a bad joke."""
    source = save_workbook(kotae.folder / "q.xlsx", {"S": [["question", "answer", "sum"], ["one?", 2, 2], ["two?", 2, 2]]})
    change = {b'<c r="B2">': b'<f t="shared" ref="B2:C3" si="0">1+1</f>', b'<c r="C2">': b'<f t="shared" si="0"/>'}

    def share(xml: bytes) -> bytes:
        for place, formula in change.items():
            xml = xml.replace(place, place + formula)
        return xml

    repack(source, {"xl/worksheets/sheet1.xml": share})

    refused = kotae("run", "q.xlsx", "-o", "out.xlsx", *ECHO, "--keep-format", "--overwrite")

    assert (refused.code, len(refused.err.splitlines())) == (2, 1)
    assert "cannot replace a formula that B2:C3 share" in refused.err
    assert not (kotae.folder / ".kotae").exists()


@pytest.mark.parametrize("part", ["xl/styles.xml", "[Content_Types].xml"])
def test_a_list_that_cannot_be_extended_is_refused_before_anything_is_asked(tmp_path: Path, part: str) -> None:
    """All that writing does is tried before."""
    source = make_workbook(tmp_path / "in.xlsx", ["a"])
    with zipfile.ZipFile(source) as package:
        recoded = package.read(part).decode().replace("UTF-8", "UTF-16").encode("utf-16")
    repack(source, {part: lambda _: recoded})

    with pytest.raises(WorkbookError, match=r"--keep-format|damaged"):
        begin_run(tmp_path / "home", source, keep_format=True)

    assert not (tmp_path / "home").exists()


def test_errors_are_seen_however_the_xml_is_laid_out(tmp_path: Path) -> None:
    """A pretty-printed sheet is the same sheet."""
    row = '<row r="2">\n ' + text_cell("A2", "q") + '\n <c r="B2" t="e">\n  <f>1/0</f>\n  <v> #DIV/0! </v>\n </c>\n</row>'
    path = with_sheet(tmp_path / "in.xlsx", f'<row r="1">{text_cell("A1", "question")}{text_cell("B1", "value")}</row>{row}')

    assert list(read_sheet(path).rows()) == [["q", "#DIV/0!"]]
    assert read_sheet(path).kinds[1] == {CellError}


@pytest.mark.parametrize("error", ["#SPILL!", "#CALC!", "#ERROR!", "#GETTING_DATA", "Err:509", "#n/a"])
def test_errors_of_newer_programs_do_not_refuse_the_workbook(tmp_path: Path, error: str) -> None:
    """The library knows those of an older Excel; beside them a text that looks like one, which is none."""
    row = f'<row r="2">{text_cell("A2", "q")}<c r="B2" t="e"><v>{error}</v></c>{text_cell("C2", "t=&quot;e&quot;")}</row>'
    headers = "".join(text_cell(f"{column}1", name) for column, name in zip("ABC", ["question", "value", "text"], strict=True))
    path = with_sheet(tmp_path / "in.xlsx", f'<row r="1">{headers}</row>{row}')

    sheet = read_sheet(path)

    assert list(sheet.rows()) == [["q", error, 't="e"']]
    assert sheet.kinds[1] == {CellError}


@pytest.mark.parametrize(("name", "begin", "end"), [("in.csv", "question\n", "y"), ("in.jsonl", '{"question": "', '"}')])
def test_a_line_that_would_take_all_memory_is_refused(tmp_path: Path, name: str, begin: str, end: str) -> None:
    """A gigabyte without a line break is no table."""
    (tmp_path / name).write_text(begin + "x" * (1 << 24) + end)

    with pytest.raises(WorkbookError, match=r"line \d has more than 16,777,216 characters"):
        read_sheet(tmp_path / name)
