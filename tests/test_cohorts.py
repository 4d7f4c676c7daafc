"""The door to the engine: suspects run in small company, and before everybody else."""

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.conftest import eventually
from workers.cohorts import Cohorts


class Crowd:
    """Rows, each a thread that waits at the door, stays inside until told, and leaves."""

    def __init__(self) -> None:
        self.door, self.inside, self.gave_up = Cohorts(), [], []  # type: ignore[var-annotated]
        self.closing = threading.Event()
        self._threads: list[threading.Thread] = []
        self._leave: dict[str, threading.Event] = {}

    def send(self, name: str, size: float) -> None:
        self._leave[name] = threading.Event()
        thread = threading.Thread(target=self._row, args=(name, size))
        self._threads.append(thread)
        thread.start()

    def let_go(self, *names: str) -> None:
        for name in names:
            self._leave[name].set()

    def waiting(self) -> int:
        return self.door._waiting.total()

    def _row(self, name: str, size: float) -> None:
        with self.door.join(size, self.closing.is_set) as entered:
            if not entered:
                self.gave_up.append(name)
                return
            self.inside.append(name)
            self._leave[name].wait(30)
            self.inside.remove(name)

    @contextmanager
    def ended(self) -> Iterator["Crowd"]:
        try:
            yield self
        finally:
            self.closing.set()
            self.door.wake()
            self.let_go(*self._leave)
            for thread in self._threads:
                thread.join(30)


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    """Nobody is left behind after a test."""
    with Crowd().ended() as made:
        yield made


def holds(crowd: Crowd, *names: str) -> Callable[[], bool]:
    return lambda: sorted(crowd.inside) == sorted(names)


def test_rows_without_a_past_never_wait(crowd: Crowd) -> None:
    """The door costs nothing as long as no engine has died."""
    for row in range(50):
        crowd.send(f"row {row}", math.inf)

    eventually(lambda: len(crowd.inside) == 50)


def test_a_suspect_waits_for_an_empty_engine_and_nobody_goes_before_it(crowd: Crowd) -> None:
    """If everybody else could still enter, it would wait for ever."""
    crowd.send("healthy", math.inf)
    eventually(holds(crowd, "healthy"))
    crowd.send("suspect", 1)
    eventually(lambda: crowd.waiting() == 1)
    crowd.send("late", math.inf)
    eventually(lambda: crowd.waiting() == 2)
    assert crowd.inside == ["healthy"]

    crowd.let_go("healthy")
    eventually(holds(crowd, "suspect"))
    assert crowd.waiting() == 1
    crowd.let_go("suspect")

    eventually(holds(crowd, "late"))


def test_a_cohort_is_as_large_as_it_may_be_and_no_larger(crowd: Crowd) -> None:
    """Smaller cohorts first: the row that kills is more likely in them."""
    crowd.send("healthy", math.inf)
    eventually(holds(crowd, "healthy"))
    for row in range(10):
        crowd.send(f"eight {row}", 8)
    crowd.send("alone", 1)
    eventually(lambda: crowd.waiting() == 11)

    crowd.let_go("healthy")
    eventually(holds(crowd, "alone"))
    crowd.let_go("alone")
    eventually(lambda: len(crowd.inside) == 8)
    crowd.let_go(crowd.inside[0])

    eventually(lambda: len(crowd.inside) == 8 and crowd.waiting() == 1)


def test_who_gives_up_leaves_no_gap(crowd: Crowd) -> None:
    """A worker that is told to stop empties the door too."""
    crowd.send("suspect", 1)
    eventually(holds(crowd, "suspect"))
    crowd.send("waits", math.inf)
    eventually(lambda: crowd.waiting() == 1)

    crowd.closing.set()
    crowd.door.wake()

    eventually(lambda: crowd.gave_up == ["waits"])
    assert crowd.waiting() == 0
