"""--keep-format: the answers go into the person's own workbook, of which nothing else may change."""

import re
import shutil
import subprocess
from pathlib import Path

import openpyxl
import pytest

from producer.workbook.assembly import write_workbook
from producer.workbook.keeping import check_keeping
from producer.workbook.reading import read_sheet
from tests.conftest import Kotae
from tests.kept import LISTS, MAIN, OURS, by_openpyxl, by_xlsxwriter, changed, check_lists, formulas, keep, parts, put, repack
from tests.workbooks import answered, begin_run, grid, records, save_workbook, sheet_names, tagged, unanswered
from workers.contract.errors import WorkbookError

#: What openpyxl says of extensions it cannot show is no matter here.
pytestmark = pytest.mark.filterwarnings("ignore:::openpyxl")


@pytest.mark.parametrize("macros", [False, True])
def test_all_other_parts_are_the_same_to_the_byte(tmp_path: Path, macros: bool) -> None:
    """Charts, pictures, notes, macros, names: what Kotae does not know it cannot lose if it does not touch it."""
    source = by_xlsxwriter(tmp_path, macros)

    out = keep(source, answered(0), unanswered(4), out=f"out{source.suffix}", sheet="質問")

    assert changed(source, out) == {*LISTS, "xl/worksheets/sheet2.xml"}
    assert set(parts(out)) - set(parts(source)) == {"xl/worksheets/sheet4.xml", "xl/worksheets/sheet5.xml"}
    assert len(parts(source)) > 15
    check_lists(out)


def test_parts_that_nobody_here_knows_are_kept(tmp_path: Path) -> None:
    """Threaded comments, pivot tables, parts of a program to come: they are bytes, and stay the same ones."""
    unknown = {
        "xl/threadedComments/threadedComment1.xml": b"<ThreadedComments/>",
        "xl/persons/person.xml": b"<personList/>",
        "xl/pivotTables/pivotTable1.xml": b"<pivotTableDefinition/>",
        "xl/pivotCache/pivotCacheRecords1.xml": b"<pivotCacheRecords/>",
        "customXml/item1.xml": "<x>\u3042</x>".encode("utf-16"),
        "xl/new/part.bin": bytes(range(256)) * 400,
    }
    source = repack(by_xlsxwriter(tmp_path), {name: lambda _, content=content: content for name, content in unknown.items()})  # type: ignore[misc]

    out = keep(source, answered(0), sheet="質問")

    assert {name: content for name, content in parts(out).items() if name in unknown} == unknown
    assert changed(source, out) == {*LISTS, "xl/worksheets/sheet2.xml"}


def test_the_sheets_other_cells_and_features_stay(tmp_path: Path) -> None:
    """Of the sheet itself only cells come in: everything around them, and every formula with its last value, is as it was."""
    source = by_xlsxwriter(tmp_path)

    out = keep(source, *(answered(row) for row in range(20)), sheet="質問")

    before, after = (parts(path)["xl/worksheets/sheet2.xml"] for path in (source, out))
    assert after[after.index(b"</sheetData>") :] == before[before.index(b"</sheetData>") :]
    assert [row[:5] for row in grid(out, "質問")] == [row[:5] for row in grid(source, "質問")]
    assert formulas(out, "質問") == formulas(source, "質問")
    assert [row[3] for row in grid(out, "質問")[1:21]] == [5.0] * 20
    ours, theirs = openpyxl.load_workbook(out)["質問"], openpyxl.load_workbook(source)["質問"]
    assert [c.style_id for row in ours["A1:E41"] for c in row] == [c.style_id for row in theirs["A1:E41"] for c in row]
    assert ours.freeze_panes == theirs.freeze_panes == "C2"
    assert ours.row_dimensions[6].height == 39.75
    assert openpyxl.load_workbook(out).sheetnames == ["表紙", "質問", "secret", "Run"]
    assert openpyxl.load_workbook(out)["secret"].sheet_state == "hidden"


def test_answers_stand_beside_their_questions_and_are_readable(tmp_path: Path) -> None:
    """Wrapped text in a wide column, under a header that looks like those beside it."""
    source = by_xlsxwriter(tmp_path)

    out = keep(source, answered(0, tagged("42\nlines")), unanswered(4), sheet="質問")

    sheet = openpyxl.load_workbook(out)["質問"]
    assert [cell.value for cell in sheet[1]][5:] == OURS
    assert [cell.value for cell in sheet[2]][5:] == ["42\nlines", "why", "answered", "stop", 11, 7, None]
    assert [cell.value for cell in sheet[6]][5:] == [None, None, "failed", None, None, None, "the engine said no"]
    assert sheet["F2"].alignment.wrap_text
    assert sheet["F2"].alignment.vertical == "top"
    assert sheet["F1"].fill.fgColor.rgb == sheet["E1"].fill.fgColor.rgb == "FFFFEE88"
    assert sheet.column_dimensions["F"].width > 50
    assert sheet.column_dimensions["J"].width > len("prompt_tokens")
    assert sheet.column_dimensions["B"].width == openpyxl.load_workbook(source)["質問"].column_dimensions["B"].width
    assert sheet.dimensions == "A1:L42"


def test_errors_name_the_rows_that_the_spreadsheet_shows(tmp_path: Path) -> None:
    """The header may stand lower in a sheet that keeps its format: the number in the list is still the number to scroll to."""
    path = tmp_path / "in.xlsx"
    workbook = openpyxl.Workbook()
    sheet = workbook.active
    assert sheet is not None
    sheet.cell(5, 3, "question")
    sheet.cell(6, 3, "one?")
    sheet.cell(9, 3, "two?")
    workbook.save(path)

    out = keep(path, unanswered(3), answered(0))

    cells = openpyxl.load_workbook(out)
    assert [cells["Sheet"].cell(row, 4).value for row in range(4, 10)] == [None, "answer", "42", None, None, None]
    assert cells["Sheet"].cell(9, 6).value == "failed"
    assert [cell.value for cell in cells["Errors"][2]] == [9, "two?", "failed", "the engine said no", 1]
    assert records(out, "Run")[0]["what"] == "run"


def test_an_empty_column_is_filled_in_place_and_keeps_its_look(tmp_path: Path) -> None:
    """The person coloured the column for the answers and made a table around it; both stay."""
    source = by_openpyxl(tmp_path)

    out = keep(source, answered(0), answered(9))

    sheet = openpyxl.load_workbook(out)["Q & A <1>"]
    assert [cell.value for cell in sheet[1]] == ["NO", "question", "answer", "memo", *OURS[1:]]
    assert [sheet.cell(row, 3).value for row in (2, 3, 11)] == ["42", None, "42"]
    assert [sheet.cell(row, 3).fill.fgColor.rgb for row in (2, 3, 11)] == ["00FFDDDD"] * 3
    assert sheet.tables["questions"].ref == "A1:D11"
    assert changed(source, out) == {*LISTS, "xl/worksheets/sheet1.xml"}
    check_lists(out)


def test_a_sheet_of_the_persons_called_run_stays_theirs(tmp_path: Path) -> None:
    """Ours steps aside, however often an output becomes the next model's source."""
    path = by_openpyxl(tmp_path)

    for number, name in enumerate(["small", "middle", "large", "huge"]):
        with begin_run(tmp_path / "home", path, name, keep_format=True, sheet="Q & A <1>") as store:
            put(store, answered(0, tagged(name)))
            path = tmp_path / f"out-{number}.xlsx"
            write_workbook(store, path)

    assert sheet_names(path)[2:] == ["Run", "Run (Kotae)", "Run (Kotae) 2", "Run (Kotae) 3", "Run (Kotae) 4"]
    assert grid(path, "Run") == [["the person's own"]]
    row = records(path, "Q & A <1>")[0]
    assert [row[f"answer{name}"] for name in ("", " (middle)", " (large)", " (huge)")] == ["small", "middle", "large", "huge"]
    check_lists(path)


def test_overwriting_replaces_the_column_and_forgets_the_order_of_calculation(tmp_path: Path) -> None:
    """Excel repairs a workbook that lists a formula to calculate where there is none any more; without the list it makes one."""
    source = save_workbook(tmp_path / "in.xlsx", {"S": [["question", "answer", "memo"], ["one?", "", "m"], ["two?", "old", "n"]]})
    chain = b'<calcChain xmlns="%s"><c r="B2" i="1"/></calcChain>' % MAIN.encode()
    relation = b'<Relationship Id="rId99" Type="http://x/calcChain" Target="calcChain.xml"/></Relationships>'
    repack(
        source,
        {
            "xl/worksheets/sheet1.xml": lambda xml: xml.replace(b'<c r="C2"', b'<c r="B2"><f>1+1</f><v>2</v></c><c r="C2"'),
            "xl/calcChain.xml": lambda _: chain,
            "xl/_rels/workbook.xml.rels": lambda xml: xml.replace(b"</Relationships>", relation),
            "[Content_Types].xml": lambda xml: xml.replace(
                b"</Types>", b'<Override PartName="/xl/calcChain.xml" ContentType="c"/></Types>'
            ),
        },
    )

    kept = keep(source, answered(0, tagged("new")), out="kept.xlsx")
    replaced = keep(source, out="replaced.xlsx", overwrite=True)

    assert parts(kept)["xl/calcChain.xml"] == chain
    assert formulas(kept, "S") == {"B2": "=1+1"}
    assert "xl/calcChain.xml" not in parts(replaced)
    assert [row[:3] for row in grid(replaced, "S")] == [["question", "answer", "memo"], ["one?", "new", "m"], ["two?", "", "n"]]
    check_lists(kept)
    check_lists(replaced)


@pytest.mark.parametrize("cell", ["<f>1+1</f>", "<f>NA()</f><v>#N/A</v>"])
def test_a_column_of_formulas_without_values_is_not_empty(tmp_path: Path, cell: str) -> None:
    """It reads as empty, since nobody has calculated it yet; filled with answers, its formulas would be gone."""
    source = save_workbook(tmp_path / "in.xlsx", {"S": [["question", "answer"], ["one?"]]})
    insert = b'</c><c r="B2"' + (b' t="e"' if "#" in cell else b"") + b">" + cell.encode() + b"</c></row></sheetData>"
    repack(source, {"xl/worksheets/sheet1.xml": lambda xml: xml.replace(b"</c></row></sheetData>", insert)})

    out = keep(source, answered(0))

    assert grid(out, "S")[0][:3] == ["question", "answer", "answer (phi-4)"]
    assert list(formulas(out, "S")) == ["B2"]


def test_cells_that_read_as_empty_beside_the_last_column_stay(tmp_path: Path) -> None:
    """A total that is not calculated yet, in a column without a header, is no free place."""
    source = save_workbook(tmp_path / "in.xlsx", {"S": [["question"], ["one?"], ["two?"]]})
    repack(source, {"xl/worksheets/sheet1.xml": lambda xml: re.sub(rb'(<c r="A3".*?</c>)', rb'\1<c r="C3"><f>1+1</f></c>', xml)})

    out = keep(source, answered(0))

    assert grid(out, "S")[0] == ["question", "", "", *OURS]
    assert list(formulas(out, "S")) == ["C3"]


def test_a_workbook_with_macros_keeps_its_ending(tmp_path: Path) -> None:
    """Excel opens no file whose name and content disagree; that must be said before the night of GPUs."""
    macros, plain = by_xlsxwriter(tmp_path, macros=True), by_openpyxl(tmp_path)

    check_keeping(macros, tmp_path / "out.XLSM")
    check_keeping(plain, tmp_path / "out.xlsx")
    for source, out, ending in ((macros, "out.xlsx", "xlsm"), (plain, "out.xlsm", "xlsx")):
        with pytest.raises(WorkbookError, match=rf"must end in \.{ending}"):
            check_keeping(source, tmp_path / out)


def test_writing_again_gives_the_same_workbook(tmp_path: Path) -> None:
    """To the byte, as with fresh ones."""
    source = by_xlsxwriter(tmp_path)

    first, second = (keep(source, answered(0), unanswered(1), sheet="質問", out=name) for name in ("first.xlsx", "second.xlsx"))

    assert first.read_bytes() == second.read_bytes()


def test_a_run_writes_a_fresh_workbook_again_when_the_option_is_left_out(tmp_path: Path) -> None:
    """How a workbook is written makes no other run: the answers are there already."""
    source = by_openpyxl(tmp_path)
    with begin_run(tmp_path, source, keep_format=True) as store:
        put(store, answered(0))

    with begin_run(tmp_path, source) as again:
        write_workbook(again, tmp_path / "out.xlsx")

    assert sheet_names(tmp_path / "out.xlsx") == ["Q & A <1>", "Run"]
    assert records(tmp_path / "out.xlsx", "Q & A <1>")[0]["answer"] == "42"


@pytest.mark.skipif(shutil.which("soffice") is None, reason="LibreOffice is not installed")
def test_libreoffice_opens_it_with_the_same_values(tmp_path: Path) -> None:
    """A second opinion on whether the package is whole."""
    source = by_xlsxwriter(tmp_path)
    out = keep(source, answered(0), sheet="質問")

    subprocess.run(["soffice", "--headless", "--convert-to", "ods", "--outdir", str(tmp_path), str(out)], check=True, timeout=120)

    assert grid(tmp_path / "out.ods", "質問")[1][:2] == [1, "質問 1?"]


def test_the_output_is_read_like_the_source(tmp_path: Path) -> None:
    """It is the next run's source."""
    source = by_openpyxl(tmp_path)

    out = keep(source, answered(0), unanswered(1))

    assert read_sheet(out).questions() == read_sheet(source).questions()


def test_the_option_holds_for_the_whole_run(kotae: Kotae) -> None:
    """From the command to the workbook; `collect` and `retry` write like the command that began the run."""
    by_xlsxwriter(kotae.folder, macros=True)
    before = set(kotae.folder.iterdir())

    refused = kotae("run", "in.xlsm", "-o", "out.xlsx", "--engine", "echo", "--sheet", "質問", "--keep-format")
    assert (refused.code, len(refused.err.splitlines())) == (2, 1)
    assert "must end in .xlsm" in refused.err
    assert set(kotae.folder.iterdir()) == before

    told = kotae.json("run", "in.xlsm", "--engine", "echo", "--sheet", "質問", "--keep-format")
    kotae.json("collect", "last", "-o", "collected.xlsm")
    late = kotae("collect", "last", "-o", "collected.xlsx")

    assert told["output"].endswith("in-answers.xlsm")
    assert grid(kotae.folder / "in-answers.xlsm", "質問")[20][5] == "質問 20?"
    assert parts(kotae.folder / "in-answers.xlsm")["xl/vbaProject.bin"].endswith(b"or so Kotae must believe")
    assert (kotae.folder / "collected.xlsm").read_bytes() == (kotae.folder / "in-answers.xlsm").read_bytes()
    assert (late.code, "must end in .xlsm" in late.err) == (2, True)
