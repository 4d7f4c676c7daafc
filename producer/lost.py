"""Rows that Redis no longer holds in any form: a kill between the fetch of a message and the record of the fetch loses it for good."""

import re
from collections.abc import Collection
from typing import cast

from workers.contract import broker

from .runs import RunStore
from .transport import Transport

#: Seconds without a result after which a run looks, and the most between two looks while nothing is found.
_SILENCE, _LONGEST = 8.0, 64.0
#: Times that rows are sent again without any of them coming back.
_TRIES = 5
#: A task's id in a message as kombu writes it. The question itself is base64 there.
_TASK_ID = re.compile(rb'"id": ?"([0-9a-f]+:\d+:\d+)"')
_PAGE = 1000


class LostRows:
    """Finds the rows of a run that were sent and are neither queued, nor taken, nor answered."""

    def __init__(self, transport: Transport, store: RunStore) -> None:
        self._transport, self._store = transport, store
        self._missing: set[str] = set()
        self._waiting = _SILENCE
        self._tries = 0

    @property
    def is_hopeless(self) -> bool:
        """Say whether sending again has been tried often enough."""
        return self._tries > _TRIES

    def among(self, waiting: Collection[str], silence: float) -> set[str]:
        """Return the task ids among the ``waiting`` that are lost; ``silence`` is the time in seconds since a result came.

        A row counts as lost when it is missed twice: one that just moves from the workers back to its queue can be overlooked once.
        """
        if silence < _SILENCE:
            self._waiting, self._missing, self._tries = _SILENCE, set(), 0
        if silence < self._waiting:
            return set()
        missing = set(waiting) - self._held()
        lost, self._missing = missing & self._missing, missing
        self._waiting += _SILENCE if missing else min(self._waiting, _LONGEST)
        if lost:
            self._missing, self._tries = set(), self._tries + 1
        return lost

    def _held(self) -> set[str]:
        """Return the tasks that are queued or taken. Queue first: the usual way of a row is from there to the workers."""
        redis = self._transport.redis
        held: set[str] = set()
        with broker.explaining(self._transport.settings):
            for queue in self._queues():
                for start in range(0, redis.llen(queue) + _PAGE, _PAGE):
                    for message in cast(list[bytes], redis.lrange(queue, start, start + _PAGE - 1)):
                        held.update(found.decode() for found in _TASK_ID.findall(message))
            for _, message in redis.hscan_iter(broker.UNACKED, count=_PAGE):
                held.update(found.decode() for found in _TASK_ID.findall(message))
        return held

    def _queues(self) -> list[str]:
        """Return where rows of the run may wait; of other contract versions, which workers of ours pass by, none."""
        manifest = self._store.manifest
        ours = broker.queue_names(manifest.served_name)
        return [queue for queue in (*manifest.former_queues, manifest.queue) if queue in ours]
