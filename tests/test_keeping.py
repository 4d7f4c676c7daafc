"""--keep-format: the answers go into the person's own workbook, of which nothing else may change."""

import datetime
import posixpath
import re
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import openpyxl
import pytest
import xlsxwriter
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl.comments import Comment
from openpyxl.formatting.rule import CellIsRule
from openpyxl.styles import Alignment, Border, Font, PatternFill, Side
from openpyxl.utils.escape import unescape
from openpyxl.workbook.defined_name import DefinedName
from openpyxl.worksheet.datavalidation import DataValidation
from openpyxl.worksheet.table import Table

from producer.runs import RunStore
from producer.workbook.assembly import write_workbook
from producer.workbook.keeping import check_keeping
from producer.workbook.reading import read_sheet
from producer.workbook.tags import Tag, cut, joined
from producer.workbook.writing import cut_for_excel
from tests.conftest import Kotae
from tests.workbooks import answered, begin_run, grid, records, save_workbook, sheet_names, tagged, unanswered
from workers.contract.errors import WorkbookError
from workers.contract.messages import Answer, BlankLines

OURS = ["answer", "reasoning", "outcome", "finish_reason", "prompt_tokens", "output_tokens", "error"]
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
#: What may differ beside the sheet with the questions and the sheets that are added.
LISTS = {"[Content_Types].xml", "xl/workbook.xml", "xl/_rels/workbook.xml.rels", "xl/styles.xml"}
#: The smallest picture there is: one pixel.
PIXEL = b"\x89PNG\r\n\x1a\n" + b"".join(
    struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    for kind, data in (
        (b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0\0")),
        (b"IEND", b""),
    )
)


def put(store: RunStore, *answers: Answer) -> None:
    store.store([answer.model_copy(update={"run_id": store.manifest.run_id}) for answer in answers])


def keep(source: Path, *answers: Answer, out: str = "out.xlsx", **options: Any) -> Path:
    """Answer a workbook and write its answers into a copy of it."""
    with begin_run(source.parent / "home", source, keep_format=True, **options) as store:
        put(store, *answers)
        write_workbook(store, source.parent / out)
    return source.parent / out


def parts(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as package:
        assert package.testzip() is None
        return {name: package.read(name) for name in package.namelist()}


def changed(source: Path, out: Path) -> set[str]:
    """Return the parts of the source that the output has otherwise, or not at all."""
    before, after = parts(source), parts(out)
    return {name for name, content in before.items() if after.get(name) != content}


def formulas(path: Path, sheet: str) -> dict[str, Any]:
    return {c.coordinate: c.value for row in openpyxl.load_workbook(path)[sheet].iter_rows() for c in row if c.data_type == "f"}


def repack(path: Path, change: Mapping[str, Callable[[bytes], bytes]]) -> Path:
    """Save a workbook's package with some parts changed or added, as another program might have made it."""
    content = parts(path)
    content |= {name: function(content.get(name, b"")) for name, function in change.items()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        for name, data in content.items():
            package.writestr(name, data)
    return path


def check_lists(path: Path) -> None:
    """Every sheet, relationship and content type of a package must lead to a part, or Excel offers to repair it."""
    content = parts(path)
    for element in ElementTree.fromstring(content["[Content_Types].xml"]).iterfind("{*}Override"):
        assert element.attrib["PartName"].lstrip("/").lower() in {name.lower() for name in content}
    for name in (name for name in content if name.endswith(".rels")):
        folder = posixpath.dirname(posixpath.dirname(name))
        relations = ElementTree.fromstring(content[name])
        assert len({relation.attrib["Id"] for relation in relations}) == len(relations)
        for relation in relations:
            if relation.get("TargetMode") != "External":
                target = posixpath.normpath(posixpath.join("/", folder, relation.attrib["Target"])).lstrip("/")
                assert target.lower() in {name.lower() for name in content}
    for name in (name for name in content if name.startswith("xl/worksheets/sheet")):
        rows = ElementTree.fromstring(content[name]).findall("{*}sheetData/{*}row")
        numbers = [int(row.attrib["r"]) for row in rows if "r" in row.attrib]
        assert numbers == sorted(set(numbers))


# -- real workbooks


def by_xlsxwriter(folder: Path, macros: bool = False) -> Path:
    """A workbook with about everything that XlsxWriter can make, as people have them."""
    path = folder / ("in.xlsm" if macros else "in.xlsx")
    (folder / "pixel.png").write_bytes(PIXEL)
    with xlsxwriter.Workbook(str(path)) as workbook:
        header = workbook.add_format({"bold": True, "bg_color": "#FFEE88", "border": 1})
        date = workbook.add_format({"num_format": "yyyy-mm-dd"})
        wrap = workbook.add_format({"text_wrap": True, "font_color": "#0000AA"})
        cover, sheet, hidden = (workbook.add_worksheet(name) for name in ("表紙", "質問", "secret"))
        cover.write("A1", "Title")
        cover.insert_image("B2", str(folder / "pixel.png"))
        hidden.write("A1", "hidden")
        hidden.hide()
        sheet.write_row(0, 0, ["NO", "question", "due", "length", "level"], header)
        for n in range(1, 21):
            sheet.write_number(n, 0, n)
            sheet.write_string(n, 1, f"質問 {n}?", wrap)
            sheet.write_datetime(n, 2, datetime.datetime(2026, 1, n), date)  # noqa: DTZ001 - a spreadsheet's
            sheet.write_formula(n, 3, f"=LEN(B{n + 1})", None, 5)
            sheet.write_number(n, 4, n % 3)
        sheet.write_rich_string(3, 1, "a ", header, "bold", " question")
        sheet.set_column(1, 1, 50)
        sheet.set_column(4, 16383, 20, None, {"hidden": False})
        sheet.set_row(5, 40)
        sheet.freeze_panes(1, 2)
        sheet.autofilter(0, 0, 20, 4)
        sheet.write_comment("B2", "a note")
        sheet.insert_image("H30", str(folder / "pixel.png"))
        chart = workbook.add_chart({"type": "column"})
        chart.add_series({"values": "=質問!$E$2:$E$21"})
        sheet.insert_chart("H5", chart)
        sheet.data_validation("E2:E21", {"validate": "list", "source": ["0", "1", "2"]})
        sheet.conditional_format("E2:E21", {"type": "3_color_scale"})
        sheet.conditional_format("A2:A21", {"type": "data_bar", "data_bar_2010": True})
        sheet.add_sparkline("G40", {"range": "質問!E2:E21"})
        sheet.write_url("B40", "https://example.org/", string="a link")
        sheet.merge_range("A42:C42", "merged", header)
        sheet.insert_textbox("H60", "a box")
        hidden.add_table("C1:D4", {"columns": [{"header": "a"}, {"header": "b"}]})
        workbook.define_name("levels", "=質問!$E$2:$E$21")
        if macros:
            (folder / "vba.bin").write_bytes(b"\xd0\xcf\x11\xe0 a macro, or so Kotae must believe")
            workbook.add_vba_project(str(folder / "vba.bin"))
            workbook.set_vba_name("ThisWorkbook")
            sheet.set_vba_name("Sheet2")
    return path


def by_openpyxl(folder: Path) -> Path:
    """A workbook with what openpyxl makes otherwise: shared strings, a table around the questions, cells with styles only."""
    path = folder / "in.xlsx"
    workbook = openpyxl.Workbook()
    sheet = workbook.active
    assert sheet is not None
    sheet.title = "Q & A <1>"
    sheet.append(["NO", "question", "answer", "memo"])
    for n in range(1, 11):
        sheet.append([n, f"q{n}", None, "m"])
        sheet.cell(n + 1, 3).fill = PatternFill("solid", fgColor="FFDDDD")
        sheet.cell(n + 1, 6).border = Border(left=Side("thin"))
    sheet["B1"].font = Font(name="Arial", bold=True)
    sheet["B2"].alignment = Alignment(horizontal="center")
    sheet["D2"].comment = Comment("note", "someone")
    sheet.column_dimensions["B"].width = 44
    sheet.add_table(Table(displayName="questions", ref="A1:D11"))
    rule = DataValidation(type="whole", operator="between", formula1="1", formula2="99")
    rule.add("A2:A11")
    sheet.add_data_validation(rule)
    sheet.conditional_formatting.add("A2:A11", CellIsRule("greaterThan", ["5"], fill=PatternFill(bgColor="FF0000")))
    sheet.freeze_panes = "A2"
    workbook.create_sheet("veiled").sheet_state = "veryHidden"
    workbook.create_sheet("Run")["A1"] = "the person's own"
    workbook.defined_names["numbers"] = DefinedName("numbers", attr_text="'Q & A <1>'!$A$2:$A$11")
    workbook.save(path)
    return path


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


def test_a_shared_formula_is_not_torn(tmp_path: Path) -> None:
    """Its text stands in one cell for all: were that cell overwritten, the others would be broken without a word."""
    source = save_workbook(tmp_path / "in.xlsx", {"S": [["question", "answer", "sum"], ["one?", 2, 2], ["two?", 2, 2]]})
    change = {b'<c r="B2">': b'<f t="shared" ref="B2:C3" si="0">1+1</f>', b'<c r="C2">': b'<f t="shared" si="0"/>'}

    def share(xml: bytes) -> bytes:
        for cell, formula in change.items():
            xml = xml.replace(cell, cell + formula)
        return xml

    repack(source, {"xl/worksheets/sheet1.xml": share})

    with pytest.raises(WorkbookError, match="B2:C3"):
        keep(source, answered(0), overwrite=True)
    assert not (tmp_path / "out.xlsx").exists()


# -- sheets as other programs write them

BARE = """<row><c t="inlineStr"><is><t>NO</t></is></c><c t="inlineStr"><is><t>question</t></is></c></row>
<row><c><v>1</v></c><c t="inlineStr"><is><t>one?</t></is></c></row>
<row r="4"><c r="B4" t="inlineStr"><is><t>three?</t></is></c></row><!-- <row r="1"/> -->
<row r='5' spans="1:2" ht="30" customHeight="1"/>
<row r="6"><c><v>5</v></c><c t="inlineStr"><is><t><![CDATA[<row>five?</row>]]></t></is></c></row>"""


def by_hand(
    folder: Path, sheet: str, namespace: str = MAIN, relations: str = "http://schemas.openxmlformats.org/officeDocument/2006"
) -> Path:
    """The smallest package there is around a sheet's XML: no styles, no strings, no dates."""
    package = "http://schemas.openxmlformats.org/package/2006"
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    path = folder / "in.xlsx"
    with zipfile.ZipFile(path, "w") as target:
        target.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{package}/content-types"><Default Extension="xml" ContentType="application/xml"/>'
            '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            f'<Override PartName="/xl/workbook.xml" ContentType="{kind}.sheet.main+xml"/>'
            f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{kind}.worksheet+xml"/></Types>',
        )
        for part, type_, where in (
            ("_rels/.rels", "officeDocument", "xl/workbook.xml"),
            ("xl/_rels/workbook.xml.rels", "worksheet", "/xl/worksheets/sheet1.xml"),
        ):
            target.writestr(
                part,
                f'<Relationships xmlns="{package}/relationships"><Relationship Id="rId1" Type="{relations}/relationships/{type_}"'
                f' Target="{where}"/></Relationships>',
            )
        target.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{namespace}" xmlns:rel="{relations}/relationships"><sheets><sheet name="S" sheetId="7" rel:id="rId1"/>'
            "</sheets></workbook>",
        )
        target.writestr("xl/worksheets/sheet1.xml", sheet)
    return path


SHAPES = {
    "bare": f'<worksheet xmlns="{MAIN}"><sheetData>{BARE}</sheetData></worksheet>',
    "dimension that lies": f'<worksheet xmlns="{MAIN}"><dimension ref="A1"/><cols/><sheetData>{BARE}</sheetData></worksheet>',
    "byte order mark": f'\ufeff<?xml version="1.0"?><worksheet xmlns="{MAIN}"><sheetData>{BARE}</sheetData></worksheet>',
    "prefix": f'<x:worksheet xmlns:x="{MAIN}"><x:sheetData>'
    + re.sub(r"<(/?)(row|c|v|is|t)\b", r"<\1x:\2", BARE.replace("<![CDATA[<row>five?</row>]]>", "&lt;row&gt;five?&lt;/row&gt;"))
    + "</x:sheetData></x:worksheet>",
}


@pytest.mark.parametrize("name", SHAPES)
def test_sparse_and_unnumbered_rows_get_their_answers(tmp_path: Path, name: str) -> None:
    """Programs leave out numbers, empty rows, styles and dimensions; row 3 is not in the file at all and gets its cells."""
    source = by_hand(tmp_path, SHAPES[name])

    out = keep(source, answered(0, tagged("1")), answered(2, tagged("3")), answered(4, tagged("5")))

    rows = grid(out, "S")
    assert [row[:2] for row in rows] == [["NO", "question"], [1, "one?"], ["", ""], ["", "three?"], ["", ""], [5, "<row>five?</row>"]]
    assert [row[2:5] for row in rows] == [
        OURS[:3],
        ["1", "why", "answered"],
        ["", "", "skipped"],
        ["3", "why", "answered"],
        ["", "", "skipped"],
        ["5", "why", "answered"],
    ]
    assert [[cell.value for cell in row] for row in openpyxl.load_workbook(out)["S"]["C2:C6"]] == [["1"], [None], ["3"], [None], ["5"]]
    check_lists(out)


def test_unnumbered_cells_stay_where_they_are_beside_a_column_that_is_emptied(tmp_path: Path) -> None:
    """They count from the cell before them: were that one gone, they would move into its column."""
    cells = (
        "<row><c t='inlineStr'><is><t>{}</t></is></c><c t='inlineStr'><is><t>{}</t></is></c><c t='inlineStr'><is><t>{}</t></is></c></row>"
    )
    rows = cells.format("question", "answer", "memo") + cells.format("one?", "old", "m") + cells.format("two?", "old", "n")
    source = by_hand(tmp_path, f'<worksheet xmlns="{MAIN}"><sheetData>{rows}</sheetData></worksheet>')

    out = keep(source, answered(1, tagged("new")), overwrite=True)

    assert [row[:3] for row in grid(out, "S")] == [["question", "answer", "memo"], ["one?", "", "m"], ["two?", "new", "n"]]
    assert [[c.value for c in row[:3]] for row in openpyxl.load_workbook(out)["S"].iter_rows(min_row=2)] == [
        ["one?", None, "m"],
        ["two?", "new", "n"],
    ]


def test_a_strict_workbook_stays_strict(tmp_path: Path) -> None:
    """Its namespaces are other ones, and the new sheets must be of the same kind."""
    namespace, relations = "http://purl.oclc.org/ooxml/spreadsheetml/main", "http://purl.oclc.org/ooxml/officeDocument"
    source = by_hand(tmp_path, SHAPES["bare"].replace(MAIN, namespace), namespace, relations)

    out = keep(source, answered(0))

    assert grid(out, "S")[1][:3] == [1, "one?", "42"]
    assert records(out, "Run")[0]["what"] == "run"
    assert MAIN not in "".join(content.decode() for content in parts(out).values())
    check_lists(out)


TEXTS = [
    "=1+1",
    "  spaces  ",
    "\n\nlines\r\n",
    "<b>&amp;</b> ]]>",
    "\x00\x1b\x1f",
    "_x0041_",
    "_x000D_\r",
    "\ud83d half",
    "😀" * 20_000,
    "x" * 40_000,
]


def test_any_text_of_a_model_stands_there_as_in_a_fresh_workbook(tmp_path: Path) -> None:
    """One character that XML cannot hold, and Excel offers to repair the person's own file."""
    source = save_workbook(tmp_path / "in.xlsx", {"S": [["question"], *([str(n)] for n in range(len(TEXTS)))]})

    out = keep(source, *(answered(n, text) for n, text in enumerate(TEXTS)), blank_lines=BlankLines.KEEP)

    assert [row[1] for row in grid(out, "S")[1:]] == [cut_for_excel(text) for text in TEXTS]
    cells = [row[1].value for row in openpyxl.load_workbook(out)["S"].iter_rows(min_row=2)]
    assert [unescape(str(value)) for value in cells] == [cut_for_excel(text) for text in TEXTS]


# -- what cannot be, in one line


def test_a_workbook_with_macros_keeps_its_ending(tmp_path: Path) -> None:
    """Excel opens no file whose name and content disagree; that must be said before the night of GPUs."""
    macros, plain = by_xlsxwriter(tmp_path, macros=True), by_openpyxl(tmp_path)

    check_keeping(macros, tmp_path / "out.XLSM")
    check_keeping(plain, tmp_path / "out.xlsx")
    for source, out, ending in ((macros, "out.xlsx", "xlsm"), (plain, "out.xlsm", "xlsx")):
        with pytest.raises(WorkbookError, match=rf"must end in \.{ending}"):
            check_keeping(source, tmp_path / out)


@pytest.mark.parametrize("content", [b"NO,question\n1,one?\n", b"PK\x03\x04 cut off", b""])
def test_what_is_no_package_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    """Other kinds of files have nothing that could be kept like this."""
    (tmp_path / "in.xlsx").write_bytes(content)

    with pytest.raises(WorkbookError) as raised:
        check_keeping(tmp_path / "in.xlsx")

    assert "--keep-format" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_package_of_another_kind_is_refused(tmp_path: Path) -> None:
    """A Word file, or a binary workbook, is a zip as well."""
    source = by_hand(tmp_path, SHAPES["bare"])
    repack(source, {"[Content_Types].xml": lambda xml: xml.replace(b"sheet.main", b"template.main")})

    with pytest.raises(WorkbookError, match="needs a source"):
        check_keeping(source)


def test_a_signature_that_no_longer_holds_is_said(tmp_path: Path) -> None:
    """The person signed another content; nothing is taken out of the package without a word, nor left in it."""
    source = repack(save_workbook(tmp_path / "in.xlsx", {"S": [["question"], ["one?"]]}), {"_xmlsignatures/sig1.xml": lambda _: b"<s/>"})

    with begin_run(tmp_path, source, keep_format=True) as store:
        told = write_workbook(store, tmp_path / "out.xlsx")

    assert parts(tmp_path / "out.xlsx")["_xmlsignatures/sig1.xml"] == b"<s/>"
    assert [line for line in told if "signature" in line and "no longer valid" in line] == told


def test_rows_out_of_order_are_refused(tmp_path: Path) -> None:
    """No spreadsheet program writes them, and one pass cannot mend them. That is said before anything is asked."""
    source = by_hand(
        tmp_path, SHAPES["bare"].replace('r="4"', 'r="6"').replace('r="B4"', 'r="B6"').replace('<row r="6"><c><v>', '<row r="4"><c><v>')
    )

    with pytest.raises(WorkbookError, match="out of order"):
        keep(source, answered(0))
    assert not (tmp_path / "home").exists()


def test_a_failure_leaves_the_output_of_before(tmp_path: Path) -> None:
    """The file that is there may be the only copy of last week's answers."""
    source = by_hand(tmp_path, SHAPES["bare"])
    out = keep(source, answered(0))
    before = out.read_bytes()
    broken = re.sub(r"</sheetData>.*", "", SHAPES["bare"]).replace("<sheetData>", "<data>")
    repack(source, {"xl/worksheets/sheet1.xml": lambda _: broken.encode()})

    with pytest.raises(WorkbookError):
        keep(source, answered(1))

    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "in.xlsx", "out.xlsx"]


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


def test_answers_go_beside_merged_cells_and_not_under_them(tmp_path: Path) -> None:
    """Questions that are merged over several columns are usual in Japanese sheets; under them nobody would see an answer."""
    book = openpyxl.Workbook()
    sheet = book.active
    for row, text in enumerate(["質問", "富士山の高さは？", "日本の首都は？"], start=1):
        sheet.cell(row, 1, text)
        sheet.merge_cells(start_row=row, end_row=row, start_column=1, end_column=10)
    book.save(tmp_path / "in.xlsx")

    out = keep(tmp_path / "in.xlsx", answered(0), answered(1))

    row = next(openpyxl.load_workbook(out).worksheets[0].iter_rows(min_row=2, max_row=2, values_only=True))
    assert row[0] == "富士山の高さは？"
    assert row[1:10] == (None,) * 9
    assert row[10] == "42"


def test_a_column_of_cells_that_are_merged_downwards_is_not_free(tmp_path: Path) -> None:
    """Of those only the first would show its answer."""
    book = openpyxl.Workbook()
    sheet = book.active
    for row in (["question", "answer"], ["a"], ["b"], ["c"]):
        sheet.append(row)
    sheet.merge_cells("B2:B4")
    book.save(tmp_path / "in.xlsx")

    out = keep(tmp_path / "in.xlsx", answered(0), answered(1), answered(2))

    rows = list(openpyxl.load_workbook(out).worksheets[0].iter_rows(values_only=True))
    assert rows[0][:3] == ("question", "answer", "answer (phi-4)")
    assert [row[2] for row in rows[1:]] == ["42"] * 3


def test_an_array_formula_is_not_torn(tmp_path: Path) -> None:
    """It stands in one cell and fills its neighbours whenever it is calculated, over whatever stands there."""
    with xlsxwriter.Workbook(str(tmp_path / "in.xlsx")) as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["question", "length", "answer"])
        sheet.write_column(1, 0, ["a", "b"])
        sheet.write_array_formula(1, 1, 2, 2, "{=LEN(A2:A3)*{1,2}}")

    with pytest.raises(WorkbookError, match="cannot replace a formula that B2:C3 share"):
        keep(tmp_path / "in.xlsx", answered(0), overwrite=True)
    beside = keep(tmp_path / "in.xlsx", answered(0))

    assert next(openpyxl.load_workbook(beside).worksheets[0].iter_rows(values_only=True))[3] == "answer (phi-4)"


# -- the pieces of XML


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(["<row r='1'>", "</row>", "<c a='>'/>", "<!-- <c/> -->", "<cc/>", "<![CDATA[<c>]]>", "text", "<?p <c/>?>", "é"])
    ),
    st.integers(1, 9),
)
def test_pieces_joined_are_the_file_wherever_it_is_cut(parts_of_it: list[str], size: int) -> None:
    """A tag may lie across the border of two chunks; no byte may be lost there, and no tag missed."""
    data = "".join(parts_of_it).encode()
    chunks = [data[start : start + size] for start in range(0, len(data), size)]

    pieces = list(cut(chunks, "", ["row", "c"]))

    assert joined(pieces) == data
    assert [p.raw.decode() for p in pieces if isinstance(p, Tag)] == [
        p for p in parts_of_it if p in ("<row r='1'>", "</row>", "<c a='>'/>")
    ]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What openpyxl says of extensions it cannot show is no matter here."""
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="openpyxl")
        yield


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


def test_a_workbook_whose_type_is_that_of_every_xml_part_is_one(tmp_path: Path) -> None:
    """The Open XML SDK writes the workbook's content type as the default of `.xml`."""
    source = by_hand(tmp_path, SHAPES["bare"])
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"

    def default(xml: bytes) -> bytes:
        xml = re.sub(rb'<Override PartName="/xl/workbook.xml"[^>]*/>', b"", xml)
        return xml.replace(b'ContentType="application/xml"', f'ContentType="{kind}"'.encode())

    repack(source, {"[Content_Types].xml": default})
    check_keeping(source, tmp_path / "out.xlsx")

    assert grid(keep(source, answered(0)), "S")[1][:3] == [1, "one?", "42"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples of a property."""
    return tmp_path_factory.mktemp("keeping")


cells_of_a_row = st.lists(
    st.sampled_from(["", "<c{r}/>", '<c{r} t="inlineStr"><is><t>é&lt;</t></is></c>', "<c{r}><v>2</v></c>"]), max_size=5
)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(cells_of_a_row, st.booleans(), st.booleans(), st.booleans()), max_size=8),
    stored=st.sets(st.integers(0, 9)),
    top=st.integers(1, 3),
)
def test_any_sheet_gets_its_answers_and_keeps_its_cells(
    folder: Path, rows: list[tuple[list[str], bool, bool, bool]], stored: set[int], top: int
) -> None:
    """Numbered or not, sparse or not, formatted and empty: no other cell moves, and no answer stands in another row."""
    xml = f'<row r="{top}"><c r="A{top}" t="inlineStr"><is><t>question</t></is></c></row>'
    for number, (cells, numbered, there, separate) in enumerate(rows, start=top + 1):
        if not there and not separate:
            continue  # a row that is not in the file
        content = f'<c r="A{number}" t="inlineStr"><is><t>q{number}</t></is></c>'
        content += "".join(cell.format(r=f' r="{"BCDEF"[place]}{number}"' if numbered else "") for place, cell in enumerate(cells))
        xml += f'<row r="{number}" spans="1:9">{content}</row>' if there else f'<row r="{number}"/>'
    last = top + len(rows) + 1
    xml += f'<row r="{last}"><c t="inlineStr"><is><t>last?</t></is></c></row>'
    source = by_hand(folder, f'<worksheet xmlns="{MAIN}"><sheetData>{xml}</sheetData></worksheet>')
    before = grid(source, "S")
    asked = [row for row in sorted(stored) if row <= len(rows) and before[top + row][0]]

    out = keep(source, *(answered(row, tagged(f"answer {row}")) for row in asked), fresh=(folder / "home").exists())

    after = grid(out, "S")
    width = len(before[0])
    place = after[top - 1].index("answer")
    assert [row[:width] for row in after] == before
    assert [row[place] for row in after[top:]] == [f"answer {row}" if row in asked else "" for row in range(len(rows) + 1)]
    check_lists(out)


def test_a_killed_writer_leaves_the_file_before_as_it_was(tmp_path: Path) -> None:
    """The machine may lose power in the middle of the copy."""
    source = by_xlsxwriter(tmp_path)
    out = keep(source, answered(0), sheet="質問")
    before = out.read_bytes()
    program = """if True:
        import os, pathlib, signal, sys
        from producer.workbook.keeping import Addition, look_at, write_kept
        from producer.workbook.reading import read_sheet
        source, out = map(pathlib.Path, sys.argv[1:])
        sheet = read_sheet(source, "質問")
        def rows():
            for number in range(10):
                yield [str(number)]
            os.kill(os.getpid(), signal.SIGKILL)
        write_kept(source, out, sheet, look_at(source, sheet), [Addition(9, "answer", True)], rows(), [])
    """

    ended = subprocess.run([sys.executable, "-c", program, str(source), str(out)], timeout=60)

    assert ended.returncode == -9
    assert out.read_bytes() == before


def test_a_full_disk_is_one_line_and_leaves_the_output_of_before(tmp_path: Path) -> None:
    """As any place that cannot be written; the answers are in the run store."""
    source = by_xlsxwriter(tmp_path)
    out = keep(source, answered(0), sheet="質問")
    before = out.read_bytes()
    program = """if True:
        import pathlib, resource, signal, sys
        from producer.workbook.keeping import Addition, look_at, write_kept
        from producer.workbook.reading import read_sheet
        from workers.contract.errors import WorkbookError
        source, out = map(pathlib.Path, sys.argv[1:])
        sheet = read_sheet(source, "質問")
        kept = look_at(source, sheet)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
        try:
            write_kept(source, out, sheet, kept, [Addition(9, "answer", True)], ([str(n)] for n in range(sheet.height)), [])
        except WorkbookError as error:
            print(error)
    """

    ended = subprocess.run([sys.executable, "-c", program, str(source), str(out)], timeout=60, capture_output=True, text=True)

    assert (ended.returncode, ended.stdout) == (0, f"cannot write {out}: File too large\n"), ended.stderr
    assert out.read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]
