"""Keeping a run moving: send while the window has room, store what has come back, until nothing is left."""

import contextlib
import time
from collections import deque
from collections.abc import Callable

from workers.contract import broker
from workers.contract.errors import BrokerError
from workers.contract.messages import Answer

from .collect import collect
from .questions import Questions
from .runs import RunStore
from .submit import BATCH, Sender, rows_of
from .transport import LEASE, Transport

#: Seconds between two looks for results: short while they come in, longer while nothing happens.
_POLL, _POLL_IDLE = 0.1, 1.0
#: Seconds without a result after which a run asks whether its rows are still in Redis at all, and how often it sends them again.
_SILENCE, _RESENDS = 20.0, 5

Watch = Callable[[list[Answer]], None]


class Feeder:
    """One run on its way through Redis, owned by this process while it holds the lease."""

    def __init__(self, transport: Transport, store: RunStore, questions: Questions, window: int) -> None:
        self._transport, self._store, self._questions, self._window = transport, store, questions, window
        self._sent: dict[str, int] = {}  # task id -> row, of rows that Redis holds in one form or another
        self._unsent: deque[int] = deque()
        self._resends = 0

    def run(self, watch: Watch, *, until_sent: bool = False) -> None:
        """Feed and collect until every row is stored, or with ``until_sent`` until every row is in Redis.

        ``watch`` is called a few times a second with what has just been stored; what it raises stops the run after one last
        collection, so that no answer that is there is paid for again. Raises BrokerError, UserError.
        """
        manifest = self._store.manifest
        with self._transport.lease(manifest.run_id) as lease:
            self._look_at_what_is_there()
            with Sender(self._transport, manifest) as sender:
                renewed = moved = time.monotonic()
                try:
                    while True:
                        self._fill_window(sender)
                        if not self._unsent and (until_sent or not self._sent):
                            return
                        answers = self._collect()
                        watch(answers)
                        now = time.monotonic()
                        if now - renewed > LEASE / 6:
                            if not lease.renew():
                                self._look_at_what_is_there()  # Redis may have forgotten, or another producer may have been here
                            renewed = now
                        if answers:
                            moved, self._resends = now, 0
                        elif now - moved > _SILENCE:
                            self._send_lost_rows_again(sender)
                            moved = now
                        if not answers:
                            time.sleep(min(_POLL_IDLE, max(_POLL, (now - moved) / 10)))
                except BaseException:
                    with contextlib.suppress(BrokerError):  # what is there is taken home, whatever stopped us
                        self._collect()
                    raise

    def collect_once(self) -> None:
        """Take home what is there now, and leave the rest running. Raises BrokerError, UserError."""
        with self._transport.lease(self._store.manifest.run_id):
            self._look_at_what_is_there()
            self._collect()

    def _look_at_what_is_there(self) -> None:
        """Sort the rows: stored ones are done, those that this Redis was given already are awaited, the rest is sent."""
        manifest = self._store.manifest
        open_rows = sorted(set(range(manifest.asked_rows)) - self._store.stored_rows())
        # Rows that somebody else has collected (the store was deleted, or made fresh, or lies in another home) must be asked anew.
        generation = manifest.generation
        while rows_of(self._transport, broker.stored_key(manifest.run_id, generation)).intersection(open_rows):
            generation += 1
        if generation:
            self._store.update(generation=generation)
            with broker.explaining(self._transport.settings):
                self._transport.redis.set(broker.generation_key(manifest.run_id), generation, ex=broker.STORED_TTL)
        given = rows_of(self._transport, broker.sent_key(manifest.run_id, generation))
        self._sent = {broker.task_id(manifest.run_id, row, generation): row for row in open_rows if row in given}
        self._unsent = deque(row for row in open_rows if row not in given)

    def _fill_window(self, sender: Sender) -> None:
        while self._unsent and (room := self._window - len(self._sent)) > 0:
            rows = [self._unsent.popleft() for _ in range(min(room, BATCH, len(self._unsent)))]
            for question in sender.send(self._questions.of(row, self._store.manifest.generation) for row in rows):
                self._sent[broker.task_id(question.run_id, question.row, question.generation)] = question.row

    def _collect(self) -> list[Answer]:
        answers = collect(self._transport, self._store, self._sent)
        for answer in answers:
            self._sent.pop(broker.task_id(answer.run_id, answer.row, answer.generation), None)
        return answers

    def _send_lost_rows_again(self, sender: Sender) -> None:
        """A kill between the fetch of a message and the record of the fetch loses it for good; nobody else would notice."""
        manifest = self._store.manifest
        with broker.explaining(self._transport.settings):
            waiting = sum(self._transport.queue_lengths(manifest.served_name).values()) + self._transport.redis.hlen(broker.UNACKED)
        if waiting or any(worker.in_flight for worker in self._transport.workers(manifest.served_name)):
            return
        if self._resends == _RESENDS:
            raise BrokerError(
                f"{len(self._sent)} rows were sent {1 + _RESENDS} times and never came back; look at the workers' logs, then run again"
            )
        self._resends += 1
        sender.send(self._questions.of(row, manifest.generation) for row in list(self._sent.values()))
