"""--keep-format on workbooks as people have them, made by several programs: what is not ours comes out as it went in."""

import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import openpyxl
import pytest
import xlsxwriter
from openpyxl.chart import BarChart, Reference
from python_calamine import CalamineWorkbook

from producer.workbook.reading import read_sheet
from tests.kept import LISTS, by_openpyxl, by_xlsxwriter, changed, check_lists, keep, parts, repack
from tests.workbooks import answered, save_workbook, sheet_names, unanswered

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
MICROSOFT = "http://schemas.microsoft.com/office"
QUESTIONS = [["NO", "question", "n"], [1, "one?", 10], [2, "two?", 20], [3, "three?", 30]]


def plain(folder: Path) -> Path:
    return save_workbook(folder / "in.xlsx", {"S": QUESTIONS, "other": [["x"], [1]]})


def replaced(old: bytes, new: str) -> Callable[[bytes], bytes]:
    def change(xml: bytes) -> bytes:
        assert old in xml
        return xml.replace(old, new.encode(), 1)

    return change


def with_parts(path: Path, sheet: int, added: dict[str, tuple[str, str, str]]) -> Path:
    """Give a sheet parts that it relates to: by name their content type, the type of the relation, and their content."""
    types = "".join(f'<Override PartName="/{name}" ContentType="{kind}"/>' for name, (kind, _, _) in added.items())
    lines = "".join(
        f'<Relationship Id="rIdNew{n}" Type="{relation}" Target="/{name}"/>' for n, (name, (_, relation, _)) in enumerate(added.items())
    )
    known = b'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"></Relationships>'
    changes: dict[str, Callable[[bytes], bytes]] = {
        "[Content_Types].xml": replaced(b"</Types>", f"{types}</Types>"),
        f"xl/worksheets/_rels/sheet{sheet}.xml.rels": lambda xml: replaced(b"</Relationships>", f"{lines}</Relationships>")(xml or known),
    }
    contents = {name: content.encode() for name, (_, _, content) in added.items()}
    return repack(path, changes | {name: lambda _, c=content: c for name, content in contents.items()})  # type: ignore[misc]


# -- the workbooks


def with_macros(folder: Path) -> Path:
    return by_xlsxwriter(folder, macros=True)


def threaded_comments(folder: Path) -> Path:
    """As Excel 365 writes them: a note for older programs, the thread, and the persons in it."""
    path = folder / "in.xlsx"
    with xlsxwriter.Workbook(str(path)) as workbook:
        sheet = workbook.add_worksheet("S")
        for row, cells in enumerate(QUESTIONS):
            sheet.write_row(row, 0, cells)
        sheet.write_comment("B2", "[Threaded comment] Is that right?")
    thread = '<threadedComment ref="B2" dT="2026-01-02T03:04:05.00" personId="{0}" id="{1}"><text>Is that right?</text></threadedComment>'
    space = f"{MICROSOFT}/spreadsheetml/2018/threadedcomments"
    return with_parts(
        path,
        1,
        {
            "xl/threadedComments/threadedComment1.xml": (
                "application/vnd.ms-excel.threadedcomments+xml",
                f"{MICROSOFT}/2017/10/relationships/threadedComment",
                f'<ThreadedComments xmlns="{space}">{thread}</ThreadedComments>',
            ),
            "xl/persons/person.xml": (
                "application/vnd.ms-excel.person+xml",
                f"{MICROSOFT}/2017/10/relationships/person",
                f'<personList xmlns="{space}"><person displayName="Sato" id="{{0}}" userId="S" providerId="None"/></personList>',
            ),
        },
    )


def pivot(folder: Path) -> Path:
    """A pivot table on the other sheet over the questions, with its cache."""
    kind, relation = "application/vnd.openxmlformats-officedocument.spreadsheetml.pivot", f"{RELATIONS}/pivot"
    fields = '<cacheField name="NO" numFmtId="0"><sharedItems containsNumber="1" minValue="1" maxValue="3"/></cacheField>'
    cache = (
        f'<cacheSource type="worksheet"><worksheetSource ref="A1:A4" sheet="S"/></cacheSource><cacheFields count="1">{fields}</cacheFields>'
    )
    location = '<location ref="C1:C2" firstHeaderRow="0" firstDataRow="1" firstDataCol="0"/>'
    table = (
        '<pivotFields count="1"><pivotField dataField="1"/></pivotFields><dataFields count="1"><dataField name="Sum" fld="0"/></dataFields>'
    )
    path = with_parts(
        plain(folder),
        2,
        {
            "xl/pivotTables/pivotTable1.xml": (
                f"{kind}Table+xml",
                f"{relation}Table",
                f'<pivotTableDefinition xmlns="{MAIN}" name="p" cacheId="1" dataCaption="v">{location}{table}</pivotTableDefinition>',
            ),
            "xl/pivotCache/pivotCacheDefinition1.xml": (
                f"{kind}CacheDefinition+xml",
                f"{relation}CacheDefinition",
                f'<pivotCacheDefinition xmlns="{MAIN}" recordCount="0" saveData="0">{cache}</pivotCacheDefinition>',
            ),
        },
    )
    to_cache = (
        f'<Relationship Id="rIdCache" Type="{relation}CacheDefinition" Target="pivotCache/pivotCacheDefinition1.xml"/></Relationships>'
    )
    caches = f'<pivotCaches><pivotCache cacheId="1" r:id="rIdCache" xmlns:r="{RELATIONS}"/></pivotCaches></workbook>'
    own = to_cache.replace("pivotCache/", "../pivotCache/").replace(
        "<Relationship ", f'<Relationships xmlns="{RELATIONS_OF_PACKAGE}"><Relationship '
    )
    return repack(
        path,
        {
            "xl/_rels/workbook.xml.rels": replaced(b"</Relationships>", to_cache),
            "xl/workbook.xml": replaced(b"</workbook>", caches),
            "xl/pivotTables/_rels/pivotTable1.xml.rels": lambda _: own.encode(),
        },
    )


RELATIONS_OF_PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"


def protected_and_filtered(folder: Path) -> Path:
    """A form: locked cells, a filter that hides rows, groups, panes, headers and footers for printing."""
    path = folder / "in.xlsx"
    with xlsxwriter.Workbook(str(path)) as workbook:
        sheet = workbook.add_worksheet("S")
        unlocked = workbook.add_format({"locked": False, "num_format": "#,##0.00", "rotation": 30})
        for row, cells in enumerate(QUESTIONS):
            sheet.write_row(row, 0, cells, unlocked)
        sheet.protect("secret", {"autofilter": True})
        sheet.autofilter("A1:C4")
        sheet.filter_column("C", "x > 15")
        sheet.set_row(1, None, None, {"hidden": True, "level": 1})
        sheet.freeze_panes(1, 2)
        sheet.split_panes(15, 8.43)
        sheet.set_header("&Lquestions")
        sheet.repeat_rows(0)
        sheet.print_area("A1:C4")
        sheet.set_h_pagebreaks([2])
        sheet.ignore_errors({"number_stored_as_text": "A1:A4"})
    return path


def tables(folder: Path) -> Path:
    """The questions are a table with a calculated column and totals."""
    path = folder / "in.xlsx"
    with xlsxwriter.Workbook(str(path)) as workbook:
        sheet = workbook.add_worksheet("S")
        columns = [
            {"header": "NO", "total_string": "Total"},
            {"header": "question"},
            {"header": "n", "total_function": "sum", "total_value": 60},
            {"header": "double", "formula": "=[@n]*2"},
        ]
        sheet.add_table(
            "A1:D5", {"data": [[*row, 0] for row in QUESTIONS[1:]], "columns": columns, "total_row": True, "style": "Table Style Medium 3"}
        )
    return path


def extensions(folder: Path) -> Path:
    """What Excel 2010 and later add everywhere: prefixes that are declared and ignorable, heights, lists of extensions."""
    space = (
        'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006" mc:Ignorable="x14ac xr"'
        f' xmlns:x14ac="{MICROSOFT}/spreadsheetml/2009/9/ac" xmlns:xr="{MICROSOFT}/spreadsheetml/2014/revision"'
        ' xr:uid="{00000000-0001-0000-0000-000000000000}"'
    )
    listed = (
        '<extLst><ext uri="{CCE6A557-97BC-4b89-ADB6-D9C93CAAB3DF}"'
        f' xmlns:x14="{MICROSOFT}/spreadsheetml/2009/9/main"><x14:dataValidations/></ext></extLst>'
    )

    def extend(xml: bytes) -> bytes:
        xml = re.sub(rb"<row ", rb'<row x14ac:dyDescent="0.25" ', xml)
        xml = xml.replace(b"<worksheet ", f"<worksheet {space} ".encode(), 1)
        return xml.replace(b"</worksheet>", f"{listed}</worksheet>".encode())

    return repack(plain(folder), {"xl/worksheets/sheet1.xml": extend})


def absolute_names(folder: Path) -> Path:
    """Targets from the root of the package, upper case in the lists, and a sheet that lies elsewhere."""
    path = plain(folder)
    content = parts(path)
    content["odd/Place/Data.xml"] = content.pop("xl/worksheets/sheet1.xml")
    for name, old, new in (
        ("xl/_rels/workbook.xml.rels", b'Target="worksheets/sheet1.xml"', b'Target="/odd/Place/Data.xml"'),
        ("[Content_Types].xml", b"/xl/worksheets/sheet1.xml", b"/odd/place/DATA.xml"),
        ("xl/_rels/workbook.xml.rels", b'Target="styles.xml"', b'Target="/xl/Styles.xml"'),
    ):
        assert old in content[name]
        content[name] = content[name].replace(old, new)
    with zipfile.ZipFile(path, "w") as package:
        for name, part in content.items():
            package.writestr(name, part)
    return path


def prefixed(folder: Path) -> Path:
    """Every element with a prefix, as some libraries write; and another for what is ours in the workbook."""

    def prefix(xml: bytes) -> bytes:
        xml = re.sub(rb"<(/?)(?=[A-Za-z])(?!\w+:)", rb"<\1x:", xml)
        return xml.replace(b"xmlns=", b"xmlns:x=", 1)

    return repack(
        plain(folder), {name: prefix for name in ("xl/worksheets/sheet1.xml", "xl/workbook.xml", "xl/styles.xml", "xl/sharedStrings.xml")}
    )


def prefix_in_each_sheet(folder: Path) -> Path:
    """The prefix of relations is declared where it is used, as the Open XML SDK does."""

    def declare(xml: bytes) -> bytes:
        xml = xml.replace(f' xmlns:r="{RELATIONS}"'.encode(), b"", 1)
        return re.sub(rb' r:id="(\w+)"', rb' d4p1:id="\1" xmlns:d4p1="' + RELATIONS.encode() + b'"', xml)

    return repack(plain(folder), {"xl/workbook.xml": declare})


def bare(folder: Path) -> Path:
    """Neither shared strings nor styles, as a script streams it."""
    path = folder / "in.xlsx"
    with xlsxwriter.Workbook(str(path), {"constant_memory": True}) as workbook:
        sheet = workbook.add_worksheet("S")
        for row, cells in enumerate(QUESTIONS):
            sheet.write_row(row, 0, cells)
    content = parts(path)
    for name in ("xl/styles.xml", "xl/sharedStrings.xml"):
        if content.pop(name, None) is not None:
            for lists in ("[Content_Types].xml", "xl/_rels/workbook.xml.rels"):
                content[lists] = re.sub(rb"<(?:Override|Relationship) [^<>]*" + name[3:].encode() + rb"[^<>]*/>", b"", content[lists])
    with zipfile.ZipFile(path, "w") as package:
        for name, part in content.items():
            package.writestr(name, part)
    return path


def calculated(folder: Path) -> Path:
    """Formulas with the order in which they are calculated, between sheets, with arrays, and a link to another file."""
    path = folder / "in.xlsx"
    with xlsxwriter.Workbook(str(path)) as workbook:
        sheet, other = workbook.add_worksheet("S"), workbook.add_worksheet("other")
        for row, cells in enumerate(QUESTIONS):
            sheet.write_row(row, 0, cells)
        sheet.write_formula("D2", "=SUM(C2:C4)", None, 60)
        sheet.write_dynamic_array_formula("E2:E4", "=SORT(C2:C4,1,-1)", None, 30)
        sheet.write_formula("F2", "=1/0", None, "#DIV/0!")
        other.write_formula("A1", "=S!D2*2", None, 120)
    chain = f'<calcChain xmlns="{MAIN}"><c r="D2" i="1"/><c r="E2"/><c r="A1" i="2"/></calcChain>'
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.calcChain+xml"
    to_chain = f'<Relationship Id="rIdChain" Type="{RELATIONS}/calcChain" Target="calcChain.xml"/></Relationships>'
    return repack(
        path,
        {
            "xl/calcChain.xml": lambda _: chain.encode(),
            "xl/_rels/workbook.xml.rels": replaced(b"</Relationships>", to_chain),
            "[Content_Types].xml": replaced(b"</Types>", f'<Override PartName="/xl/calcChain.xml" ContentType="{kind}"/></Types>'),
        },
    )


def charts(folder: Path) -> Path:
    """A chart beside the questions, and a sheet that is one."""
    workbook = openpyxl.Workbook()
    sheet = workbook.worksheets[0]
    sheet.title = "S"
    for row in QUESTIONS:
        sheet.append(row)
    chart = BarChart()
    chart.add_data(Reference(sheet, min_col=3, min_row=1, max_row=4), titles_from_data=True)
    sheet.add_chart(chart, "E2")
    own = BarChart()
    own.add_data(Reference(sheet, min_col=3, min_row=1, max_row=4))
    workbook.create_chartsheet("chart").add_chart(own)
    workbook.save(folder / "in.xlsx")
    return folder / "in.xlsx"


def by_libreoffice(make: Callable[[Path], Path]) -> Callable[[Path], Path]:
    def resave(folder: Path) -> Path:
        if shutil.which("soffice") is None:
            pytest.skip("LibreOffice is not installed")
        source = make(folder)
        convert(folder, "xlsx", source)
        return (folder / "converted" / "in.xlsx").rename(source)

    return resave


def convert(folder: Path, ending: str, *paths: Path) -> None:
    command = ["soffice", f"-env:UserInstallation=file://{folder}/profile", "--headless", "--convert-to", ending, "--outdir"]
    subprocess.run([*command, folder / "converted", *paths], check=True, capture_output=True, timeout=200)


WORKBOOKS: dict[str, Callable[[Path], Path]] = {
    "everything of XlsxWriter": by_xlsxwriter,
    "macros": with_macros,
    "openpyxl": by_openpyxl,
    "everything, saved by LibreOffice": by_libreoffice(by_xlsxwriter),
    "openpyxl, saved by LibreOffice": by_libreoffice(by_openpyxl),
    "threaded comments": threaded_comments,
    "a pivot table": pivot,
    "protected and filtered": protected_and_filtered,
    "a table": tables,
    "extensions": extensions,
    "absolute names": absolute_names,
    "prefixes": prefixed,
    "a prefix in each sheet": prefix_in_each_sheet,
    "neither strings nor styles": bare,
    "calculated": calculated,
    "charts": charts,
}


def question_sheet(path: Path) -> str:
    return next(name for name in ("質問", "Q & A <1>", "S") if name in CalamineWorkbook.from_path(str(path)).sheet_names)


def values(path: Path, sheet: str) -> dict[tuple[int, int], object]:
    """Return what a sheet shows, by row and column."""
    rows = CalamineWorkbook.from_path(str(path)).get_sheet_by_name(sheet).to_python(skip_empty_area=False)
    return {(i, k): cell for i, row in enumerate(rows) for k, cell in enumerate(row) if cell != ""}


def check_values(source: Path, out: Path, questions: str) -> None:
    """Every cell of the source is in the output as it was; beside the questions stand the answers."""
    for name in CalamineWorkbook.from_path(str(source)).sheet_names:
        before, after = values(source, name), values(out, name)
        if name == questions:
            assert list(after.values()).count("42") == 1
            after = {place: cell for place, cell in after.items() if place in before}
        assert after == before


@pytest.mark.parametrize("make", WORKBOOKS.values(), ids=WORKBOOKS)
def test_a_styled_workbook_keeps_everything(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    """Part for part to the byte, but for the sheet with the questions and the lists of parts; and value for value."""
    source = make(tmp_path)
    known, name = set(parts(source)), question_sheet(source)

    out = keep(source, answered(0), unanswered(1), out=f"out{source.suffix}", sheet=name)

    assert len(changed(source, out) - LISTS) == 1
    assert known <= set(parts(out))
    assert len(set(parts(out)) - known) == 2
    check_lists(out)
    check_values(source, out, name)
    assert sheet_names(out)[: len(sheet_names(source))] == sheet_names(source)
    for part in [part for part in parts(out) if part.endswith((".xml", ".rels"))]:
        ElementTree.fromstring(parts(out)[part])
    assert [row[read_sheet(out, name).headers.index("outcome")] for row in list(read_sheet(out, name).rows())[:2]] == ["answered", "failed"]


@pytest.mark.skipif(shutil.which("soffice") is None, reason="LibreOffice is not installed")
def test_libreoffice_shows_the_same_in_all_of_them(tmp_path: Path) -> None:
    """A program that is not ours opens what we write, and sees every value of the source."""
    pairs: list[tuple[Path, Path, str]] = []
    for number, make in enumerate(make for name, make in WORKBOOKS.items() if "LibreOffice" not in name):
        (folder := tmp_path / str(number)).mkdir()
        source = make(folder)
        name = question_sheet(source)
        out = keep(source, answered(0), unanswered(1), out=f"out{source.suffix}", sheet=name)
        pairs.append((source.rename(tmp_path / f"{number}-in{source.suffix}"), out.rename(tmp_path / f"{number}-out{out.suffix}"), name))

    convert(tmp_path, "ods", *(path for source, out, _ in pairs for path in (source, out)))

    for source, out, name in pairs:
        check_values(*(tmp_path / "converted" / f"{path.stem}.ods" for path in (source, out)), name)
