"""How rows are fetched and acknowledged: kombu's Redis transport, which takes rows only while the engine wants some; several at once."""

import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from kombu.transport import redis, virtual
from kombu.utils.scheduling import round_robin_cycle
from redis.exceptions import RedisError, ResponseError

from .contract.broker import goes_first

log = logging.getLogger(__name__)

#: Rows taken at once at most, so that runs on other queues get their turn.
_TOGETHER = 16
#: Pops messages and notes them as unacknowledged in one step, where kombu takes two: nobody can die between them.
#: KEYS: queue, index and hash of unacknowledged messages. ARGV: how many, now.
_TAKE = """
local taken = {}
for i = 1, tonumber(ARGV[1]) do
  local message = redis.call('RPOP', KEYS[1])
  if not message then break end
  local properties = cjson.decode(message).properties
  local delivery = properties.delivery_info
  local noted = '[' .. message .. ',' .. cjson.encode(delivery.exchange) .. ',' .. cjson.encode(delivery.routing_key) .. ']'
  redis.call('ZADD', KEYS[2], ARGV[2], properties.delivery_tag)
  redis.call('HSET', KEYS[3], properties.delivery_tag, noted)
  taken[i] = message
end
return taken
"""


class FirstThenInTurn(round_robin_cycle):  # type: ignore[type-arg]  # it takes one in the stubs only
    """Queues in turn, but those of runs with priority before all others."""

    def consume(self, n: int) -> Any:
        """Return the queues in the order in which Redis shall look for a row."""
        return sorted(super().consume(n), key=lambda queue: not goes_first(queue))


class Hook:
    """A function of the worker's as an option of the transport. A worker tells Flower its options as JSON, so it is also a word."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __json__(self) -> str:
        return self._function.__name__


class RedisQoS(redis.QoS):
    """kombu's record of what is not acknowledged, which knows that some of it is in Redis already, and acknowledges several at once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.noted: set[str] = set()
        self._done: list[str] = []

    def append(self, message: Any, delivery_tag: str) -> None:
        """Remember a message, here and in Redis."""
        if delivery_tag in self.noted:
            self.noted.remove(delivery_tag)
            virtual.QoS.append(self, message, delivery_tag)
        else:
            super().append(message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Forget a message: in Redis at the end of this pass of Celery's loop, together with others that are done by then.

        The loop would wait for Redis once for each. A message that is not forgotten in the end comes again, and its row is settled.
        """
        transport: Any = self.channel.connection
        if transport is None or not transport.is_in_loop:  # rows may outlive the connection on which they came
            super().ack(delivery_tag)
            return
        virtual.QoS.ack(self, delivery_tag)
        self._done.append(delivery_tag)

    def forget(self) -> None:
        """Take off Redis' list of unacknowledged messages what is done."""
        done, self._done = self._done, []
        if not done:
            return
        try:
            with self.pipe_or_acquire() as pipe:
                pipe.zrem(self.unacked_index_key, *done).hdel(self.unacked_key, *done).execute()
        except RedisError as error:
            log.warning("rows that are done could not be acknowledged, and will be seen once more: %d (%s)", len(done), error)


class Channel(redis.Channel):
    """kombu's channel, with one client for its pool: making one per command was a sixth of what a row cost a worker."""

    QoS = RedisQoS
    qos: RedisQoS

    #: Set by the transport options of these names: says how many more rows would soon be begun; hears the task ids of what was taken.
    wanted_rows: Hook
    taken_rows: Hook
    from_transport_options = (*redis.Channel.from_transport_options, "wanted_rows", "taken_rows")

    _kept: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._known: dict[bool, dict[str, Any]] = {}
        super().__init__(*args, **kwargs)

    def close(self) -> None:
        """Acknowledge what is done, and close."""
        self.forget()
        super().close()

    def forget(self) -> None:
        """Acknowledge what is done, if ever a message was taken."""
        if self._qos is not None:
            self.qos.forget()

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._create_client(asynchronous=True)  # type: ignore[misc]  # the stubs lack it
        if self._kept is None or self._kept.connection_pool is not self.pool:  # a lost connection replaces the pool
            self._kept = super()._create_client()  # type: ignore[misc]
        return self._kept

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        """Return how to connect, as long as anything still comes this way.

        kombu 5.7 closes a channel that waits for rows twice when its server goes away, the second time after it has forgotten whose it
        was: Celery would end over that. And rows that are in flight then are acknowledged on their old channel.
        """
        if self.connection.client is not None:
            self._known[asynchronous] = super()._connparams(asynchronous=asynchronous)  # type: ignore[misc]
        return dict(self._known[asynchronous])

    def _brpop_start(self, *args: Any, **kwargs: Any) -> None:
        # Not by the prefetch count: lowering that leaves a row that is on its way here where nobody counts it.
        if self.wanted_rows() > 0:
            super()._brpop_start(*args, **kwargs)  # type: ignore[misc]

    def _brpop_read(self, **options: Any) -> Any:
        came = super()._brpop_read(**options)  # type: ignore[misc]
        queues: list[str] = self._queue_cycle.items  # type: ignore[attr-defined]
        if queues:  # none once this worker stops; else the queue that had its turn is the last
            self._take_more(queues[-1])
        return came

    def _take_more(self, queue: str) -> None:
        """Take what else the engine wants from a queue that has just given a row, without asking for each."""
        room = self.qos.can_consume_max_estimate()
        wanted = min(self.wanted_rows(), _TOGETHER, *([] if room is None else [room]))
        if wanted < 1:
            return
        keys = (self._q_for_pri(queue, 0), self.qos.unacked_index_key, self.qos.unacked_key)  # type: ignore[attr-defined]
        taken: list[bytes] = []
        with suppress(ResponseError), self.conn_or_acquire() as client:  # one that is full takes no notes, and nothing is popped
            taken = client.eval(_TAKE, len(keys), *keys, wanted, time.time())
        messages = [json.loads(message) for message in taken]
        self.taken_rows([str((message.get("headers") or {}).get("id")) for message in messages])
        for message in messages:
            self.qos.noted.add(message["properties"]["delivery_tag"])
            self.connection._deliver(message, queue)


class Transport(redis.Transport):
    """kombu's transport, with our channels."""

    Channel = Channel
    channels: Any  # ours, not kombu's
    #: Whether Celery's loop looks after the channels, pass by pass: what is done is then acknowledged at the end of each.
    is_in_loop = False

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Have a loop look after the channels. Celery does so whenever it has connected."""
        super().register_with_event_loop(connection, loop)
        loop.on_tick.add(self._forget)
        self.is_in_loop = True

    def _forget(self) -> None:
        for channel in self.channels:
            channel.forget()
