"""Real files to begin with: every format that is read, as several programs write it."""

import datetime
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow
import pyarrow.parquet
import xlsxwriter
import xlwt
from openpyxl.comments import Comment
from openpyxl.worksheet.table import Table

ROWS: list[list[Any]] = [
    ["NO", "質問", "due", "n", "ok"],
    [1, "日本の首都は?", datetime.datetime(2026, 1, 2, 3, 4, 5), 2.5, True],  # noqa: DTZ001 - a spreadsheet's
    [2, "two\nlines", datetime.date(1999, 12, 31), -1e300, False],
    [3, "", datetime.time(12, 30), 0, True],
    [4, "=1+1 & <tag> \"quoted\", 'so'", datetime.timedelta(hours=30), 2**53, ""],
    ["", "last _x000D_ 🙂", "", "", ""],
]


def by_xlsxwriter(path: Path) -> None:
    with xlsxwriter.Workbook(str(path), {"strings_to_formulas": False}) as workbook:
        cover, sheet, hidden = (workbook.add_worksheet(name) for name in ("cover", "質問", "hidden"))
        cover.write("A1", "title")
        hidden.hide()
        date = workbook.add_format({"num_format": "yyyy-mm-dd hh:mm"})
        for row, cells in enumerate(ROWS):
            for column, cell in enumerate(cells):
                if cell != "":
                    sheet.write(row, column, cell, date if isinstance(cell, datetime.date | datetime.time) else None)
        sheet.write_formula("F2", "=LEN(B2)", None, 7)
        sheet.write_formula("F3", "=NA()", None, "#N/A")
        sheet.write_array_formula("G2:G3", "{=A2:A3*2}", None, 2)
        sheet.merge_range("A9:B10", "merged")
        sheet.add_table("I1:J4", {"data": [["a", 1], ["b", 2]], "columns": [{"header": "x"}, {"header": "y"}], "total_row": True})
        sheet.write_comment("B2", "note")
        sheet.freeze_panes(1, 0)
        workbook.define_name("area", "=質問!$A$1:$B$4")


def streamed_by_xlsxwriter(path: Path) -> None:
    with xlsxwriter.Workbook(str(path), {"constant_memory": True, "date_1904": True}) as workbook:
        sheet = workbook.add_worksheet()
        for row, cells in enumerate(ROWS):
            for column, cell in enumerate(cells):
                sheet.write(row, column, str(cell))


def by_openpyxl(path: Path) -> None:
    workbook = openpyxl.Workbook()
    sheet = workbook.worksheets[0]
    for row in ROWS:
        sheet.append([cell if cell != "" else None for cell in row])
    sheet["B2"].comment = Comment("note", "someone")
    sheet["F2"] = "=SUM(A2:A5)"
    sheet.add_table(Table(displayName="questions", ref="A1:E5"))
    workbook.create_sheet("other").sheet_state = "veryHidden"
    workbook.save(path)


def by_xlwt(path: Path) -> None:
    workbook = xlwt.Workbook()
    sheet = workbook.add_sheet("質問")
    date = xlwt.easyxf(num_format_str="YYYY-MM-DD")
    for row, cells in enumerate(ROWS):
        for column, cell in enumerate(cells):
            if isinstance(cell, datetime.timedelta):
                cell = cell.total_seconds()
            sheet.write(row, column, cell, date if isinstance(cell, datetime.date | datetime.time) else xlwt.Style.default_style)
    sheet.write(1, 6, xlwt.Formula("A2+1"))
    sheet.row(2).set_cell_error(6, 0x2A)
    sheet.write(3, 6, -0.5, date)
    workbook.save(str(path))


def by_pyarrow(path: Path) -> None:
    columns = {
        "question": ["a", None, "c"],
        "n": [1, 2**60, None],
        "at": [datetime.datetime(2026, 1, 1), None, datetime.datetime(1, 1, 1)],  # noqa: DTZ001 - as above
        "nested": [{"a": [1, None]}, None, {"a": []}],
        "messages": [[{"role": "user", "content": "a"}], [], None],
        "raw": [b"\xff", b"", None],
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=2)


def as_text(delimiter: str, encoding: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        rows = [
            ['"' + str(cell).replace('"', '""') + '"' if "\n" in str(cell) else str(cell).replace("🙂", "") for cell in row] for row in ROWS
        ]
        path.write_bytes("\r\n".join(delimiter.join(row) for row in rows).encode(encoding))

    return write


def as_json_lines(path: Path) -> None:
    objects = [dict(zip(["NO", "question", "due", "n", "ok"], row, strict=True)) for row in ROWS[1:]]
    path.write_text("".join(json.dumps(one, default=str, ensure_ascii=False) + "\n" for one in objects))


MAKERS: dict[str, Callable[[Path], None]] = {
    "xlsxwriter.xlsx": by_xlsxwriter,
    "streamed.xlsx": streamed_by_xlsxwriter,
    "openpyxl.xlsx": by_openpyxl,
    "xlwt.xls": by_xlwt,
    "pyarrow.parquet": by_pyarrow,
    "comma.csv": as_text(",", "utf-8"),
    "tab.tsv": as_text("\t", "cp932"),
    "semicolon.csv": as_text(";", "utf-16"),
    "euc.csv": as_text(",", "euc_jp"),
    "lines.jsonl": as_json_lines,
}


def by_libreoffice(folder: Path) -> Iterator[Path]:
    """Yield what LibreOffice makes of the first workbook, if it is installed."""
    if shutil.which("soffice") is None:
        return
    for ending in ("ods", "xls", "xlsx", "fods"):
        command = ["soffice", f"-env:UserInstallation=file://{folder}/profile", "--headless", "--convert-to", ending, "--outdir"]
        subprocess.run([*command, folder / "libreoffice", folder / "xlsxwriter.xlsx"], check=True, capture_output=True, timeout=120)
        yield folder / "libreoffice" / f"xlsxwriter.{ending}"


def make_corpus(folder: Path) -> dict[str, bytes]:
    """Return the files by name."""
    for name, make in MAKERS.items():
        make(folder / name)
    corpus = {name: (folder / name).read_bytes() for name in MAKERS}
    return corpus | {f"libreoffice{path.suffix}": path.read_bytes() for path in by_libreoffice(folder)}
