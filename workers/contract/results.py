"""Where workers put results: Celery's Redis backend, of which ``workers/outbox.py`` makes use before Celery would."""

import logging
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from celery import Celery, states
from celery.backends.redis import RedisBackend
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

from .messages import Answer

#: Errors that pass: a disk that is full, replicas or a master that are away, a script that takes long. Others have classes of their own.
_PASSING = ("MISCONF", "NOREPLICAS", "MASTERDOWN", "BUSY")
#: Seconds between two lines that say that Celery cannot get at results.
_SAY_AGAIN = 60.0


class Record(NamedTuple):
    """A result as Redis keeps it."""

    key: str | bytes
    value: str | bytes


class PatientRedisBackend(RedisBackend):
    """Stores answers several at a time, each by one command, and knows which errors pass.

    Celery asks first whether there is a result, which the row's claim has answered, and sends it a second time to whoever might listen on
    a channel: 7 % of what a row costs a worker, and half of what an answer costs the network.
    """

    app: Celery  # the stubs lack these
    expires: float | None

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        # Out of memory, a replica after a failover: somebody mends these, and the answer was paid for.
        if isinstance(exc, (OutOfMemoryError, ReadOnlyError)) or (isinstance(exc, ResponseError) and str(exc).startswith(_PASSING)):
            return True
        return bool(super().exception_safe_to_retry(exc))

    def record(self, task_id: str, answer: Answer) -> Record:
        """Return an answer as a result of Celery's."""
        done = {"status": states.SUCCESS, "result": answer, "traceback": None, "children": [], "task_id": task_id}
        return Record(self.get_key_for_task(task_id), self.encode(done | {"date_done": self.app.now().isoformat()}))

    def store_all(self, records: Sequence[Record]) -> list[Exception | None]:
        """Store results, and return what each failed with. Raises what all of them failed with."""
        # Not by Celery's own way to set a key, which tries 20 times by itself and says each time that it does.
        pipe = self.client.pipeline(transaction=False)
        for key, value in records:
            pipe.set(key, value, ex=self.expires or None)
        return [said if isinstance(said, Exception) else None for said in pipe.execute(raise_on_error=False)]

    def _store_result(self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any) -> Any:
        if state == states.SUCCESS:  # the row's thread was woken after its answer was stored
            return result
        return super()._store_result(task_id, result, state, traceback, request, **kwargs)  # type: ignore[misc]


class _NowAndThen(logging.Filter):
    """Has Celery's traceback for each try at a result (it asks for those of rows that come again) told as a line now and then."""

    _said = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.exc_info:
            return True
        if time.monotonic() - self._said < _SAY_AGAIN:
            return False
        self._said = time.monotonic()
        record.msg, record.args, record.exc_info = "results cannot be read or written now: %s", (record.exc_info[1],), None
        return True


logging.getLogger("celery.backends.base").addFilter(_NowAndThen())
