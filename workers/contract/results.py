"""Where workers put results: Celery's Redis backend, made to wait where a result would otherwise be lost."""

import logging
import time

from celery.backends.redis import RedisBackend
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

#: Seconds between two lines that say that results wait.
_PATIENCE = 60.0


class PatientRedisBackend(RedisBackend):
    """Stores a result later where Redis cannot take it now; Celery itself would give it up and acknowledge the row."""

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        # Out of memory, a replica after a failover, a disk that is full (MISCONF): somebody mends these, and the answer was paid for.
        if isinstance(exc, (OutOfMemoryError, ReadOnlyError)) or (isinstance(exc, ResponseError) and str(exc).startswith("MISCONF")):
            return True
        return bool(super().exception_safe_to_retry(exc))


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
