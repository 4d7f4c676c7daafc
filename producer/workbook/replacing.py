"""A file written beside another one and put in its place in one step; what writers that were killed have left is swept away."""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from workers.contract.errors import WorkbookError

#: Held by whoever writes in a folder, for as long as the process lives; the kernel lets go of it however that ends.
_LOCK = "writing"
#: Characters of the output's name in that of its folder: a file's name has a limit.
_NAMED = 40
#: What spreadsheet programs put beside a file that they have open.
_OPEN = {".~lock.{}#": "LibreOffice", "~${}": "Excel"}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a file to write, and put it where ``path`` is, or leads, when all went well. Raises WorkbookError."""
    path = path.resolve()
    try:
        _sweep(path)
        with _folder_for(path) as folder:
            work = folder / path.name
            yield work
            with work.open("rb") as file:
                os.fsync(file.fileno())
            if path.exists():
                work.chmod(path.stat().st_mode & 0o777)
            work.replace(path)
        _settle(path.parent)
    except OSError as error:
        raise WorkbookError(f"cannot write {path}: {error.strerror}") from error


def check_place(path: Path) -> None:
    """Try whether a file could be put in this place. Raises WorkbookError."""
    try:
        _check_place(path)
    except (OSError, RuntimeError) as error:  # the second for links in a circle
        raise WorkbookError(f"the output {path} cannot be written: {getattr(error, 'strerror', None) or error}") from error


def _check_place(path: Path) -> None:
    if path.is_dir():
        raise WorkbookError(f"the output {path} is a folder; give the name of a workbook")
    if path.exists() and not path.is_file():  # a device or a pipe would be replaced by a file
        raise WorkbookError(f"the output {path} is no file but a device or a pipe; give the name of a workbook")
    for pattern, program in _OPEN.items():
        mark = path.with_name(pattern.format(path.name))
        if os.path.lexists(mark):
            raise WorkbookError(
                f"the output {path} is open in {program}: close it there, or give another name (if it is not, delete {mark})"
            )
    with _folder_for(path.resolve()):
        pass
    if path.exists() and not os.access(path, os.W_OK):
        raise WorkbookError(f"the output {path} cannot be written: it is read-only")


@contextmanager
def _folder_for(path: Path) -> Iterator[Path]:
    """Give a folder beside a file, which is known to be in use while we live."""
    with ExitStack() as stack:
        while True:
            folder = Path(tempfile.mkdtemp(prefix=_prefix(path), suffix=".tmp", dir=path.parent))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            with suppress(FileNotFoundError):  # a sweeper was faster than our lock
                lock = stack.enter_context(closing(_Lock(folder)))
                lock.take()
                if (folder / _LOCK).exists():
                    break
        yield folder


class _Lock:
    """The lock on a folder. Where the file system knows no locks nobody has one, and nothing is swept."""

    def __init__(self, folder: Path, flags: int = os.O_CREAT) -> None:
        self._handle = os.open(folder / _LOCK, os.O_RDWR | flags, 0o600)

    def take(self) -> None:
        with suppress(OSError):
            fcntl.flock(self._handle, fcntl.LOCK_EX)

    def try_to_take(self) -> bool:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def close(self) -> None:
        os.close(self._handle)


def _sweep(path: Path) -> None:
    """Remove the folders of writers of a file that are no more."""
    pattern = re.compile(re.escape(_prefix(path)) + r"[a-z0-9_]{8}\.tmp")
    with suppress(OSError):  # a folder that cannot be listed may still be written to
        for folder in path.parent.iterdir():
            if pattern.fullmatch(folder.name):
                _sweep_one(folder)


def _sweep_one(folder: Path) -> None:
    with suppress(OSError):  # somebody else's, or gone by now
        if not (folder / _LOCK).exists():
            folder.rmdir()  # killed before it wrote anything
            return
        with closing(_Lock(folder, flags=0)) as lock:
            if lock.try_to_take():
                shutil.rmtree(folder, ignore_errors=True)


def _prefix(path: Path) -> str:
    return f".{path.name[:_NAMED]}."


def _settle(folder: Path) -> None:
    """Have the disk know of the new name before we say that it is there."""
    with suppress(OSError):  # not every file system can
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
