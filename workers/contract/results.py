"""Where workers put results: Celery's Redis backend, which waits where a result would otherwise be lost, and sends each once."""

import logging
import time
from collections.abc import Sequence
from typing import Any

from celery import states
from celery.backends.redis import RedisBackend
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

from .group_commit import GroupCommit

#: Seconds between two lines that say that results wait.
_PATIENCE = 60.0


class PatientRedisBackend(RedisBackend):
    """Stores a result later where Redis cannot take it now; Celery itself would give it up and acknowledge the row.

    A result is one command, and those of rows that end at the same moment are sent together. Celery asks first whether there is one,
    which the row's claim has answered, and sends it a second time to whoever might listen on a channel: 7 % of what a row costs a worker,
    and half of what an answer costs the network.
    """

    expires: float | None  # the stubs lack it

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._results = GroupCommit(self._set_all)

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        # Out of memory, a replica after a failover, a disk that is full (MISCONF): somebody mends these, and the answer was paid for.
        if isinstance(exc, (OutOfMemoryError, ReadOnlyError)) or (isinstance(exc, ResponseError) and str(exc).startswith("MISCONF")):
            return True
        return bool(super().exception_safe_to_retry(exc))

    def _store_result(self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any) -> Any:
        if state != states.SUCCESS:  # never instead of an answer
            return super()._store_result(task_id, result, state, traceback, request, **kwargs)  # type: ignore[misc]
        meta: dict[str, Any] = self._get_result_meta(result, state, traceback, request)  # type: ignore[attr-defined]
        meta["task_id"] = task_id
        self._results.store((self.get_key_for_task(task_id), self.encode(meta)))
        return result

    def _set_all(self, results: Sequence[tuple[Any, Any]]) -> list[Exception | None]:
        # Not by Celery's own way to set a key, which tries 20 times by itself and says each time that it does.
        pipe = self.client.pipeline(transaction=False)
        for key, value in results:
            pipe.set(key, value, ex=self.expires or None)
        return [said if isinstance(said, Exception) else None for said in pipe.execute(raise_on_error=False)]


class _NowAndThen(logging.Filter):
    """Has Celery's traceback for each try of each result, 250 lines a second with 16 of them, told as a line now and then."""

    _said = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.exc_info:
            return True
        if time.monotonic() - self._said < _PATIENCE:
            return False
        self._said = time.monotonic()
        record.msg, record.args, record.exc_info = "results cannot be stored and wait: %s", (record.exc_info[1],), None
        return True


logging.getLogger("celery.backends.base").addFilter(_NowAndThen())
