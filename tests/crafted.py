"""Spreadsheets made part by part, as no library would write them."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.workbooks import save_workbook

QUESTIONS = [["question"], ["What is it?"]]
OFFICE = 'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"'
TABLE = 'xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"'
CALC = 'xmlns:calcext="urn:org:documentfoundation:names:experimental:calc:xmlns:calcext:1.0"'


def save_ods(path: Path, rows: str, name: str = "Sheet1") -> Path:
    """Save a sheet of OpenDocument, given as the XML of its rows."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet", zipfile.ZIP_STORED)
        package.writestr(
            "META-INF/manifest.xml",
            '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0">'
            '<manifest:file-entry manifest:full-path="/" manifest:media-type="application/vnd.oasis.opendocument.spreadsheet"/>'
            "</manifest:manifest>",
        )
        package.writestr(
            "content.xml",
            f'<?xml version="1.0" encoding="UTF-8"?><office:document-content {OFFICE} {TABLE} {CALC} office:version="1.3"><office:body>'
            f'<office:spreadsheet><table:table table:name="{name}">{rows}</table:table></office:spreadsheet></office:body>'
            "</office:document-content>",
        )
    return path


def ods_row(*cells: str, more: str = "") -> str:
    return f"<table:table-row{more}>{''.join(cells)}</table:table-row>"


def ods_cell(text: str, kind: str = "string", value: str = "", more: str = "") -> str:
    return f'<table:table-cell office:value-type="{kind}" {value} {more}><text:p>{text}</text:p></table:table-cell>'


def patched(path: Path, change: Callable[[dict[str, bytes]], Any]) -> Path:
    """Change the parts of a package."""
    with zipfile.ZipFile(path) as package:
        parts = {name: package.read(name) for name in package.namelist()}
    change(parts)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in parts.items():
            package.writestr(name, content)
    return path


def with_sheet(path: Path, data: str, root: str = "worksheet", more: str = "") -> Path:
    """Save a workbook whose only sheet has this XML for its data."""
    save_workbook(path, {"S": QUESTIONS})
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'

    def change(parts: dict[str, bytes]) -> None:
        parts["xl/worksheets/sheet1.xml"] = f"<{root} {space}>{more}<sheetData>{data}</sheetData></{root}>".encode()

    return patched(path, change)


def text_cell(place: str, text: str) -> str:
    return f'<c r="{place}" t="inlineStr"><is><t>{text}</t></is></c>'
