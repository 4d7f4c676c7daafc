"""Work that many rows ask for at the same moment, done for several of them in one call."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Together(Generic[T, R]):
    """Calls ``work`` with all that was asked for by the time the event loop comes to it, ``most`` at once; used on one event loop.

    ``work`` returns what came of each, in order: a result, or the exception that is to be raised where it was asked for.
    """

    def __init__(self, work: Callable[[Sequence[T]], Sequence[R | Exception]], most: int) -> None:
        self._work, self._most = work, most
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()

    def ask(self, one: T) -> "asyncio.Future[R]":
        """Return what will hold the result."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._work_off)
        future: asyncio.Future[R] = loop.create_future()
        self._waiting.append((one, future))
        return future

    def _work_off(self) -> None:
        waiting = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
        if self._waiting:  # the loop has others to serve in between
            asyncio.get_running_loop().call_soon(self._work_off)
        wanted = [(one, future) for one, future in waiting if not future.done()]  # the rows of others were cancelled
        if not wanted:
            return
        for (_, future), result in zip(wanted, self._results([one for one, _ in wanted]), strict=True):
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

    def _results(self, wanted: Sequence[T]) -> Sequence[R | Exception]:
        try:
            return self._work(wanted)
        except BaseException as error:  # whatever it is, somebody waits for each; a library's panic is no Exception
            return [RuntimeError(f"{type(error).__name__}: {error}")] * len(wanted)
