"""The clock of a row: it runs from the moment the engine takes the row, and stands while an engine may not work on it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar

_deadline: ContextVar[asyncio.Timeout | None] = ContextVar("_deadline", default=None)


@asynccontextmanager
async def row_clock(seconds: float) -> AsyncIterator[None]:
    """Give what runs inside so many seconds. Raises TimeoutError when they have passed."""
    async with asyncio.timeout(seconds) as deadline:
        before = _deadline.set(deadline)
        try:
            yield
        finally:
            _deadline.reset(before)


def seconds_left() -> float:
    """Return how much time the row that is being answered has left."""
    deadline = _deadline.get()
    end = deadline.when() if deadline is not None else None
    return float("inf") if end is None else end - asyncio.get_running_loop().time()


@contextmanager
def standing_clock() -> Iterator[None]:
    """Let the row's time not pass: it waits for leave that somebody else gives, and is not to blame."""
    deadline, left = _deadline.get(), seconds_left()
    if deadline is None or left == float("inf") or deadline.expired():
        yield
        return
    deadline.reschedule(None)
    try:
        yield
    finally:
        deadline.reschedule(asyncio.get_running_loop().time() + left)
