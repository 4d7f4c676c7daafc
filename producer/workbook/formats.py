"""What a file is, by its content; its name only helps where text could be several things."""

import codecs
import json
import mmap
import zipfile
from enum import StrEnum
from pathlib import Path

from workers.contract.errors import WorkbookError


class Format(StrEnum):
    """What can be read."""

    XLSX = "xlsx"
    XLS = "xls"
    ODS = "ods"
    DELIMITED = "csv"
    JSON_LINES = "jsonl"
    PARQUET = "parquet"


READABLE = ".xlsx, .xlsm, .xls, .ods, .csv, .tsv, .jsonl or .parquet"

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
#: Bytes that files begin with which people give by mistake.
_OTHERS = {
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
    b"RIFF": "a picture or a sound",
    b"BM": "a picture",
    b"\x1f\x8b": "a compressed file (gzip)",
    b"BZh": "a compressed file (bzip2)",
    b"\xfd7zXZ": "a compressed file (xz)",
    b"7z\xbc\xaf": "a compressed file (7z)",
    b"Rar!": "a compressed file (rar)",
    b"SQLite": "a database",
    b"{\\rtf": "a text document (RTF)",
}
#: Parts of zip packages that are no workbooks.
_PACKAGES = {
    "xl/workbook.bin": "a binary workbook (.xlsb)",
    "word/document.xml": "a Word document",
    "ppt/presentation.xml": "a PowerPoint presentation",
    "index/document.iwa": "a Numbers or Pages document",
}
_HEAD = 1 << 16
#: The largest part of a text that null characters are.
_NULLS = 0.1
#: Bytes of the longest first line that may be an object of JSON Lines.
_FIRST_LINE = 1 << 26


def format_of(path: Path) -> Format:
    """Return what a file is. Raises WorkbookError, in one line, if there is none or it is nothing that can be read."""
    try:
        if path.is_dir():
            raise WorkbookError(f"{path} is a folder; give a workbook ({READABLE})")
        if path.exists() and not path.is_file():
            raise WorkbookError(
                f"{path} is no file but a device or a pipe, which is read once at most; save what comes out of it as a file"
            )
        with path.open("rb") as file:
            head = file.read(_HEAD)
        return _format_of(path, head)
    except FileNotFoundError as error:
        raise WorkbookError(f"there is no file {path}") from error
    except OSError as error:
        raise WorkbookError(f"cannot read {path}: {error.strerror}") from error


def _format_of(path: Path, head: bytes) -> Format:
    if not head.strip():
        raise WorkbookError(f"{path} is an empty file; give a workbook ({READABLE})")
    if head.startswith(b"PK"):
        return _package(path)
    if head.startswith(_OLE):
        return _old_excel(path)
    if head.startswith(b"PAR1"):
        return Format.PARQUET
    what = next((what for start, what in _OTHERS.items() if head.startswith(start) and (start != b"BM" or b"\0" in head[:32])), None)
    if what is None and not _may_be_text(head):
        what = "something else"
    if what is None and head.removeprefix(b"\xef\xbb\xbf").lstrip()[:5].lower() in (b"<html", b"<!doc", b"<?xml", b"<tabl", b"<work"):
        what = "a page of HTML or XML, whatever it is called"
    if what is not None:
        raise _unreadable(path, what)
    return _text(path)


def _may_be_text(head: bytes) -> bool:
    """Say whether a file that begins like this is a text, perhaps one in which a model or a program has put a null character."""
    if b"\0" not in head or head.startswith(_UTF_16):
        return True
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return head.count(b"\0") <= len(head) * _NULLS


def _package(path: Path) -> Format:
    try:
        with zipfile.ZipFile(path) as file:
            names = {name.replace("\\", "/").lower() for name in file.namelist()}
            mime = file.read("mimetype")[:100] if "mimetype" in names and file.getinfo("mimetype").file_size < 200 else b""
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, KeyError, NotImplementedError) as error:
        raise WorkbookError(f"{path} is a damaged workbook: {error}; open it in a spreadsheet program and save it anew") from error
    if b"opendocument.spreadsheet" in mime:
        return Format.ODS
    for part, what in _PACKAGES.items():
        if part in names:
            raise _unreadable(path, what)
    if mime:
        raise _unreadable(path, f"a document of type {mime.decode('ascii', 'replace')}")
    if "[content_types].xml" in names or any(name.endswith("workbook.xml") for name in names):
        return Format.XLSX
    raise _unreadable(path, "a zip archive")


def _old_excel(path: Path) -> Format:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find("EncryptedPackage".encode("utf-16-le")) >= 0:
            raise WorkbookError(f"{path} is protected with a password; save a copy without one")
        if content.find("Workbook".encode("utf-16-le")) < 0 and content.find("Book".encode("utf-16-le")) < 0:
            raise _unreadable(path, "an old Office file without a sheet, or a damaged one")
    return Format.XLS


def _text(path: Path) -> Format:
    with path.open("rb") as file:
        line = b""
        while not line.strip():
            line = file.readline(_FIRST_LINE).removeprefix(b"\xef\xbb\xbf")
            if not line:
                return Format.DELIMITED
    if line.lstrip()[:1] == b"{":
        try:
            if isinstance(json.loads(line.decode("utf-8", "replace"), parse_int=str), dict):
                return Format.JSON_LINES
        except (ValueError, RecursionError):
            pass
    suffix = path.suffix.lower()
    if suffix == ".json":
        raise _unreadable(path, "JSON, but not JSON Lines (one object per line, .jsonl)")
    return Format.JSON_LINES if suffix in (".jsonl", ".ndjson") else Format.DELIMITED


def _unreadable(path: Path, what: str) -> WorkbookError:
    return WorkbookError(f"{path} is not a workbook that can be read: it looks like {what}; give {READABLE}")
