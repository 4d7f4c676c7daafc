"""A copy of the source, as it was when it was read, on its way into the run store and out of it again; never in memory as a whole."""

import shutil
import sqlite3
import tempfile
import weakref
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from itertools import zip_longest
from pathlib import Path

from workers.contract.errors import UserError

#: Of a run store, in parts: SQLite holds no value of more than a gigabyte.
SOURCE_TABLE = "CREATE TABLE source (part INTEGER PRIMARY KEY, name TEXT NOT NULL, bytes BLOB NOT NULL)"

#: Bytes that are kept in memory; a larger copy is a temporary file, which ends with the process however that ends.
_IN_MEMORY = 64 << 20
_PART = 4 << 20


class FileCopy:
    """The bytes of a file: whoever owns it may save it anew a moment later. Raises UserError if it cannot be copied."""

    def __init__(self, path: Path) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - it lives as long as the copy
        weakref.finalize(self, self._file.close)
        try:
            with path.open("rb") as file:
                shutil.copyfileobj(file, self._file, _PART)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror} (a copy is made in {tempfile.gettempdir()})") from error

    def parts(self) -> Iterator[bytes]:
        """Yield all bytes from the first on, in parts of 4 MiB."""
        self._file.seek(0)
        while part := self._file.read(_PART):
            yield part


def put_copy(db: sqlite3.Connection, name: str, copy: FileCopy) -> None:
    """Put a copy into a store that has none."""
    db.executemany("INSERT INTO source VALUES (?, ?, ?)", ((part, _plain(name), content) for part, content in enumerate(copy.parts())))


def replace_copy(db: sqlite3.Connection, name: str, copy: FileCopy) -> None:
    """Put a copy in the place of the one that a store has, if they differ."""
    with closing(_parts(db)) as known:
        if all(part == other for part, other in zip_longest(known, copy.parts())):
            db.execute("UPDATE source SET name = ?", (_plain(name),))
            return
    db.execute("DELETE FROM source")
    put_copy(db, name, copy)


@contextmanager
def unpacked(db: sqlite3.Connection) -> Iterator[Path]:
    """Give the copy in a store as a file of the source's own name. Raises UserError if there is no room for it."""
    (name,) = db.execute("SELECT name FROM source LIMIT 1").fetchone()
    with tempfile.TemporaryDirectory(prefix="kotae-source-") as folder:
        path = Path(folder) / name
        try:
            with path.open("wb") as file:
                file.writelines(_parts(db))
        except OSError as error:
            raise UserError(f"the source cannot be unpacked into {folder}: {error.strerror}; make room there, or set TMPDIR") from error
        yield path


def _plain(name: str) -> str:
    return name.encode("utf-8", "replace").decode()  # what SQLite can hold


def _parts(db: sqlite3.Connection) -> Generator[bytes, None, None]:
    for (part,) in db.execute("SELECT bytes FROM source ORDER BY part"):
        yield part
