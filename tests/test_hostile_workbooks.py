"""Workbooks that accidents and enemies make: read, or refused in one line, before they cost anything."""

import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from producer.workbook.reading import read_sheet
from producer.workbook.spreadsheets import SPARSE_CELLS
from tests.crafted import QUESTIONS, ods_cell, ods_row, patched, save_ods, text_cell, with_sheet
from tests.workbooks import save_workbook
from workers.contract.errors import WorkbookError

#: What a chain of sectors ends with, and what belongs to none.
END, FREE = 0xFFFFFFFE, 0xFFFFFFFF


def limited(path: Path, megabytes: int = 800) -> str:
    """Read a workbook in a process of its own; return what it said. Fails if it took more memory or died."""
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from producer.workbook.reading import read_sheet\n"
        "from workers.contract.errors import WorkbookError\n"
        "try: print('read', read_sheet(Path(sys.argv[1])).height)\n"
        "except WorkbookError as error: print('refused', error)\n"
        # Not getrusage of itself: that counts what the test process had when it began this one.
        "own = next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    said, peak = done.stdout.splitlines()
    assert int(peak) < megabytes * 1024
    return said


def stray_value(path: Path) -> None:
    with_sheet(path, f'<row r="1">{text_cell("A1", "question")}</row><row r="1048576">{text_cell("XFD1048576", "x")}</row>')


def stray_value_without_places(path: Path) -> None:
    with_sheet(path, '<row r="1"><c t="str"><v>question</v></c></row><row r="1048576"><c r="XFD1048576" t="str"><v>x</v></c></row>')


def value_beyond_any_sheet(path: Path) -> None:
    with_sheet(path, f'<row r="1">{text_cell("A1", "question")}</row><row r="2">{text_cell("ZZZZZ99999", "x")}</row>')


def stray_value_in_ods(path: Path) -> None:
    save_ods(
        path,
        ods_row(ods_cell("question"))
        + ods_row("<table:table-cell/>", more=' table:number-rows-repeated="900000"')
        + ods_row('<table:table-cell table:number-columns-repeated="90"/>', ods_cell("x")),
    )


def bomb(path: Path) -> None:
    save_workbook(path, {"S": QUESTIONS})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as package, package.open("xl/media/a.bin", "w", force_zip64=True) as part:
        for _ in range(300):
            part.write(bytes(1 << 20))


def bomb_that_lies(path: Path) -> None:
    save_workbook(path, {"S": QUESTIONS})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as package, package.open("xl/sharedStrings2.xml", "w") as part:
        for _ in range(64):
            part.write(b" " * (1 << 20))
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<I", 64 << 20), struct.pack("<I", 1000)))


def xml_bomb(path: Path) -> None:
    entities = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10 if i else "x" * 100}">' for i in range(9))
    with_doctype(path, f"[{entities}]", "&a8;")


def external_entity(path: Path) -> None:
    with_doctype(path, '[<!ENTITY e SYSTEM "file:///etc/passwd">]', "&e;")


def with_doctype(path: Path, doctype: str, text: str) -> None:
    save_workbook(path, {"S": QUESTIONS})
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    xml = f'<!DOCTYPE sst {doctype}><sst {space} count="2" uniqueCount="2"><si><t>question</t></si><si><t>{text}</t></si></sst>'
    patched(path, lambda parts: parts.update({"xl/sharedStrings.xml": xml.encode()}))


def endless_old_excel(path: Path) -> None:
    """A chain of sectors that leads back to itself: the library follows it until there is no memory left."""
    numbers = (0x3E, 3, 0xFFFE, 9, 6, 0, 1, 1, 0, 4096, END, 0, END, 0)
    header = struct.pack("<8s16x5H6x9I", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", *numbers)
    header += struct.pack("<109I", 0, *[FREE] * 108)
    table = struct.pack("<128I", 0xFFFFFFFD, 1, *[FREE] * 126)
    path.write_bytes(header + table + "Workbook".encode("utf-16-le").ljust(512, b"\0"))


def texts_that_are_not_there(path: Path) -> None:
    """The library makes room for them first: 48 GB."""
    save_workbook(path, {"S": QUESTIONS})
    patched(
        path,
        lambda parts: parts.update({"xl/sharedStrings.xml": parts["xl/sharedStrings.xml"].replace(b'eCount="2"', b'eCount="2147483648"')}),
    )


def parts_larger_than_the_file(path: Path) -> None:
    """Python makes room for a packed part before it reads it: 4 GB."""
    with zipfile.ZipFile(save_workbook(path, {"S": QUESTIONS})) as package:
        size = struct.pack("<I", package.getinfo("xl/styles.xml").compress_size)
    content = path.read_bytes()
    directory = content.index(b"PK\x01\x02")
    path.write_bytes(content[:directory] + content[directory:].replace(size, b"\xf0\xff\xff\xff", 1))


def strange_encoding(path: Path) -> None:
    save_ods(path, ods_row(ods_cell("question")))
    patched(path, lambda parts: parts.update({"content.xml": parts["content.xml"].replace(b"UTF-8", b"UTF-9")}))


def cell_outside_a_row(path: Path) -> None:
    save_ods(path, ods_cell("question") + ods_row(ods_cell("question")) + ods_row(ods_cell("a")))


def protected_ods(path: Path) -> None:
    """What LibreOffice saves with a password: a list of parts that says so, and noise."""
    save_ods(path, ods_row(ods_cell("question")))
    said = b'<manifest:file-entry manifest:full-path="content.xml"><manifest:encryption-data/></manifest:file-entry></manifest:manifest>'
    patched(
        path,
        lambda parts: parts.update(
            {
                "content.xml": bytes(range(256)) * 4,
                "META-INF/manifest.xml": parts["META-INF/manifest.xml"].replace(b"</manifest:manifest>", said),
            }
        ),
    )


def sheet_that_stands_there_twice(path: Path) -> None:
    stray_value(path)
    with zipfile.ZipFile(path) as package:
        content = package.read("xl/worksheets/sheet1.xml")
    with_sheet(path, f'<row r="1">{text_cell("A1", "question")}</row>')
    with zipfile.ZipFile(path, "a") as package:
        package.writestr("xl/Worksheets/sheet1.xml", content)


def empty_formatted_rows(path: Path) -> None:
    rows = (f'<row r="{i}" s="1" customFormat="1"><c r="A{i}" s="1"/><c r="B{i}" s="1"/></row>' for i in range(3, 1_000_001))
    with_sheet(path, f'<row r="1">{text_cell("A1", "question")}</row><row r="2">{text_cell("A2", "a")}</row>' + "".join(rows))


def repeated_empty_rows(path: Path) -> None:
    empty = ods_row('<table:table-cell table:number-columns-repeated="16384"/>', more=' table:number-rows-repeated="1048574"')
    save_ods(path, ods_row(ods_cell("question")) + ods_row(ods_cell("a")) + empty)


def repeated_values(path: Path) -> None:
    many = ods_cell("a", more='table:number-columns-repeated="16384"')
    save_ods(path, ods_row(ods_cell("question")) + ods_row(many, more=' table:number-rows-repeated="1048575"'))


def one_long_text_in_many_cells(path: Path) -> None:
    """A kilobyte of a file; each cell gets its own copy: 10 GB."""
    save_workbook(path, {"S": QUESTIONS})
    rows = "".join(f'<row r="{i}"><c r="A{i}" t="s"><v>{min(i - 1, 1)}</v></c></row>' for i in range(1, 10_001))
    with_sheet(path, rows)
    patched(
        path, lambda parts: parts.update({"xl/sharedStrings.xml": parts["xl/sharedStrings.xml"].replace(b"What is it?", b"x" * 1_000_000)})
    )


def long_text_repeated(path: Path) -> None:
    many = ods_cell("x" * 100_000, more='table:number-columns-repeated="100"')
    save_ods(path, ods_row(ods_cell("question")) + ods_row(many, more=' table:number-rows-repeated="20000"'))


def endless_styles(path: Path) -> None:
    """The library holds every format there is; 26 MB of a file were 830 MB in memory."""
    save_workbook(path, {"S": QUESTIONS})
    formats = b"".join(b'<numFmt numFmtId="%d" formatCode="0.%d"/>' % (number, number) for number in range(200, 1_600_200))
    patched(path, lambda parts: parts.update({"xl/styles.xml": parts["xl/styles.xml"].replace(b"<fonts", formats + b"<fonts", 1)}))


def wide_text(path: Path) -> None:
    path.write_text("question,b\n" + "a," * 3_000_000 + "\n")


def wide_text_over_lines(path: Path) -> None:
    path.write_text("question,b\n" + '"\n",' * 20_000 + "\n")


def empty_lines(path: Path) -> None:
    path.write_text("question,b\na,b\n" + "\n" * 2_000_000 + "c,d\n")


def dictionary(path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"question": pyarrow.array(["x" * 1_000_000]).take(pyarrow.array([0] * 1000))}), path)


def nested_dictionary(path: Path) -> None:
    row = [{"role": "user", "content": "x" * 1_000_000}]
    pyarrow.parquet.write_table(pyarrow.table({"question": ["a"] * 400, "turns": [row] * 400}), path, dictionary_pagesize_limit=1 << 22)


def many_parquet_columns(path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"question": ["a"], **{f"c{i}": [1] for i in range(16_384)}}), path)


ODD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a stray value in the last cell": (stray_value, "reaches over 1,048,576 rows and 16,384 columns"),
    "a stray value among cells without places": (stray_value_without_places, "reaches over 1,048,576 rows"),
    "a value beyond any sheet": (value_beyond_any_sheet, "cells where no sheet has any"),
    "a stray value in an .ods": (stray_value_in_ods, "reaches over 900,002 rows and 91 columns"),
    "a zip bomb": (bomb, "zip bomb"),
    "a zip bomb with a false directory": (bomb_that_lies, "zip bomb"),
    "an XML bomb": (xml_bomb, "document type definition"),
    "an external entity": (external_entity, "document type definition"),
    "parts larger than the file": (parts_larger_than_the_file, "says that it is larger than it is"),
    "a list that announces more texts than it has": (texts_that_are_not_there, "announces 2147483648 texts"),
    "an old Excel file without an end": (endless_old_excel, "is a damaged old Excel file"),
    "an encoding that nobody knows": (strange_encoding, "is a damaged workbook"),
    "a cell outside of a row": (cell_outside_a_row, "read 1"),
    "a protected .ods": (protected_ods, "protected with a password"),
    "a sheet that stands there twice": (sheet_that_stands_there_twice, "two parts of the same name"),
    "a million empty formatted rows": (empty_formatted_rows, "read 1"),
    "an .ods with a million repeated empty rows": (repeated_empty_rows, "read 1"),
    "an .ods with one value repeated": (repeated_values, "reaches over 1,048,576 rows"),
    "an .ods with a long text repeated": (long_text_repeated, "more than can be read"),
    "one long text in many cells": (one_long_text_in_many_cells, "more than can be read"),
    "a million formats": (endless_styles, "xl/styles.xml has"),
    "a row of millions of cells": (wide_text, "the row in line 2 has more than 16,384 cells"),
    "a row of many cells over many lines": (wide_text_over_lines, "has more than 16,384 cells"),
    "millions of empty lines": (empty_lines, "empty rows one after the other"),
    "a .parquet of one long text": (dictionary, "times its size"),
    "a .parquet of one long text in lists": (nested_dictionary, "times its size"),
    "a .parquet of many columns": (many_parquet_columns, "has 16,385 columns"),
}


@pytest.mark.parametrize(("make", "expected"), ODD.values(), ids=ODD)
def test_an_odd_workbook_costs_little(tmp_path: Path, make: Callable[[Path], Any], expected: str) -> None:
    """Under 800 MB and 20 s, whatever somebody sends: read right, or refused in one line."""
    path = tmp_path / "in.xlsx"
    make(path)

    assert expected in limited(path)


def test_texts_that_outgrow_their_dictionary_take_little_memory(tmp_path: Path) -> None:
    """As every program writes a column of questions, in one group: 300 MB of them, which nobody needs all at once."""
    path = tmp_path / "in.parquet"
    texts = pyarrow.array([f"{row} " + "question " * 100 for row in range(300_000)])
    pyarrow.parquet.write_table(
        pyarrow.table({"id": range(300_000), "text": texts, "question": ["What?"] * 300_000}), path, row_group_size=300_000
    )

    assert limited(path, megabytes=400) == "read 300000"


OTHERS: Mapping[str, tuple[bytes, str]] = {
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(64), "a picture"),
    "a photograph": (b"\xff\xd8\xff\xe0" + bytes(64), "a picture"),
    "a PDF": (b"%PDF-1.7\n", "a PDF"),
    "a page": (b"\xef\xbb\xbf\n<html><table></table></html>", "HTML"),
    "a gzip": (b"\x1f\x8b\x08" + bytes(64), "gzip"),
    "noise": (bytes(range(256)), "something else"),
    "text in UTF-16 without its mark": ("question\nWhat?\n".encode("utf-16-le"), "something else"),
    "blanks": (b"\n \n", "an empty file"),
}


@pytest.mark.parametrize(("content", "helpful"), OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("name", ["in.xlsx", "in.csv"])
def test_what_is_no_workbook_is_called_by_its_name(tmp_path: Path, content: bytes, helpful: str, name: str) -> None:
    """Whoever dragged the wrong file should read which one it was."""
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(WorkbookError, match=helpful) as raised:
        read_sheet(path)

    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(("part", "helpful"), [("word/document.xml", "a Word document"), ("xl/workbook.bin", "xlsb"), ("a", "a zip")])
def test_another_package_is_called_by_its_name(tmp_path: Path, part: str, helpful: str) -> None:
    """They are zip files as workbooks are."""
    path = tmp_path / "in.xlsx"
    with zipfile.ZipFile(path, "w") as package:
        package.writestr(part, "x")

    with pytest.raises(WorkbookError, match=helpful):
        read_sheet(path)


def cuts(content: bytes) -> Iterator[bytes]:
    """Yield damaged copies: cut short, and with a byte changed every so often."""
    for part in range(1, 20):
        yield content[: len(content) * part // 20]
    for place in range(0, len(content), max(len(content) // 60, 1)):
        yield content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]


def test_a_damaged_workbook_is_read_or_refused_in_one_line(tmp_path: Path) -> None:
    """A stick was pulled out too early; there is no traceback in that."""
    whole = save_workbook(tmp_path / "whole.xlsx", {"S": [["question", "n"], *([f"q{i}", i] for i in range(200))]}).read_bytes()
    path = tmp_path / "in.xlsx"
    said: list[str] = []

    for content in cuts(whole):
        path.write_bytes(content)
        try:
            read_sheet(path)
        except WorkbookError as error:
            said.append(str(error))

    assert len(said) > 20
    assert [line for line in said if len(line.splitlines()) != 1] == []


def test_a_full_sheet_may_be_large(tmp_path: Path) -> None:
    """The guard against stray values must not refuse what somebody filled."""
    width = SPARSE_CELLS // 1_000_000 + 1
    row = "".join(f'<c r="{chr(65 + i)}{{0}}"><v>1</v></c>' for i in range(width))
    data = f'<row r="1">{text_cell("A1", "question")}</row>' + "".join(f'<row r="{i}">{row.format(i)}</row>' for i in (2, 3))
    path = with_sheet(tmp_path / "in.xlsx", data)

    assert len(read_sheet(path).headers) == width
