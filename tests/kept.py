"""Workbooks that are to keep their format, as people have them, and what of one has changed."""

import datetime
import posixpath
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import openpyxl
import xlsxwriter
from openpyxl.comments import Comment
from openpyxl.formatting.rule import CellIsRule
from openpyxl.styles import Alignment, Border, Font, PatternFill, Side
from openpyxl.workbook.defined_name import DefinedName
from openpyxl.worksheet.datavalidation import DataValidation
from openpyxl.worksheet.table import Table

from producer.runs import RunStore
from producer.workbook.assembly import write_workbook
from tests.workbooks import begin_run
from workers.contract.messages import Answer

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
