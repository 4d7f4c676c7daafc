"""How rows are fetched: kombu's Redis transport, which asks for the next row only while the engine wants one."""

from collections.abc import Callable
from typing import Any

from kombu.transport import redis


class Channel(redis.Channel):
    """kombu's channel, with one client for its pool: making one per command was a sixth of what a row cost a worker."""

    #: Set by the transport option of this name.
    wants_rows: Callable[[], bool]
    from_transport_options = (*redis.Channel.from_transport_options, "wants_rows")

    _kept: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._create_client(asynchronous=True)  # type: ignore[misc]  # the stubs lack it
        if self._kept is None or self._kept.connection_pool is not self.pool:  # a lost connection replaces the pool
            self._kept = super()._create_client()  # type: ignore[misc]
        return self._kept

    def _brpop_start(self, *args: Any, **kwargs: Any) -> None:
        # Not by the prefetch count: lowering that leaves a row that is on its way here where nobody counts it.
        if self.wants_rows():
            super()._brpop_start(*args, **kwargs)  # type: ignore[misc]


class Transport(redis.Transport):
    """kombu's transport, with our channels."""

    Channel = Channel
