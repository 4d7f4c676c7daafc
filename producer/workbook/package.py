"""What a zip package may cost, found out before anything in it is parsed."""

import copy
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from workers.contract.errors import WorkbookError

#: Bytes. No workbook of a person unpacks to more, nor, once it is large, to more than so many times its size.
MAX_UNPACKED = 4 << 30
LARGE, MAX_RATIO = 256 << 20, 200
_CHUNK = 1 << 20
_XML = (".xml", ".rels")
#: How many texts a list of texts has, as it says itself.
_ANNOUNCED = re.compile(rb"""<(?:\w+:)?sst\b[^>]*\suniqueCount\s*=\s*["']\s*([0-9]+)""")


class Package:
    """A zip package whose directory has been looked at. Raises WorkbookError at once if it would unpack to too much."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as file:
                self._parts = {_plain(info.filename): info for info in file.infolist()}
                twice = len(self._parts) != len(file.infolist())
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise WorkbookError(f"{path} is a damaged workbook: {error}; open it in a spreadsheet program and save it anew") from error
        packed = max(path.stat().st_size, 1)
        if any(info.compress_size > packed for info in self._parts.values()):  # room for it would be made before it is read
            raise WorkbookError(
                f"{path} is a damaged workbook: it says that it is larger than it is; save it anew in a spreadsheet program"
            )
        if twice:  # which of them the library takes is its secret
            raise WorkbookError(f"{path} is a damaged workbook: it has two parts of the same name; save it anew in a spreadsheet program")
        unpacked = sum(info.file_size for info in self._parts.values())
        if is_bomb(unpacked, packed):
            raise WorkbookError(
                f"{path} would unpack to {unpacked / 2**20:,.0f} MB, {unpacked / packed:,.0f} times its size;"
                " that is no workbook but a zip bomb"
            )

    def names(self) -> list[str]:
        """Return the names of all parts, in small letters and with slashes: programs do not agree on either."""
        return list(self._parts)

    def size(self, name: str) -> int:
        """Return the bytes that a part unpacks to, as the directory says."""
        return self._parts[name].file_size

    def chunks(self, name: str) -> Iterator[bytes]:
        """Unpack a part bit by bit. Raises WorkbookError where the directory lied about its size, or it is damaged."""
        info = copy.copy(self._parts[name])
        size, info.file_size = info.file_size, MAX_UNPACKED + _CHUNK  # or reading ends where the directory says, and its lie is not seen
        try:
            with zipfile.ZipFile(self.path) as file, file.open(info) as part:
                got = 0
                while chunk := part.read(_CHUNK):
                    got += len(chunk)
                    if got > size:
                        raise WorkbookError(f"{self.path} unpacks to more than it says: that is no workbook but a zip bomb")
                    yield chunk
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError, NotImplementedError) as error:
            raise WorkbookError(
                f"{self.path} is a damaged workbook ({error}); open it in a spreadsheet program and save it anew"
            ) from error

    def copy(self, path: Path, changes: Mapping[str, Callable[[bytes], bytes]]) -> None:
        """Write the package to another place, some of its parts changed. Raises WorkbookError."""
        with zipfile.ZipFile(path, "w") as file:
            for name, info in self._parts.items():
                content = b"".join(self.chunks(name))
                file.writestr(info.filename, changes[name](content) if name in changes else content)

    def refuse_dishonest_parts(self) -> None:
        """Raise WorkbookError if a part of XML is larger than the directory says, defines entities, or has fewer texts than it says."""
        for name in self._parts:
            if name.endswith(_XML):
                for number, chunk in enumerate(self.chunks(name)):
                    if number == 0 and re.search(rb"<!(DOCTYPE|ENTITY)", chunk[:4096], re.IGNORECASE):
                        raise WorkbookError(
                            f"{self.path} has a document type definition in {name}, which no spreadsheet program writes; it is not read"
                        )
                    # The library makes room for as many texts as are announced, and ends the process where there is none
                    if (told := _ANNOUNCED.search(chunk)) and int(told[1][:20]) > self._parts[name].file_size:
                        raise WorkbookError(
                            f"{self.path} is a damaged workbook: {name} announces {told[1].decode()} texts and has fewer; save it anew"
                        )


def is_bomb(unpacked: int, packed: int) -> bool:
    """Say whether something unpacks to more than any table of a person does; both in bytes."""
    return unpacked > MAX_UNPACKED or (unpacked > LARGE and unpacked > MAX_RATIO * packed)


def _plain(name: str) -> str:
    return name.replace("\\", "/").lstrip("/").lower()
