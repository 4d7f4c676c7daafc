"""Rows that come to a worker together are claimed together, before their threads would do so one by one."""

from collections.abc import Collection, Container
from contextlib import suppress
from dataclasses import dataclass

import redis

from .attempts import Attempts, Standing
from .contract import broker


@dataclass
class _Claim:
    """What came of it; nothing yet, or nothing of use to a thread, if there is no standing."""

    standing: Standing | None = None


class EarlyClaims:
    """Claims of rows at which no thread has looked yet. ``rows`` holds the task ids of those at which one has."""

    def __init__(self, attempts: Attempts, rows: Container[str]) -> None:
        self._attempts, self._rows = attempts, rows
        self._claims: dict[str, _Claim] = {}

    def claim(self, task_ids: Collection[str]) -> None:
        """Claim what is free of the rows that came; called by Celery's loop, which must not wait long."""
        fresh: dict[str, _Claim] = {}
        for task_id in filter(_names_a_row, task_ids):
            claim = _Claim()
            if self._claims.setdefault(task_id, claim) is claim:
                fresh[task_id] = claim
        # A row may be sent twice, so a thread may be at it. It notes that first and looks here then; we do it the other way round.
        for task_id in [task_id for task_id in fresh if task_id in self._rows]:
            self._claims.pop(task_id, None)
            del fresh[task_id]
        with suppress(redis.RedisError):
            for task_id, standing in self._attempts.claim_all(fresh).items():
                fresh[task_id].standing = standing if standing.taken else None

    def take(self, task_id: str) -> Standing | None:
        """Return how it stands with a row that was claimed as it came; once, to the thread that is at it."""
        claim = self._claims.pop(task_id, None)
        return claim.standing if claim is not None else None

    def __len__(self) -> int:
        return len(self._claims)


def _names_a_row(task_id: str) -> bool:
    """Tell our tasks from those that somebody else has sent to the queue."""
    try:
        broker.parse_task_id(task_id)
    except ValueError:
        return False
    return True
