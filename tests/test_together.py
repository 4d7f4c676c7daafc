"""What rows ask for at the same moment is done in one call, and each gets what is its own."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from workers.engines.together import Together


def asked(work: Callable[[Sequence[int]], Sequence[int | Exception]], numbers: Sequence[int], most: int = 100) -> list[int | BaseException]:
    """Have all numbers worked on at the same moment."""

    async def ask() -> list[int | BaseException]:
        together = Together(work, most)
        return await asyncio.gather(*map(together.ask, numbers), return_exceptions=True)

    return asyncio.run(ask())


def test_those_that_come_together_are_worked_on_together_but_not_too_many() -> None:
    """The event loop has others to serve in between."""
    calls: list[list[int]] = []

    def double(numbers: Sequence[int]) -> list[int]:
        calls.append(list(numbers))
        return [2 * number for number in numbers]

    assert asked(double, range(7), most=3) == [0, 2, 4, 6, 8, 10, 12]
    assert calls == [[0, 1, 2], [3, 4, 5], [6]]


def test_what_fails_for_one_is_raised_for_that_one() -> None:
    """The others have their results."""
    failed = ValueError("no")

    assert asked(lambda numbers: [failed if number == 1 else number for number in numbers], [0, 1, 2]) == [0, failed, 2]


@pytest.mark.parametrize("error", [ValueError("no"), BaseException("panicked")])
def test_nobody_waits_for_work_that_fails_as_a_whole(error: BaseException) -> None:
    """Libraries that are no Python end in what is no Exception."""

    def fail(_: Sequence[int]) -> list[int]:
        raise error

    for told in asked(fail, [0, 1]):
        assert isinstance(told, RuntimeError)
        assert str(told) == f"{type(error).__name__}: {error}"


def test_nothing_is_done_for_those_who_have_gone() -> None:
    """Deadlines and cancelled runs come at any moment."""
    calls: list[list[int]] = []

    async def ask_and_go() -> int:
        together = Together(lambda numbers: [calls.append(list(numbers)) or number for number in numbers], most=10)
        first, second = together.ask(1), together.ask(2)
        first.cancel()
        return await second

    assert asyncio.run(ask_and_go()) == 2
    assert calls == [[2]]
