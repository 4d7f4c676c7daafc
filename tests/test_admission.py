"""When requests that wait are let into a batch."""

from typing import NamedTuple

from workers.engines.admission import Admission
from workers.engines.vllm_messages import Request


class Params(NamedTuple):
    """What of ``SamplingParams`` matters here: how many samples are asked for."""

    n: int = 1


def request(number: int, samples: int = 1) -> Request:
    """Return a request of which only the id and its samples matter."""
    return Request(str(number), [1], Params(samples), None)


def waiting(requests: int, places: int = 64, samples: int = 1) -> Admission:
    """Return an admission with requests that came at step 0."""
    admission = Admission(places)
    for number in range(requests):
        admission.hold(request(number, samples), 0)
    return admission


def test_a_batch_with_room_takes_a_row_at_once() -> None:
    """Somebody who asks a single question waits for nothing."""
    assert waiting(1).let_in(unfinished=10, step=0) == [request(0)]


def test_a_batch_that_is_nearly_full_takes_rows_together() -> None:
    """Two of 64 places are the share that is waited for; what came first goes first, and no more than there is room."""
    admission = waiting(5)

    assert admission.let_in(unfinished=64, step=1) == []
    assert admission.let_in(unfinished=63, step=2) == []
    assert admission.let_in(unfinished=62, step=3) == [request(0), request(1)]
    assert len(admission) == 3


def test_a_single_free_place_is_filled_after_some_steps() -> None:
    """Where all rows are long, a place must not stay empty for minutes."""
    admission = waiting(2)

    assert admission.let_in(unfinished=63, step=15) == []
    assert admission.let_in(unfinished=63, step=16) == [request(0)]
    assert admission.let_in(unfinished=63, step=17) == [], "the next one waits as long"


def test_a_full_batch_takes_none_however_long_they_wait() -> None:
    """They would only wait in the engine, and enter one by one."""
    assert waiting(1).let_in(unfinished=64, step=1000) == []


def test_what_is_aborted_while_it_waits_never_gets_in() -> None:
    """And what does not wait here is somebody else's to abort."""
    admission = waiting(2)

    assert admission.forget("0")
    assert not admission.forget("7")
    assert admission.let_in(unfinished=0, step=0) == [request(1)]


def test_each_sample_takes_a_place() -> None:
    """Else most of them would wait in the engine, and enter one by one; one that is larger than the batch goes all the same."""
    assert waiting(9, samples=4).let_in(unfinished=54, step=0) == [request(number, 4) for number in range(3)]
    assert waiting(2, samples=100).let_in(unfinished=0, step=0) == [request(0, 100)]


def test_the_smallest_batch_works() -> None:
    """One row at a time is a batch too."""
    admission = waiting(2, places=1)

    assert [admission.let_in(0, 0), admission.let_in(1, 1), admission.let_in(0, 2)] == [[request(0)], [], [request(1)]]
