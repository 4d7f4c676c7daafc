"""Where workers put results: Celery's Redis backend, made to wait where a result would otherwise be lost."""

from celery.backends.redis import RedisBackend
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError


class PatientRedisBackend(RedisBackend):
    """Stores a result later where Redis cannot take it now; Celery itself would give it up and acknowledge the row."""

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        # Out of memory, a replica after a failover, a disk that is full (MISCONF): somebody mends these, and the answer was paid for.
        if isinstance(exc, (OutOfMemoryError, ReadOnlyError)) or (isinstance(exc, ResponseError) and str(exc).startswith("MISCONF")):
            return True
        return bool(super().exception_safe_to_retry(exc))
