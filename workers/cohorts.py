"""Who runs beside whom: rows that an engine died with run in ever smaller company, until the one that kills it is alone.

Rows run only beside rows of their own cohort size. A suspect waits until the engine is empty, and goes before everybody else. No row
is one for a single death: most engines die of something else, and the others would have to run empty for its rows.
"""

import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Deaths (see ``attempts.py``) -> rows that may share the engine.
_COHORTS = ((8, 1.0), (6, 8.0), (4, 64.0))
#: Deaths alone after which a row has failed: twice an engine that saw what happened.
CONDEMNED = 4


def cohort_size(deaths: int) -> float:
    """Return with how many rows at most, itself included, a row may be in the engine."""
    return next((size for least, size in _COHORTS if deaths >= least), math.inf)


class Cohorts:
    """The door to the engine. Any thread may wait at it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: Counter[float] = Counter()
        self._inside: Counter[float] = Counter()

    @contextmanager
    def join(self, size: float, given_up: Callable[[], bool]) -> Iterator[bool]:
        """Wait for the row's turn and hold its place meanwhile; gives False if ``given_up`` comes true before."""
        with self._changed:
            self._waiting[size] += 1
            self._changed.wait_for(lambda: given_up() or self._may_enter(size))
            self._waiting -= Counter({size: 1})  # also drops what is zero
            entered = not given_up()
            if entered:
                self._inside[size] += 1
        try:
            yield entered
        finally:
            with self._changed:
                if entered:
                    self._inside -= Counter({size: 1})
                self._changed.notify_all()

    def is_open(self, size: float) -> bool:
        """Say whether a row would not have to wait: nobody here has a past."""
        with self._changed:
            return size == math.inf and all(other == math.inf for other in (*self._waiting, *self._inside))

    def wake(self) -> None:
        """Have everybody who waits look again."""
        with self._changed:
            self._changed.notify_all()

    def _may_enter(self, size: float) -> bool:
        first = min(self._waiting)
        if not self._inside:
            return size == first
        suspects_wait = size == math.inf != first
        return size in self._inside and self._inside[size] < size and not suspects_wait
