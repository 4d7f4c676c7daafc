"""Asking an endpoint again: at once slower where it limits us, after a while where it failed, until the row's time is over."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from itertools import count
from typing import TypeVar

from workers.contract.errors import Failed

from .openai_errors import TROUBLE, GivenUp, as_engine_error, passes, retry_after, said, wants_quiet
from .row_clock import seconds_left, standing_clock
from .throttle import Throttle

log = logging.getLogger(__name__)

#: Seconds before a request is made again that failed: first, and at most.
DELAYS = (0.5, 30.0)
#: Replies to a request that the endpoint gave up before their end, after which it is not asked again.
_MOST_GIVEN_UP = 4

T = TypeVar("T")


class Patience:
    """What all rows know together of an endpoint: how many requests it takes at once."""

    def __init__(self, host: str, most: int) -> None:
        self._host = host
        self._throttle = Throttle(most)

    @property
    def waiting(self) -> int:
        """Return how many rows wait until the endpoint has room for them. Read from other threads."""
        return self._throttle.waiting

    async def persist(self, post: Callable[[], Awaitable[T]]) -> T:
        """Make a request again and again until it is answered or refused, or time or patience are over. Raises Rejected or Failed."""
        given_up = 0
        for failures in count():
            try:
                return await self._in_turn(post)
            except TROUBLE as error:
                if not passes(error):
                    raise as_engine_error(error, self._host) from error
                given_up += isinstance(error, GivenUp)
                if given_up == _MOST_GIVEN_UP:
                    raise Failed(f"{self._host} failed {given_up} times in the middle of its reply, last: {said(error)}") from error
                first, most = DELAYS
                delay = max(min(first * 2.0 ** min(failures, 16), most), retry_after(error) or 0.0)
                if delay >= seconds_left():
                    told = f"{self._host} failed {failures + 1} times within the time of the row, last: {said(error)}"
                    raise Failed(told) from error
                log.info("%s: %s; asked again in %.1f s", self._host, said(error), delay)
                await asyncio.sleep(delay)
        raise AssertionError("counting never ends")

    async def _in_turn(self, post: Callable[[], Awaitable[T]]) -> T:
        """Make a request when the endpoint has room for it; a row does not pay for the time until then."""
        while True:
            with standing_clock():
                await self._throttle.take()
            async with self._throttle.turn():
                try:
                    reply = await post()
                except TROUBLE as error:
                    if not wants_quiet(error):
                        raise
                    quiet = self._throttle.slow_down(retry_after(error))
                    if quiet is not None:
                        told = (self._host, said(error), quiet, int(self._throttle.allowed))
                        log.warning("%s limits us (%s): quiet for %.1f s, then %d requests at once", *told)
                    continue
            self._throttle.went_well()
            return reply
