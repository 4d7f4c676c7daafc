"""What the engines' own ledgers tell of a pass: who had how many rows when, and how much of the GPUs' time was left unused."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from workers.contract.messages import parse_task_id


class Span(NamedTuple):
    """A row in an engine, from start to end; seconds since the epoch."""

    row: int
    start: float
    end: float


def spans(ledger: Path, run_id: str) -> list[Span]:
    """Return the rows of a run that an engine finished."""
    begun: dict[str, float] = {}
    done = []
    for line in ledger.read_text().splitlines() if ledger.exists() else []:
        kind, attempt, when = line.split()
        if kind == "start":
            begun[attempt] = float(when)
        elif attempt.startswith(run_id + ":"):
            done.append(Span(parse_task_id(attempt.rpartition(":")[0])[1], begun[attempt], float(when)))
    return done


def most_in_flight(ledger: Path) -> int:
    """Return how many rows the engine had at most between their start and their end."""
    most = now = 0
    for line in ledger.read_text().splitlines():
        now += 1 if line.startswith("start ") else -1
        most = max(most, now)
    return most


def edges(rows: list[Span], began: float, ended: float) -> dict[str, float]:
    """Return how many seconds passed before the first row was begun, from then until no more were begun before any had ended, and
    between the last end and the last answer stored.
    """
    starts, ends = sorted(span.start for span in rows), sorted(span.end for span in rows)
    filled = max(start for start in starts if start <= ends[0])
    told = {"first_after": starts[0] - began, "filled_after": filled - starts[0], "stored_after": ended - ends[-1]}
    return {name: round(seconds, 2) for name, seconds in told.items()}


def tail(engines: Iterable[list[Span]], share: float = 0.05) -> dict[str, float]:
    """Return how the last ``share`` of the rows went: its seconds, and the share of the engines' time in which they had no row."""
    engines = [engine for engine in engines if engine]
    ends = sorted(span.end for engine in engines for span in engine)
    first, last = ends[int(len(ends) * (1 - share)) - 1], ends[-1]
    idle = sum(last - max(first, max(span.end for span in engine)) for engine in engines)
    return {"seconds": round(last - first, 2), "idle_share": round(idle / (len(engines) * (last - first) or 1), 3)}


def tokens_per_second(engines: Iterable[list[Span]], sizes: Mapping[int, int] | list[int], began: float, width: float = 1.0) -> list[float]:
    """Return tokens/s in bins of ``width`` seconds from ``began`` on, each row's tokens spread evenly over its time."""
    rows = [span for engine in engines for span in engine]
    bins = [0.0] * (int((max(span.end for span in rows) - began) / width) + 1)
    for span in rows:
        density = sizes[span.row] / max(span.end - span.start, 1e-6)
        for number in range(max(0, int((span.start - began) / width)), min(len(bins), int((span.end - began) / width) + 1)):
            left = began + number * width
            bins[number] += density * max(0.0, min(span.end, left + width) - max(span.start, left)) / width
    return [round(value, 1) for value in bins]
