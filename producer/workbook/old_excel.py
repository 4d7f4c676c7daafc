"""Old Excel files (.xls), read in a process of its own: over a damaged one the library takes all memory and ends its process."""

import contextlib
import resource
import sys
from functools import partial
from pathlib import Path

from workers.contract.errors import WorkbookError

from .cells import Grid, Stream
from .formats import Format
from .own_process import answer, ask_own_process
from .spreadsheets import Workbook
from .totals import TotalRow

#: Bytes of memory that the process may take, and so many times the file's size more.
_MEMORY, _TIMES, _MOST = 1 << 30, 16, 4 << 30


class OldWorkbook:
    """An .xls, all of whose sheets are read. Raises WorkbookError if it cannot be."""

    def __init__(self, path: Path) -> None:
        told = ask_own_process(__name__, path)
        if told is None:
            raise WorkbookError(f"{path} is a damaged old Excel file (.xls); open it in a spreadsheet program and save it as .xlsx")
        self.names: list[str]
        self.visible: list[str]
        self.names, self.visible, self._grids = told

    def stream(self, name: str) -> Stream:
        """Return the rows of a sheet from A1 on. Raises WorkbookError."""
        grid: Grid | str = self._grids[name]
        if isinstance(grid, str):
            raise WorkbookError(grid)
        return partial(iter, grid)

    def total_rows(self, _: str) -> list[TotalRow]:
        """Return none: these files know of no tables."""
        return []


def _read(path: Path) -> tuple[list[str], list[str], dict[str, Grid | str]]:
    workbook = Workbook.open(path, Format.XLS)
    grids: dict[str, Grid | str] = {}
    for name in workbook.names:
        try:
            grids[name] = list(workbook.stream(name)())
        except WorkbookError as error:
            grids[name] = str(error)
    return workbook.names, workbook.visible, grids


if __name__ == "__main__":
    source = Path(sys.argv[1])
    with contextlib.suppress(ValueError, OSError):  # a limit that is lower already stays
        limit = min(_MEMORY + _TIMES * source.stat().st_size, _MOST)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    answer(source, _read)
