"""A process of its own for files that a library ends the process over: it looks at one, and answers or dies."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workers.contract.errors import WorkbookError

#: Seconds that it may take.
_PATIENCE = 60


def ask_own_process(module: str, path: Path) -> Any | None:
    """Return what a module says of a file that is run with its path; None if the process died or took too long.

    Raises WorkbookError where the process did.
    """
    try:
        done = subprocess.run([sys.executable, "-P", "-m", module, str(path)], capture_output=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode != 0:
        return None
    told = pickle.loads(done.stdout)  # noqa: S301 - our own process wrote it
    if isinstance(told, WorkbookError):
        raise told
    return told


def answer(path: Path, look_at: Callable[[Path], Any]) -> None:
    """Be that process: say what there is to say of a file."""
    try:
        told = look_at(path)
    except WorkbookError as error:
        told = error
    pickle.dump(told, sys.stdout.buffer)
