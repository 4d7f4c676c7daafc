"""What an engine's time goes into: each moment is shared evenly by the rows that the engine has then."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

#: Seconds over which rates are told: several signs of life, few enough to follow what changes.
_RECENT = 30.0


class _Count(NamedTuple):
    moment: float
    rows: int
    tokens: int


class Meter:
    """Measures the rows of one engine, which uses ``gpus`` GPUs; one without counts as one.

    Rows come and go on the engine's event loop alone; the rates are asked for by one other thread.
    """

    def __init__(self, gpus: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._gpus, self._clock = max(gpus, 1), clock
        #: Rows that the engine has, by run.
        self._rows: Counter[str] = Counter()
        #: GPU-seconds that a row would have been charged which was there from the beginning, up to the last change.
        self._charged, self._changed = 0.0, clock()
        self._done, self._tokens = 0, 0
        self._counts = deque([_Count(clock(), 0, 0)])

    @contextmanager
    def row(self, run_id: str) -> Iterator[Callable[[], float]]:
        """Count a row in for as long as this lasts; call what is given for the GPU-seconds that it has been charged so far.

        The charges of all rows add up to the time in which the engine had any.
        """
        begun = self._charge()
        self._rows[run_id] += 1
        try:
            yield lambda: self._charge() - begun
        finally:
            self._charge()
            self._rows[run_id] -= 1
            if not self._rows[run_id]:
                del self._rows[run_id]

    def answered(self, tokens: int) -> None:
        """Count a row that has got its reply, of so many tokens."""
        self._done += 1
        self._tokens += tokens

    def in_flight(self) -> dict[str, int]:
        """Return how many rows the engine has of each run."""
        return dict(self._rows)

    def rates(self) -> tuple[float, float]:
        """Return answered rows and tokens per second, of the last half minute or, where that is less, since it was first asked for."""
        now = _Count(self._clock(), self._done, self._tokens)
        while len(self._counts) > 1 and now.moment - self._counts[1].moment >= _RECENT:
            self._counts.popleft()
        self._counts.append(now)
        since = self._counts[0]
        seconds = max(now.moment - since.moment, 1e-9)
        return (now.rows - since.rows) / seconds, (now.tokens - since.tokens) / seconds

    def _charge(self) -> float:
        now = self._clock()
        if rows := self._rows.total():
            self._charged += (now - self._changed) * self._gpus / rows
        self._changed = now
        return self._charged
