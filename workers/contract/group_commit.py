"""Threads that want something stored at the same moment have it stored together, as databases do with their logs."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class _Wish(Generic[T]):
    item: T
    #: Set once it is stored, or the turn has come to its thread to store it with what else waits.
    ready: threading.Event = field(default_factory=threading.Event)
    leads: bool = False
    error: Exception | None = None


class GroupCommit(Generic[T]):
    """One thread at a time stores what waits; what comes meanwhile is stored by the first that came, once that one is done.

    ``commit`` stores items and returns what each failed with, or raises what all of them failed with.
    """

    def __init__(self, commit: Callable[[Sequence[T]], Sequence[Exception | None]]) -> None:
        self._commit = commit
        self._lock = threading.Lock()
        self._waiting: list[_Wish[T]] = []
        self._busy = False

    def store(self, item: T) -> None:
        """Return once the item is stored. Raises what storing it failed with."""
        wish = _Wish(item)
        with self._lock:
            self._waiting.append(wish)
            wish.leads, self._busy = not self._busy, True
        if not wish.leads:
            wish.ready.wait()
        if wish.leads:
            self._store_what_waits()
        if wish.error is not None:
            raise wish.error

    def _store_what_waits(self) -> None:
        with self._lock:
            wishes, self._waiting = self._waiting, []
        # What the others hear if this thread is ended in the middle of it.
        errors: Sequence[Exception | None] = [ConnectionError("the thread that was to store it ended")] * len(wishes)
        try:
            errors = self._commit([wish.item for wish in wishes])
        except Exception as error:
            errors = [error] * len(wishes)
        finally:
            for wish, failed in zip(wishes, errors, strict=True):
                wish.error = failed
            self._hand_over()
            for wish in wishes:
                wish.ready.set()

    def _hand_over(self) -> None:
        with self._lock:
            self._busy = bool(self._waiting)
            if self._waiting:
                self._waiting[0].leads = True
                self._waiting[0].ready.set()
