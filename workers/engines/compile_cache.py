"""What vLLM compiles at a first start is compiled by one worker of a host, while the others wait: its cache is written in place."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock


@contextmanager
def compiled_once(folder: Path, *what: Any) -> Iterator[None]:
    """Have the first process that starts ``what`` (JSON: the version, the arguments) do so alone; later ones start beside each other.

    ``folder`` is vLLM's cache: whoever clears that has it compiled again. A process that dies meanwhile lets the next one try.
    """
    name = hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:16]
    folder = folder / "kotae"
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / f"{name}.compiled"
    lock = FileLock(folder / f"{name}.lock")
    if not done.exists():
        lock.acquire()
    if done.exists():
        lock.release()
    try:
        yield
        done.touch()
    finally:
        lock.release()
