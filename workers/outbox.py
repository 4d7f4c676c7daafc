"""Answers on their way out: stored together and first of all, since only then can anybody collect them.

Celery has the thread of each row store its result. Where hundreds of rows end at once, as many threads wake up for that and wait for
Python's lock in turn. Here one thread stores what comes. It wakes the others for the rest of Celery's work once nothing more comes, or
once rows could not be taken any more for want of threads.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import NamedTuple

from .contract.messages import Answer
from .contract.results import PatientRedisBackend, Record

log = logging.getLogger(__name__)

#: Seconds between two times of storing, in which answers gather: sent one by one, they cost all of us a fifth more.
_GATHER = 0.01
#: Seconds that an answer may be stored and not told while others come.
_LATEST = 0.25
#: Seconds before what Redis could not take is tried again, at first and at most, and between two lines that say so.
_TRY_AGAIN, _TRY_AGAIN_AT_MOST, _SAY_AGAIN = 1.0, 5.0, 60.0


class _Delivery(NamedTuple):
    record: Record
    answer: Answer
    #: What the row's thread waits for.
    stored: "Future[Answer]"

    def tell(self) -> None:
        self.stored.set_result(self.answer)


class Outbox:
    """Stores answers as Celery would; later where Redis cannot take them now, since they were paid for.

    ``is_full`` says whether no more rows can be taken before some are told. ``died`` hears why if nothing can be stored any more:
    whatever waits for it would wait forever.
    """

    def __init__(self, backend: PatientRedisBackend, is_full: Callable[[], bool], died: Callable[[str], None]) -> None:
        self._backend, self._is_full, self._died = backend, is_full, died
        self._waiting: SimpleQueue[_Delivery] = SimpleQueue()
        self._said = float("-inf")
        threading.Thread(target=self._run, name="outbox", daemon=True).start()

    def deliver(self, task_id: str, work: "Future[Answer]") -> "Future[Answer]":
        """Return a future that has the answer once it is stored. What ``work`` fails with it fails with at once."""
        stored: Future[Answer] = Future()
        work.add_done_callback(partial(self._take, task_id, stored))
        return stored

    def _take(self, task_id: str, stored: "Future[Answer]", work: "Future[Answer]") -> None:
        try:
            answer = work.result()
            self._waiting.put(_Delivery(self._backend.record(task_id, answer), answer, stored))
        except BaseException as error:  # whatever it is, the row's thread waits for it
            stored.set_exception(error)

    def _run(self) -> None:
        try:
            self._store_for_ever()
        except BaseException as error:
            log.exception("answers are not stored any more")
            self._died(f"nobody stores its answers: {type(error).__name__}: {error}")

    def _store_for_ever(self) -> None:
        untold: list[_Delivery] = []
        since, pause = 0.0, _TRY_AGAIN
        while True:
            came = self._what_came(wait=not untold)
            done, refused = self._store(came)
            since = since if untold else time.monotonic()
            untold += done
            if not came or refused or self._is_full() or time.monotonic() - since > _LATEST:
                for delivery in untold:
                    delivery.tell()
                untold.clear()
            time.sleep(pause if refused else _GATHER)
            for delivery in refused:
                self._waiting.put(delivery)
            pause = min(2 * pause, _TRY_AGAIN_AT_MOST) if refused else _TRY_AGAIN

    def _what_came(self, *, wait: bool) -> list[_Delivery]:
        deliveries = [self._waiting.get()] if wait else []
        while not self._waiting.empty():  # nobody else takes any
            deliveries.append(self._waiting.get())
        return deliveries

    def _store(self, deliveries: list[_Delivery]) -> tuple[list[_Delivery], list[_Delivery]]:
        """Return those that are stored, and those that Redis could not take now."""
        done: list[_Delivery] = []
        refused: list[_Delivery] = []
        for delivery, error in zip(deliveries, self._try([delivery.record for delivery in deliveries]), strict=True):
            if error is None:
                done.append(delivery)
            elif self._backend.exception_safe_to_retry(error):
                refused.append(delivery)
                self._say_now_and_then(error)
            else:
                delivery.stored.set_exception(error)
        return done, refused

    def _try(self, records: list[Record]) -> list[Exception | None]:
        try:
            return self._backend.store_all(records) if records else []
        except Exception as error:  # all of them, as when the connection breaks
            return [error] * len(records)

    def _say_now_and_then(self, error: Exception) -> None:
        if time.monotonic() - self._said >= _SAY_AGAIN:
            self._said = time.monotonic()
            log.warning("results cannot be stored and wait: %s", error)
