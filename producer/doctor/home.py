"""What the doctor looks at in a home: room, rights, and run stores that cannot be read."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from workers.contract.errors import UserError

from ..runs import RunStore, list_runs
from .finding import Finding, ok, problem, warning

_PART = "home"
#: Bytes that should be free, and those without which a run cannot go on.
_ROOM, _LEAST = 2 * 2**30, 200 * 2**20
#: Bytes of a run store up to which every page of it is read.
_READ = 500 * 2**20


def look_at_home(home: Path) -> Iterator[Finding]:
    """Look at the folder where runs are kept, which need not exist yet."""
    place = next(folder for folder in (home.absolute(), *home.absolute().parents) if folder.exists())
    if trouble := _not_writable(place):
        yield problem(_PART, f"{home} cannot be written: {trouble}", "choose another --home, or mend its rights")
        return
    free = shutil.disk_usage(place).free
    room = f"{free / 2**30:.1f} GiB are free for {home}"
    if free < _LEAST:
        yield problem(_PART, room, "free some space: a run waits while its disk is full")
    elif free < _ROOM:
        yield warning(_PART, room, "free some space: a million answers take 2 to 10 GiB")
    else:
        yield ok(_PART, room)
    runs = list_runs(home)
    damaged = [finding for run_id in runs if (finding := _damage(home, run_id))]
    yield from damaged
    if runs and not damaged:
        yield ok(_PART, f"run stores: {len(runs)}, none damaged")


def _not_writable(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder} is not a folder"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"no right to write in {folder}"
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return str(error.strerror)


def _damage(home: Path, run_id: str) -> Finding | None:
    """Return what is wrong with a run store; None if nothing is. Every page is read, but for large ones."""
    try:
        store = RunStore.open(home, run_id, writing=False)
        assert store is not None, "it is in the list"
        with store:
            said = store.damage() if store.path.stat().st_size <= _READ else ""
    except UserError as error:
        return problem(_PART, str(error), f"what it holds may be lost; to ask its rows again: kotae runs --delete {run_id}")
    if said:
        return problem(_PART, f"run {run_id} is damaged: {said}", f"save what is there with kotae collect {run_id} -o OUT.xlsx --partial")
    return None
