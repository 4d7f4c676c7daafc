"""How many requests may be under way at an endpoint that limits them.

As TCP does (additive increase, multiplicative decrease): halved when the endpoint says "too many", one more after each round of
requests that goes well. Nobody is let in while the endpoint wants quiet.
"""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

#: Seconds of quiet where the endpoint names none, and the fewest where it does: twice as many after each complaint that follows
#: another without a reply in between, up to the most.
_UNTOLD, _TOLD, _MOST = 1.0, 0.05, 60.0
#: However long an endpoint wants quiet, it is asked again after this many seconds.
_LONGEST_QUIET = 3600.0
#: Requests come back over this share of the quiet, not all in one moment.
_SPREAD = 0.1


class Throttle:
    """The turns of one endpoint, first come first served. Used on one event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.allowed = float(most)
        self._under_way = 0
        self._storms = 0
        self._open_at = 0.0
        self._queue: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """Return how many wait for their turn. Read from other threads."""
        return len(self._queue)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Have a turn that was taken until the end of the block."""
        try:
            yield
        finally:
            self._give_back()

    async def take(self) -> None:
        """Wait for a turn; who has taken one must have it by ``turn()``."""
        ours = asyncio.get_running_loop().create_future()
        self._queue.append(ours)
        self._let_in()
        try:
            await ours
        except asyncio.CancelledError:
            if ours.cancelled():
                with suppress(ValueError):
                    self._queue.remove(ours)
            else:  # let in at the very moment
                self._give_back()
            raise

    def went_well(self) -> None:
        """Note a reply: there may be room for more."""
        self._storms = 0
        self.allowed = min(float(self._most), self.allowed + 1 / self.allowed)
        self._let_in()

    def slow_down(self, quiet: float | None) -> float | None:
        """Note that the endpoint has had too many requests, and wants ``quiet`` seconds of none if it says so.

        Return the seconds of quiet if this is the first complaint of its storm: the others are of requests that were under way.
        """
        loop = asyncio.get_running_loop()
        first = loop.time() >= self._open_at
        if first:
            self.allowed = max(1.0, min(self.allowed, self._under_way + 1) / 2)
            self._storms += 1
        elif quiet is None:
            return None
        grown = 2.0 ** min(self._storms - 1, 16)
        seconds = min(_UNTOLD * grown, _MOST) if quiet is None else max(min(quiet, _LONGEST_QUIET), min(_TOLD * grown, _MOST))
        seconds *= 1 + random.uniform(0, _SPREAD)
        if loop.time() + seconds > self._open_at:
            self._open_at = loop.time() + seconds
            loop.call_at(self._open_at, self._let_in)
        return seconds if first else None

    def _give_back(self) -> None:
        self._under_way -= 1
        self._let_in()

    def _let_in(self) -> None:
        is_open = asyncio.get_running_loop().time() >= self._open_at
        while is_open and self._queue and self._under_way < int(self.allowed):
            next_one = self._queue.popleft()
            if not next_one.done():
                self._under_way += 1
                next_one.set_result(None)
