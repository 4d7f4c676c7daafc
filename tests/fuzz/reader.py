"""A process that reads one file after the other in little memory, and is replaced when it dies."""

import json
import os
import resource
import select
import subprocess
import sys
import tempfile
import traceback
from contextlib import suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

#: Bytes of memory that reading may take, and seconds.
MEMORY, PATIENCE = 800 << 20, 20.0
#: Files that one process reads, so that what one of them leaves behind is not blamed on another.
_FILES = 300
#: Rows of a sheet that are also written again.
_WRITTEN = 200


class Reader:
    """Reads files as `kotae` does before it asks anything, each under the limits."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._files = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    def trouble(self, path: Path) -> str:
        """Return what went wrong beyond a refusal in one line; empty if nothing did."""
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.write(f"{path}\n".encode())
            process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
        line = process.stdout.readline() if ready else b""
        if line:
            told: str = json.loads(line)
            return told
        trouble = f"took more than {PATIENCE:g} s"
        if ready:
            trouble = f"the process ended with {process.wait(PATIENCE)}: {self._said()}"
        self._end()
        return trouble

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._files >= _FILES:
            self._end()
        if self._process is None:
            self._files = 0
            self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fuzz.reader"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=os.environ | {"ARROW_DEFAULT_MEMORY_POOL": "system"},
            )
        self._files += 1
        return self._process

    def _said(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")[-2000:]

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._log.close()
            self._process = None


def _read(path: Path) -> str:
    from producer.steering import Steering
    from producer.workbook.as_parquet import Beside, write_parquet_beside
    from producer.workbook.assembly import check_kept
    from producer.workbook.columns import distinct_names
    from producer.workbook.formats import Format, format_of
    from producer.workbook.keeping import check_keeping
    from producer.workbook.limits import sheet_name
    from producer.workbook.reading import read_sheet, text_encoding
    from producer.workbook.writing import Table, write_tables
    from workers.contract.errors import WorkbookError

    try:
        sheet = read_sheet(path)
        text_encoding(path)
        sheet.questions()
        table = Table(sheet_name(sheet.name), sheet.headers[:50], [row[:50] for row in islice(sheet.rows(), _WRITTEN)])
        with tempfile.TemporaryDirectory() as folder:
            write_tables(Path(folder) / "out.xlsx", [table], datetime(2026, 1, 1))  # noqa: DTZ001 - a workbook has no time zone
            read_sheet(Path(folder) / "out.xlsx", table.name, sheet.headers[sheet.question_column] if sheet.question_column < 50 else None)
            if sheet.typed is not None:
                ours = Beside(sheet.typed, [len(sheet.headers)], [[str]], ([""] for _ in range(sheet.height)))
                write_parquet_beside(Path(folder) / "out.parquet", distinct_names([*sheet.headers, "answer"]), ours, {})
        if format_of(path) is Format.XLSX:
            check_keeping(path)
            check_kept(path, sheet, overwrite=True, samples=1, steering=Steering())
    except WorkbookError as error:
        return "" if len(str(error).splitlines()) == 1 else f"a refusal of several lines: {error}"
    return ""


def _main() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    out = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        try:
            trouble = _read(Path(line.removesuffix("\n")))
        except Exception:
            trouble = traceback.format_exc()
        print(json.dumps(trouble), file=out, flush=True)


if __name__ == "__main__":
    _main()
