"""Where an output may go, tried before any work is done."""

import json
from importlib.util import find_spec
from pathlib import Path

from workers.contract.errors import WorkbookError

from .replacing import check_place

#: How outputs may be called.
WRITABLE = (".xlsx", ".csv", ".tsv", ".jsonl", ".parquet")
KEEPING_FORMAT = (".xlsx", ".xlsm")
_RECORD_BESIDE = (".csv", ".tsv", ".jsonl")


def check_writable(path: Path, keep_format: bool = False) -> None:
    """Try, before any work is done, whether ``path`` could be written. Raises WorkbookError."""
    endings = KEEPING_FORMAT if keep_format else WRITABLE
    if path.suffix.lower() not in endings:
        what = " (--keep-format)" if keep_format else ""
        raise WorkbookError(f"the output {path} must end in {', '.join(endings[:-1])} or {endings[-1]}{what}")
    if path.suffix.lower() == ".parquet" and find_spec("pyarrow") is None:
        raise WorkbookError(f"the output {path} needs pyarrow: pip install 'kotae[parquet]', or give a name that ends in .jsonl")
    check_place(path)
    if path.suffix.lower() in _RECORD_BESIDE:
        _check_record(record_path(path))


def _check_record(path: Path) -> None:
    check_place(path)
    if path.exists():
        try:
            ours = "run" in json.loads(path.read_bytes())
        except (ValueError, TypeError, RecursionError):
            ours = False
        if not ours:
            raise WorkbookError(f"{path} stands where Kotae would write what it knows of the output, and is not its own; move it away")


def record_path(out: Path) -> Path:
    """Return the file that says where the answers of an output come from, if that has no room for it: ``answers.csv.run.json``."""
    return out.parent / f"{out.name}.run.json"
