"""The file of a run store: where it lies, who holds it, and its troubles in plain words."""

import contextlib
import errno
import fcntl
import os
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from workers.contract.errors import UserError


class StoreFull(UserError):
    """Raised when the disk has no room for an answer; nothing is lost, and storing may be tried again."""


class RunBusy(UserError):
    """Raised when another process is at work on a run."""


def path_of(home: Path, run_id: str) -> Path:
    """Return where the store of a run is."""
    return home / "runs" / f"{run_id}.sqlite"


def connect(path: Path) -> sqlite3.Connection:
    """Open a store, or begin one."""
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")  # an answer that is stored survives a loss of power, since Redis then forgets it
    return db


def take_lock(path: Path) -> int:
    """Hold a run for this process; the kernel lets go of it however the process ends."""
    handle = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = _holder(handle)
        os.close(handle)
        raise RunBusy(f"run {path.stem} is being worked on by {holder or 'another process'}; wait for it, or stop it") from error
    os.ftruncate(handle, 0)
    os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
    return handle


def _holder(handle: int) -> str:
    """Return who holds a lock; whoever has just taken it is given a moment to say so."""
    for _ in range(20):
        if said := os.pread(handle, 200, 0).decode(errors="replace").strip():
            return said
        time.sleep(0.05)
    return ""


@contextlib.contextmanager
def explaining(path: Path) -> Iterator[None]:
    """Turn whatever a store's file does to us into a UserError."""
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
            raise StoreFull(f"the disk of the run store {path} is full: free some space") from error
        raise UserError(f"the run store {path} cannot be used: {error}; free some disk space or choose another --home") from error
    except ValidationError as error:
        raise UserError(f"the run store {path} was written by another version of Kotae; use that one, or another --home") from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StoreFull(f"the disk of the run store {path} is full: free some space") from error
        raise UserError(f"the run store {path} cannot be written: {error.strerror}; choose another --home") from error
