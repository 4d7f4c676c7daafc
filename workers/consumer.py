"""Celery's consumer, which lets the events for Flower gather: sent one by one they were a fifth of what a row cost a worker."""

from typing import Any

from celery.worker.consumer import Consumer as CeleryConsumer

#: Seconds that an event waits for others at most, and how many are sent together at most. Celery's 24 would have the threads of rows send
#: them, one after the other, whenever many rows begin or end at once.
_GATHER, _TOGETHER = 0.5, 1000


class Consumer(CeleryConsumer):
    """Celery's consumer with fewer, larger messages to those who watch."""

    hub: Any  # the stubs lack these
    event_dispatcher: Any
    _flush_events: Any
    _flush_is_due = False

    def on_send_event_buffered(self) -> Any:
        """Celery calls this for every event that it keeps back; from any thread."""
        dispatcher = self.event_dispatcher
        if self.hub and dispatcher and not self._flush_is_due:  # none while Celery connects again
            self._flush_is_due = True
            dispatcher.buffer_limit = _TOGETHER
            self.call_soon(self.hub.call_later, _GATHER, self._flush_gathered)

    def _flush_gathered(self) -> None:
        self._flush_is_due = False
        self._flush_events()
