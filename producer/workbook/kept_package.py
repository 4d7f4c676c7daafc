"""The package of a workbook that keeps its format: copied part for part, byte for byte, but for those that are replaced."""

import posixpath
import shutil
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from workers.contract.errors import WorkbookError

from .package_xml import relations_part

#: What a workbook's main part is, by its content type, and the ending of a file that holds one.
_SUFFIXES = {
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml": ".xlsx",
    "application/vnd.ms-excel.sheet.macroEnabled.main+xml": ".xlsm",
}
CONTENT_TYPES = "[Content_Types].xml"
_NEW_PART_DATE = (1980, 1, 1, 0, 0, 0)  # a clock would make two equal writings differ
_CHUNK = 1 << 18

#: Content by the part's name, in pieces.
Parts = Mapping[str, Iterable[bytes]]


class SheetPart(NamedTuple):
    """A sheet as the workbook lists it."""

    name: str
    part: str
    #: Of its relationship; those of strict workbooks are other ones.
    relationship_type: str


class KeptPackage:
    """A workbook's parts, by their names without a slash at the beginning. Raises WorkbookError wherever it is damaged."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._zip = archive
        self._parts = {_key(info.filename): info for info in archive.infolist()}
        self.workbook = self._main_part()
        self.workbook_relations = relations_part(self.workbook)
        self.sheets = list(self._sheets())

    @property
    def suffix(self) -> str:
        """Return how the name of a file with this workbook has to end; Excel refuses to open it otherwise."""
        types = list(self._tree(CONTENT_TYPES))
        own = [entry for entry in types if _key(entry.get("PartName", "")) == _key(self.workbook)]
        of_ending = [entry for entry in types if entry.get("Extension", "").casefold() == _key(self.workbook).rpartition(".")[2]]
        for entry in own or of_ending:  # the Open XML SDK gives the workbook the type of every .xml
            if (content_type := entry.get("ContentType", "")) in _SUFFIXES:
                return _SUFFIXES[content_type]
        raise WorkbookError("--keep-format needs a source that is an .xlsx or .xlsm workbook; save it as one, or leave the option out")

    def has(self, part: str) -> bool:
        """Return whether there is such a part; case does not count."""
        return _key(part) in self._parts

    def read(self, part: str) -> bytes:
        """Return a small part as a whole."""
        with _explaining(part):
            return self._zip.read(self._info(part))

    def chunks(self, part: str) -> Iterator[bytes]:
        """Yield a part as it unpacks."""
        with _explaining(part), self._zip.open(self._info(part)) as file:
            while chunk := file.read(_CHUNK):
                yield chunk

    def related(self, kind: str) -> str | None:
        """Return the part that the workbook has of a kind such as ``styles``."""
        return next((part for _, type_, part in self._relations(self.workbook) if type_.endswith(f"/{kind}")), None)

    def is_signed(self) -> bool:
        """Return whether the package has a digital signature (of its parts; a signature of macros is another matter)."""
        return any(key.startswith("_xmlsignatures/") for key in self._parts)

    def new_part(self, folder: str, taken: Collection[str]) -> str:
        """Return the name of a new sheet's part."""
        number = 1
        while self.has(name := f"{folder}/sheet{number}.xml") or name in taken:
            number += 1
        return name

    def copy(self, out: Path, replaced: Parts, added: Parts, dropped: Collection[str]) -> None:
        """Write the package again, in its order and with its dates; what is added comes at the end."""
        new = {_key(name): chunks for name, chunks in replaced.items()}
        gone = {_key(name) for name in dropped}
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
            for info in self._zip.infolist():
                key = _key(info.filename)
                if key in new and self._parts[key] is info:
                    _write(target, _header(info), new[key])
                elif key not in gone and self._parts[key] is info:  # of two of one name the last counts
                    self._copy_part(target, info)
            for name, chunks in added.items():
                header = zipfile.ZipInfo(name, _NEW_PART_DATE)
                header.compress_type = zipfile.ZIP_DEFLATED
                _write(target, header, chunks)

    def _copy_part(self, target: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
        header = _header(info)
        header.file_size = info.file_size
        with _explaining(info.filename), self._zip.open(info) as source, target.open(header, "w") as copy:
            shutil.copyfileobj(source, copy, _CHUNK)

    def _info(self, part: str) -> zipfile.ZipInfo:
        info = self._parts.get(_key(part))
        if info is None:
            raise WorkbookError(f"--keep-format: the workbook has no part {part}, although it refers to it")
        return info

    def _tree(self, part: str) -> ElementTree.Element:
        data = self.read(part)
        if b"<!DOCTYPE" in data:
            raise WorkbookError(f"--keep-format: the part {part} of the workbook has a document type, which no workbook may have")
        try:
            return ElementTree.fromstring(data)  # noqa: S314 - entities need a document type
        except ElementTree.ParseError as error:
            raise WorkbookError(f"--keep-format: the part {part} of the workbook is damaged ({error})") from error

    def _relations(self, part: str) -> Iterator[tuple[str, str, str]]:
        """Yield id, type and part of what a part (the package itself: "") refers to."""
        if not self.has(relations_part(part)):
            return
        for relation in self._tree(relations_part(part)):
            if relation.get("TargetMode") != "External":
                target = posixpath.join("/", posixpath.dirname(part), relation.get("Target", "").replace("\\", "/"))
                yield relation.get("Id", ""), relation.get("Type", ""), posixpath.normpath(target).lstrip("/")

    def _main_part(self) -> str:
        found = next((part for _, kind, part in self._relations("") if kind.endswith("/officeDocument")), None)
        if found is None or not self.has(CONTENT_TYPES):
            raise WorkbookError("--keep-format needs a source that is an .xlsx or .xlsm workbook; save it as one, or leave the option out")
        return found

    def _sheets(self) -> Iterator[SheetPart]:
        if not self.workbook.endswith(".xml"):  # .xlsb
            return
        relations = {identity: (kind, part) for identity, kind, part in self._relations(self.workbook)}
        for element in self._tree(self.workbook).iterfind("{*}sheets/{*}sheet"):
            identity = next((value for name, value in element.items() if name.endswith("}id")), "")
            if identity in relations:
                kind, part = relations[identity]
                yield SheetPart(element.get("name", ""), part, kind)


@contextmanager
def opened_package(path: Path) -> Iterator[KeptPackage]:
    """Open a workbook's package. Raises WorkbookError."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            raise WorkbookError(f"--keep-format needs an .xlsx or .xlsm source; {path.name} is neither")
    with _explaining(path.name):
        archive = zipfile.ZipFile(path)
    with archive:
        yield KeptPackage(archive)


@contextmanager
def _explaining(part: str) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, UnicodeDecodeError, NotImplementedError, RuntimeError) as error:
        raise WorkbookError(f"--keep-format: {part} cannot be unpacked: {error}") from error


def _write(target: zipfile.ZipFile, header: zipfile.ZipInfo, chunks: Iterable[bytes]) -> None:
    copy = target.open(header, "w")
    try:
        for chunk in chunks:
            copy.write(chunk)
    finally:
        try:
            copy.close()
        except RuntimeError as error:  # over 2 GiB, where Excel doubts the zip's long form
            raise WorkbookError(f"--keep-format: {header.filename} would be too large for a workbook") from error


def _header(info: zipfile.ZipInfo) -> zipfile.ZipInfo:
    header = zipfile.ZipInfo(info.filename, info.date_time)
    header.compress_type, header.external_attr, header.create_system = info.compress_type, info.external_attr, info.create_system
    return header


def _key(name: str) -> str:
    return name.replace("\\", "/").lstrip("/").casefold()
