"""What several threads store at the same moment is stored together."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import eventually
from workers.contract.group_commit import GroupCommit


class Disk:
    """Stores numbers; negative ones fail. It can be stopped in the middle of a batch."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.threads: list[int] = []
        self.turns = threading.Event()
        self.turns.set()

    def commit(self, items: Sequence[int]) -> list[Exception | None]:
        """Store a batch once the disk turns."""
        self.batches.append(list(items))
        self.threads.append(threading.get_ident())
        assert self.turns.wait(30)
        return [ValueError(item) if item < 0 else None for item in items]


def test_what_comes_while_something_is_stored_is_stored_in_one_go() -> None:
    """By one of those that wait, since whoever stored before has its own work to go on with."""
    disk = Disk()
    commit = GroupCommit(disk.commit)
    disk.turns.clear()
    with ThreadPoolExecutor(50) as threads:
        first = threads.submit(commit.store, 0)
        eventually(lambda: disk.batches == [[0]])
        others = [threads.submit(commit.store, item) for item in range(1, 50)]
        eventually(lambda: len(commit._waiting) == 49)
        disk.turns.set()
        for future in [first, *others]:
            future.result(30)

    assert [sorted(batch) for batch in disk.batches] == [[0], list(range(1, 50))]
    assert len(set(disk.threads)) == 2


def test_each_hears_of_its_own_failure() -> None:
    """A row whose result is refused is tried again; those beside it are done."""
    commit = GroupCommit(Disk().commit)

    commit.store(1)
    with pytest.raises(ValueError, match="-2"):
        commit.store(-2)


def test_a_batch_that_fails_as_a_whole_fails_for_each_and_the_next_goes_on() -> None:
    """As where the connection breaks."""
    healthy = Disk()
    broken = [ConnectionError("away")]

    def commit(items: Sequence[int]) -> Sequence[Exception | None]:
        if broken:
            raise broken.pop()
        return healthy.commit(items)

    group = GroupCommit(commit)
    with pytest.raises(ConnectionError):
        group.store(1)
    group.store(2)

    assert healthy.batches == [[2]]


def test_a_thread_that_is_ended_while_it_stores_leaves_nobody_waiting() -> None:
    """What it had taken along is stored by those who asked for it, once they try again."""
    disk = Disk()
    entered, ended = threading.Event(), threading.Event()

    def commit(items: Sequence[int]) -> Sequence[Exception | None]:
        if 0 not in items:
            return disk.commit(items)
        entered.set()
        assert ended.wait(30)
        raise SystemExit

    group = GroupCommit(commit)
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(group.store, 0)
        assert entered.wait(30)
        others = [threads.submit(group.store, item) for item in (1, 2)]
        eventually(lambda: len(group._waiting) == 2)
        ended.set()
        assert isinstance(first.exception(30), SystemExit)
        assert [other.exception(30) for other in others] == [None, None]

    assert sorted(disk.batches[0]) == [1, 2]


def test_nothing_is_lost_or_stored_twice_whoever_comes_when() -> None:
    """Hundreds of threads, each with several things to store."""
    disk = Disk()
    commit = GroupCommit(disk.commit)
    with ThreadPoolExecutor(200) as threads:
        list(threads.map(commit.store, range(5000)))

    assert sorted(item for batch in disk.batches for item in batch) == list(range(5000))
