"""Replies in figures: how long they are and how much they repeat themselves, for many rows at once on all cores."""

import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import chain, islice
from multiprocessing import get_context
from typing import NamedTuple, TypeAlias

from .joining import Joined
from .measures import repetition
from .replies import Reply

#: Rows that a process measures at a time.
_BATCH = 32
#: Fewer batches are measured sooner than other processes begin.
_FEW = 8
#: Characters of a text, from its start, whose repetition is measured: far more than models are let say, while a file may hold anything.
_MEASURED = 50_000
_WORKERS = min(os.cpu_count() or 1, 8)


class Figures(NamedTuple):
    """Lengths in characters, repetition as shares from 0 to 1, the longest repeated span in characters."""

    answer: int
    reasoning: int
    answer_repetition: float
    reasoning_repetition: float
    longest: int


class Compared(NamedTuple):
    """A question, and of each source its figures; None where it has no reply. Of several samples, the first is measured."""

    joined: Joined
    figures: tuple[Figures | None, ...]


def first_reply(joined: Joined, side: int) -> Reply | None:
    """Return the reply that stands for a source; None if it has none."""
    row = joined.sides[side]
    return row.replies[0] if row is not None and row.replies else None


def measured(rows: Iterable[Joined]) -> Iterator[Compared]:
    """Yield rows with their figures, in their order; few of them are held at a time."""
    batches = _batches(rows)
    ahead = list(islice(batches, _FEW))
    batches = chain(ahead, batches)
    if len(ahead) < _FEW or _WORKERS == 1:
        for batch in batches:
            yield from map(Compared, batch, _measure(_texts(batch)))
        return
    # Not forked: somebody may have begun threads here. Ctrl-C is this process's to answer
    quiet = (signal.SIGINT, signal.SIG_IGN)
    with ProcessPoolExecutor(_WORKERS, get_context("spawn"), signal.signal, quiet) as pool:
        waiting: deque[tuple[Sequence[Joined], Future[list[_SidesFigures]]]] = deque()
        for batch in batches:
            waiting.append((batch, pool.submit(_measure, _texts(batch))))
            if len(waiting) > 2 * _WORKERS:
                yield from _finished(*waiting.popleft())
        while waiting:
            yield from _finished(*waiting.popleft())


#: Of each source the answer and the reasoning; None where there is no reply.
_SidesTexts: TypeAlias = list[tuple[str, str] | None]
_SidesFigures: TypeAlias = tuple[Figures | None, ...]


def _finished(batch: Sequence[Joined], future: "Future[list[_SidesFigures]]") -> Iterator[Compared]:
    return map(Compared, batch, future.result())


def _batches(rows: Iterable[Joined]) -> Iterator[list[Joined]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, _BATCH)):
        yield batch


def _texts(batch: Sequence[Joined]) -> list[_SidesTexts]:
    replies = [[first_reply(joined, side) for side in range(len(joined.sides))] for joined in batch]
    return [[None if reply is None else (reply.answer, reply.reasoning) for reply in sides] for sides in replies]


def _measure(batch: list[_SidesTexts]) -> list[_SidesFigures]:
    return [tuple(None if texts is None else _figures(*texts) for texts in sides) for sides in batch]


def _figures(answer: str, reasoning: str) -> Figures:
    of_answer, of_reasoning = repetition(answer[:_MEASURED]), repetition(reasoning[:_MEASURED])
    longest = max(of_answer.longest, of_reasoning.longest)
    return Figures(len(answer), len(reasoning), of_answer.share, of_reasoning.share, longest)
