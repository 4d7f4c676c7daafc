"""What the benchmarks' own arithmetic must get right: a figure in the docs is no better than that."""

import argparse
import math
from pathlib import Path

import pytest

from benchmarks.arguments import add_engine, at_least_one
from benchmarks.ledgers import Span, most_in_flight, spans, tail, tokens_per_second
from benchmarks.limits import Shape, limit
from benchmarks.order import Speed, simulate
from benchmarks.workbooks import FORMATS, _measured, _steps
from benchmarks.workload import believed, lengths

#: A model that can be reckoned with in one's head: 1,000 weights, 4 bytes of keys and values per token.
TINY = Shape(multiplied=1000, weights=1000, layers=1, heads=1, kv_heads=1, head_dim=1)


def write_ledger(path: Path, lines: list[str]) -> Path:
    """Write lines as an engine does."""
    path.write_text("".join(line + "\n" for line in lines))
    return path


def test_memory_decides_while_few_rows_share_the_weights() -> None:
    """One row reads all weights for one token."""
    least = limit(TINY, kv_cache_bytes=1e9, most_rows=1, prompt=0, reply=1, bandwidth=2000, flops=1e12)

    assert least.rows_in_flight == 1
    assert least.memory_seconds == pytest.approx(1.0, rel=0.01)
    assert least.tokens_per_s == pytest.approx(1.0, rel=0.01)


def test_arithmetic_decides_once_enough_rows_do() -> None:
    """Twice as many rows take twice as long, and give no more tokens/s."""
    few, many = (limit(TINY, 1e9, rows, prompt=0, reply=1, bandwidth=1e12, flops=2000) for rows in (100, 200))

    assert many.arithmetic_seconds == pytest.approx(2 * few.arithmetic_seconds)
    assert few.tokens_per_s == pytest.approx(many.tokens_per_s) == pytest.approx(1.0, rel=0.01)


def test_keys_and_values_decide_how_many_rows_there_are() -> None:
    """The rest of the memory is theirs."""
    assert limit(TINY, kv_cache_bytes=4 * 1000, most_rows=1024, prompt=100, reply=1, bandwidth=1, flops=1).rows_in_flight == 9


def test_the_tail_counts_who_has_nothing_left() -> None:
    """The last twentieth are two of forty rows; while they last, one of the two engines has nothing to do."""
    busy = [Span(row, 0, row) for row in range(1, 20)] + [Span(20, 0, 23)]
    other = [Span(row, 0, 19 + row / 100) for row in range(21, 41)]

    last = tail([busy, other])

    assert last["seconds"] == pytest.approx(23 - 19.39)
    assert last["idle_share"] == pytest.approx((23 - 19.4) / (2 * 3.61), abs=0.001)


def test_tokens_of_a_row_are_spread_over_its_time() -> None:
    """100 tokens in four seconds are 25 in each."""
    assert tokens_per_second([[Span(0, 10.5, 14.5)]], {0: 100}, began=10.0) == [12.5, 25, 25, 25, 12.5]


def test_a_ledger_tells_whose_rows_ended(tmp_path: Path) -> None:
    """Rows of other runs, and those without an end, do not count."""
    ledger = write_ledger(
        tmp_path / "ledger", ["start r:0:0:a 1.0", "start r:1:0:b 1.5", "start x:2:0:c 1.6", "end r:0:0:a 2.0", "end x:2:0:c 3.0"]
    )

    assert spans(ledger, "r") == [Span(0, 1.0, 2.0)]
    assert most_in_flight(ledger) == 3


def test_lengths_have_the_mean_that_was_asked_for() -> None:
    """Cut off above, so the mean of few long ones is a little less."""
    drawn = lengths(20_000, 250, 1024)

    assert 235 < sum(drawn) / len(drawn) < 255
    assert max(drawn) == 1024
    assert drawn == lengths(20_000, 250, 1024)
    assert lengths(3, 64, 64) == [64, 64, 64]


def test_beliefs_are_as_good_as_their_name() -> None:
    """Perfect is exact, good puts most pairs in their order, none knows nothing."""
    sizes = lengths(500, 250, 1024)

    def right(beliefs: list[float]) -> float:
        pairs = [(a, b) for a in range(0, 500, 7) for b in range(0, 500, 11) if sizes[a] < sizes[b]]
        return sum(beliefs[a] < beliefs[b] for a, b in pairs) / len(pairs)

    assert right(believed(sizes, "perfect")) == 1.0
    assert 0.7 < right(believed(sizes, "good")) < 0.95
    assert right(believed(sizes, "none")) == 0.0


def test_workbooks_of_every_kind_are_measured(tmp_path: Path) -> None:
    """Every step of the benchmark, and every answer found in its place."""
    given = argparse.Namespace(rows=30, characters=40, sources=FORMATS, outputs=FORMATS, times=1)

    told = [_measured(what, file, given.rows, given.characters) for what, file in _steps(given, tmp_path)]

    assert [step["rows"] for step in told if step["step"] == "read"] == [30] * 4
    assert [step["rows_with_their_own_answer"] for step in told if step["step"] == "check"] == [30] * 4
    assert all(step["peak_mb"] > 0 for step in told)


def test_a_calculated_run_takes_as_many_steps_as_its_longest_chain() -> None:
    """Two places: rows of 3 and 1 begin, 2 follows the 1; four steps of rows that cost nothing, and a second GPU shares them."""
    speed = Speed(base=1.0, per_row=0.0, per_prompt=0.0, places=2, intake=math.inf)

    assert simulate([3, 1, 3], gpus=1, speed=speed).seconds == 4
    assert simulate([3, 1, 3], gpus=3, speed=speed) == (3, 0.0, 0.0)


def test_a_gpu_without_a_row_counts_as_idle_in_the_tail() -> None:
    """Of 20 rows the last twentieth is one; while it runs alone the other GPU has nothing."""
    speed = Speed(base=1.0, per_row=0.0, per_prompt=0.0, places=10, intake=math.inf)

    ended = simulate([1] * 19 + [5], gpus=2, speed=speed)

    assert (ended.seconds, ended.tail_seconds, ended.tail_idle) == (5, 4, 0.5)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--rows", "0"], "'0' is no number from 1 on"),
        (["--rows", "many"], "'many' is no number from 1 on"),
        (["--engine-arg", "delay"], "--engine-arg delay: write it as KEY=VALUE"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(given: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is loaded."""
    options = argparse.ArgumentParser()
    add_engine(options)
    options.add_argument("--rows", type=at_least_one)

    with pytest.raises(SystemExit) as ended:
        options.parse_args(given)

    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_engine_arguments_are_read_as_a_worker_reads_them() -> None:
    """What a measurement was given can be given to `kotae-worker`."""
    options = argparse.ArgumentParser()
    add_engine(options)

    given = options.parse_args(["--engine-arg", "max_num_seqs=64", "--engine-arg", 'quantization="fp8"'])

    assert dict(given.engine_args) == {"max_num_seqs": 64, "quantization": "fp8"}
