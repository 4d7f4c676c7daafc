"""Many texts in little memory: the questions of a million rows lie in a file, and are no million objects."""

import tempfile
import weakref
from array import array
from collections.abc import Sequence
from typing import overload

#: Bytes that are kept in memory; more of them go to a temporary file, which ends with the process however that ends.
_IN_MEMORY = 64 << 20


class Texts(Sequence[str]):
    """Texts by their number, from 0. They are all appended before the first is read."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - it lives as long as the texts
        self._ends = array("Q", [0])
        weakref.finalize(self, self._file.close)

    def append(self, text: str) -> None:
        """Add a text at the end. Raises OSError if the disk is full."""
        self._ends.append(self._ends[-1] + self._file.write(text.encode("utf-8", "surrogatepass")))

    def cut(self, length: int) -> None:
        """Forget the texts from this number on."""
        del self._ends[length + 1 :]

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> list[str]: ...

    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        if place < 0:
            place += len(self)
        if not 0 <= place < len(self):
            raise IndexError(place)
        start, end = self._ends[place], self._ends[place + 1]
        self._file.seek(start)
        return self._file.read(end - start).decode("utf-8", "surrogatepass")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # what is compared by its texts has no hash
