"""How runs and their fleet stand at a moment: what is counted for `status` and `watch`."""

import datetime
from collections import Counter
from typing import Any, NamedTuple

from workers.contract.broker import PRESENCE_TTL, queue_names
from workers.contract.messages import Presence

from .desk import summary
from .manifest import Manifest
from .runs import RunStore
from .transport import Transport

#: Seconds over which a run's pace is measured: the shorter one where it saw rows enough, so that it follows workers that come and go.
_WINDOWS = (60.0, 600.0, 3600.0)
#: Rows that make a pace.
_ENOUGH = 20
_HOUR = 3600


class Pace(NamedTuple):
    """How fast a run goes at the moment."""

    rows_per_second: float
    tokens_per_second: float
    #: None while nothing moves.
    seconds_left: float | None


class Fleet(NamedTuple):
    """Workers and queues of a broker."""

    #: Each with the seconds since its last sign of life.
    workers: list[tuple[Presence, float]]
    #: Rows that wait, by queue, of the served names that were asked for or have a worker.
    queues: dict[str, int]

    def in_flight(self, served_name: str | None = None) -> Counter[str]:
        """Return how many rows engines have at the moment, by run."""
        rows: Counter[str] = Counter()
        for worker, _ in self.workers:
            if served_name in (None, worker.served_name):
                rows.update(worker.runs)
        return rows

    def waiting(self, served_name: str) -> int:
        """Return how many rows of a served name wait."""
        return sum(self.queues.get(name, 0) for name in queue_names(served_name))

    def served_names(self) -> list[str]:
        """Return what the workers serve."""
        return sorted({worker.served_name for worker, _ in self.workers})


def fleet_of(transport: Transport, manifests: list[Manifest]) -> Fleet:
    """Ask a broker for its workers, and for the queues of what they serve and of these runs. Raises BrokerError."""
    present = transport.present()
    served = {worker.served_name for worker in present} | {manifest.served_name for manifest in manifests}
    names = [name for served_name in sorted(served) for name in queue_names(served_name)]
    seen = transport.seconds_left_of(present)
    workers = [(worker, round(PRESENCE_TTL - left, 1)) for worker, left in zip(present, seen, strict=True) if left > 0]
    return Fleet(workers, transport.queue_lengths(names) if names else {})


def pace_of(store: RunStore, now: datetime.datetime | None = None) -> Pace:
    """Measure how fast a run is answered lately, by when its answers were stored; rows that nobody was asked for do not count."""
    now = now or datetime.datetime.now(datetime.UTC)
    rows = tokens = 0.0
    for window in _WINDOWS:
        recent = store.recent((now - datetime.timedelta(seconds=window)).isoformat(timespec="milliseconds"))
        if recent.since is None:
            continue
        seconds = max((now - datetime.datetime.fromisoformat(recent.since)).total_seconds(), 0.001)
        rows, tokens = recent.rows / seconds, recent.tokens / seconds
        if recent.rows >= _ENOUGH:
            break
    last = store.last_stored_at()
    silence = (now - datetime.datetime.fromisoformat(last)).total_seconds() if last else 0.0
    if rows * silence > _ENOUGH:  # so many should have come meanwhile: it stands still
        rows = tokens = 0.0
    tally = store.tally()
    return Pace(rows, tokens, (tally.rows - tally.stored) / rows if rows else None)


def overview(store: RunStore, gpu_hour_price: float | None) -> dict[str, Any]:
    """Return how a run stands: what it amounts to, how fast it goes, and what its answers cost."""
    manifest, spent, told = store.manifest, store.spent(), summary(store)
    finished = told["stored"] == told["rows"]
    pace = Pace(0.0, 0.0, 0.0) if finished else pace_of(store)
    told |= {
        "finished": finished,
        "priority": manifest.priority,
        "seconds_to_first_answer": _seconds_to_first_answer(store),
        "rows_per_second": round(pace.rows_per_second, 2),
        "tokens_per_second": round(pace.tokens_per_second, 1),
        "seconds_left": None if pace.seconds_left is None else round(pace.seconds_left),
        "gpu_seconds": round(spent.gpu_seconds, 3),
        "gpu_seconds_per_row": _per(spent.gpu_seconds, spent.rows),
    }
    if gpu_hour_price is not None:
        cost = spent.gpu_seconds / _HOUR * gpu_hour_price
        told |= {"cost": round(cost, 6), "cost_per_row": _per(cost, spent.rows)}
    return told


def place_in(fleet: Fleet, manifest: Manifest) -> dict[str, Any]:
    """Return how many rows engines have of a run, which share of all that is, and how many wait on its queue."""
    rows = fleet.in_flight(manifest.served_name)
    ours = rows[manifest.run_id]
    queues = (*manifest.former_queues, *([manifest.queue] if manifest.queue else []))
    return {
        "in_flight": ours,
        "share": round(ours / rows.total(), 3) if rows else None,
        "on_its_queue": sum(fleet.queues.get(name, 0) for name in queues),
    }


def told_of(fleet: Fleet) -> dict[str, Any]:
    """Return workers and queues for programs."""
    return {
        "workers": [worker.model_dump(mode="json") | {"seconds_since_seen": seen} for worker, seen in fleet.workers],
        "waiting": {served_name: fleet.waiting(served_name) for served_name in fleet.served_names()},
        "in_flight": dict(fleet.in_flight()),
    }


def _seconds_to_first_answer(store: RunStore) -> float | None:
    first, begun = store.first_answered_at(), datetime.datetime.fromisoformat(store.manifest.created_at)
    return None if first is None else round((datetime.datetime.fromisoformat(first) - begun).total_seconds(), 1)


def _per(amount: float, rows: int) -> float | None:
    return round(amount / rows, 8) if rows else None
