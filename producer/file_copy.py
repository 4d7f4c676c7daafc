"""A copy of a file as it is at one moment: whoever owns the file may save it anew a moment later."""

import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

from workers.contract.errors import UserError

#: Bytes that are kept in memory; a larger copy is a temporary file, which ends with the process however that ends.
_IN_MEMORY = 64 << 20
_PART = 4 << 20


class FileCopy:
    """The bytes of a file. Raises UserError if it cannot be copied."""

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
