"""Keeping a run moving: send while the window has room, store what has come back, until nothing is left."""

import contextlib
import time
from collections import deque
from collections.abc import Callable

from workers.contract import broker
from workers.contract.errors import BrokerFull, BrokerUnreachable, UserError
from workers.contract.messages import Answer, Outcome

from .collect import collect
from .lost import LostRows
from .questions import Questions
from .run_files import StoreFull
from .runs import RunStore
from .submit import BATCH, Sender, rows_of
from .transport import Lease, Transport

#: Seconds between two looks for results: short while they come in, so that each finds some; longer while nothing happens.
_POLL, _POLL_IDLE = 0.03, 1.0
#: Batches that are sent before results are looked for again; rows of the first one.
_BATCHES, _FIRST_BATCH = 4, 50
#: Seconds between two looks at what concerns the run as a whole: is it still ours, was it cancelled?
_LOOK_UP = 2.0
#: Seconds before what could not be done (no answer, no room) is tried again.
_TRY_AGAIN = 1.0

Watch = Callable[[list[Answer]], None]
Say = Callable[[str], None]


class Feeder:
    """One run on its way through Redis, owned by this process while it holds the lease."""

    def __init__(self, transport: Transport, store: RunStore, questions: Questions, window: int, say: Say) -> None:
        self._transport, self._store, self._questions, self._window, self._say = transport, store, questions, window, say
        self._sent: dict[str, int] = {}  # task id -> row, of rows that Redis holds in one form or another
        self._unsent: deque[int] = deque()
        self._lost = LostRows(transport, store)
        self._trouble = ""

    def run(self, watch: Watch, *, until_sent: bool = False) -> None:
        """Feed and collect until every row is stored, or with ``until_sent`` until every row is in Redis.

        ``watch`` is called a few times a second with what has just been stored; what it raises stops the run after one last
        collection, so that no answer that is there is paid for again. A broker that does not answer and a disk that is full are
        waited for. A run that somebody cancels ends here. Raises BrokerError, UserError.
        """
        manifest = self._store.manifest
        with self._transport.lease(manifest.run_id) as lease:
            # It may have been cancelled from somewhere while nobody was at work on it; now somebody is.
            self._store.update(generation=max(manifest.generation, self._transport.generation(manifest.run_id)))
            self._choose_queue()
            self._look_at_what_is_there()
            while True:
                try:
                    with Sender(self._transport, self._store.manifest) as sender:
                        self._feed(sender, lease, watch, until_sent)
                        return
                except BrokerUnreachable as error:
                    self._wait_for_broker(error, lease, watch)
                except BaseException:
                    with contextlib.suppress(UserError):  # what is there is taken home, whatever stopped us
                        self._collect()
                    raise

    def collect_once(self) -> None:
        """Take home what is there now, and leave the rest running. Raises BrokerError, UserError."""
        with self._transport.lease(self._store.manifest.run_id):
            self._look_at_what_is_there()
            self._collect()

    def cancel(self) -> None:
        """Take home what is there now, and give up the rest. Raises BrokerError, UserError."""
        with self._transport.lease(self._store.manifest.run_id):
            self._transport.raise_generation(self._store.manifest.run_id, self._store.manifest.generation)
            self._look_at_what_is_there()
            self._give_up()

    def _feed(self, sender: Sender, lease: Lease, watch: Watch, until_sent: bool) -> None:
        looked_up = moved = time.monotonic()
        while True:
            self._fill_window(sender)
            if not self._unsent and (until_sent or not self._sent):
                return
            answers = self._collect_patiently()
            watch(answers)
            now = time.monotonic()
            if now - looked_up > _LOOK_UP:
                if not lease.renew():
                    self._look_at_what_is_there()  # Redis may have forgotten, or another producer may have been here
                self._transport.hold_queue(self._store.manifest)
                if self._transport.generation(self._store.manifest.run_id) > self._store.manifest.generation:
                    self._say("the run was cancelled")
                    self._give_up()
                    return
                self._send_lost_rows_again(sender, now - moved)
                looked_up = now
            moved = now if answers else moved
            if (self._sent or self._unsent) and not self._is_filling():
                time.sleep(min(_POLL_IDLE, max(_POLL, (now - moved) / 10)))

    def _is_filling(self) -> bool:
        """Say whether more is to be sent at once: a place that has just become free in a full window waits until the next look."""
        room = self._window - len(self._sent)
        return bool(self._unsent) and room > min(BATCH, self._window // 2) and not self._trouble

    def _choose_queue(self) -> None:
        manifest = self._store.manifest
        queue = self._transport.queue_for(manifest)
        if queue != manifest.queue:
            before = () if manifest.queue is None else (manifest.queue,)
            former = dict.fromkeys(name for name in manifest.former_queues + before if name != queue)
            self._store.update(queue=queue, former_queues=tuple(former))

    def _wait_for_broker(self, error: BrokerUnreachable, lease: Lease, watch: Watch) -> None:
        self._say(f"{error}; waiting until it answers")
        while True:
            watch([])
            time.sleep(_TRY_AGAIN)
            try:
                lease.renew()
                self._look_at_what_is_there()
            except BrokerUnreachable:
                continue
            self._say("the broker is back")
            return

    def _look_at_what_is_there(self) -> None:
        """Sort the rows: stored ones are done, those that this Redis was given already are awaited, the rest is sent."""
        manifest = self._store.manifest
        open_rows = sorted(set(range(manifest.asked_rows)) - self._store.settled_rows())
        # Rows that somebody else has collected (the store was deleted, or made fresh, or lies in another home) must be asked anew.
        generation = manifest.generation
        while rows_of(self._transport, broker.stored_key(manifest.run_id, generation)).intersection(open_rows):
            generation += 1
        if generation:
            self._store.update(generation=generation)
            self._transport.raise_generation(manifest.run_id, generation - 1)
        given = rows_of(self._transport, broker.sent_key(manifest.run_id, generation))
        self._sent = {broker.task_id(manifest.run_id, row, generation): row for row in open_rows if row in given}
        self._unsent = deque(row for row in open_rows if row not in given)

    def _fill_window(self, sender: Sender) -> None:
        for _ in range(_BATCHES):
            if not self._unsent or (room := self._window - len(self._sent)) <= 0:
                return
            if not self._transport.has_room():
                self._say_once("the broker's memory is nearly full: sending only as answers make room; a smaller --window avoids this")
                return
            # At first as many as are out already: those are answered while more are being written.
            size = min(room, BATCH, max(_FIRST_BATCH, len(self._sent)), len(self._unsent))
            rows = [self._unsent.popleft() for _ in range(size)]
            try:
                self._send(sender, rows)
            except BrokerFull as error:  # what is there gets answered, and collecting that makes room
                self._unsent.extendleft(reversed(rows))
                self._say_once(str(error))
                return
            except BaseException:
                self._unsent.extendleft(reversed(rows))
                raise

    def _send(self, sender: Sender, rows: list[int]) -> None:
        for question in sender.send(self._questions.of(row, self._store.manifest.generation) for row in rows):
            self._sent[broker.task_id(question.run_id, question.row, question.generation)] = question.row

    def _collect(self) -> list[Answer]:
        answers = collect(self._transport, self._store, self._sent, self._questions.key)
        for answer in answers:
            self._sent.pop(broker.task_id(answer.run_id, answer.row, answer.generation), None)
        return answers

    def _collect_patiently(self) -> list[Answer]:
        try:
            return self._collect()
        except (StoreFull, BrokerFull) as error:
            self._say_once(f"{error}; going on as soon as there is room")
            time.sleep(_TRY_AGAIN)
            return []

    def _give_up(self) -> None:
        manifest = self._store.manifest
        self._collect()
        rows = [*self._sent.values(), *self._unsent]
        self._store.store(self._ended(row, Outcome.CANCELLED, "the run was cancelled") for row in rows)
        self._store.update(generation=max(manifest.generation, self._transport.generation(manifest.run_id)))
        self._sent, self._unsent = {}, deque()

    def _send_lost_rows_again(self, sender: Sender, silence: float) -> None:
        lost = self._lost.among(self._sent, silence)
        if not lost:
            return
        self._collect_patiently()
        rows = [row for task_id, row in self._sent.items() if task_id in lost]
        if self._lost.is_hopeless:
            told = "was sent again and again and never came back: look at the workers' logs"
            self._store.store(self._ended(row, Outcome.FAILED, told) for row in rows)
            for task_id in lost:
                self._sent.pop(task_id, None)
        elif rows:
            self._say(f"rows lost on their way, as a kill at the wrong moment does, and sent again: {len(rows)}")
            self._send(sender, rows)

    def _ended(self, row: int, outcome: Outcome, error: str) -> Answer:
        manifest = self._store.manifest
        return Answer(run_id=manifest.run_id, row=row, generation=manifest.generation, outcome=outcome, error=error)

    def _say_once(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            self._say(trouble)
