"""Prometheus metrics of one worker process: what it counts of its rows, beside whatever its engine counts, as vLLM does."""

import socketserver
import threading
import time
from collections.abc import Iterator, Sized
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector

from .contract.messages import Answer, Outcome
from .engines import Engine

disable_created_metrics()  # type: ignore[no-untyped-call]  # or each counter is two time series

_rows = Counter("kotae_rows", "Rows done, their result stored, by outcome.", ["outcome"])
_by_outcome = {outcome: _rows.labels(outcome.value) for outcome in Outcome}
_prompt_tokens = Counter("kotae_prompt_tokens", "Tokens of the prompts of rows with a completion.")
_output_tokens = Counter("kotae_output_tokens", "Tokens written for rows with a completion, of all samples.")
_seconds = Histogram(
    "kotae_row_seconds",
    "Seconds from the engine's taking a row to its reply.",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640, 1800),
)
_wait = Histogram(
    "kotae_row_wait_seconds",
    "Seconds from a producer's sending a row to the engine's taking it, by the clocks of both.",
    buckets=(0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14400),
)
_redelivered = Counter("kotae_rows_redelivered", "Messages of rows that a worker had taken before: handed back, or of a worker that died.")
_in_flight = Gauge("kotae_rows_in_flight", "Rows taken and not done.")
_in_flight_max = Gauge("kotae_rows_in_flight_max", "Most rows that this worker takes at once.")
_running = Gauge("kotae_engine_rows_running", "Rows that the engine works on.")
_waiting = Gauge("kotae_engine_rows_waiting", "Rows that the engine has and has not begun, for want of room.")
_ready = Gauge("kotae_worker_ready", "1 while the worker takes rows; 0 while it loads or drains.")


class Life(Protocol):
    """What is looked at whenever somebody asks for the metrics."""

    @property
    def rows(self) -> Sized:
        """The rows taken and not done."""

    @property
    def rows_in_engine(self) -> int:
        """How many of them the engine has."""

    @property
    def engine(self) -> Engine:
        """The engine."""

    @property
    def max_in_flight(self) -> int:
        """How many rows are taken at most."""

    @property
    def takes_rows(self) -> bool:
        """Whether rows are taken."""


def watch(life: Life) -> None:
    """Show the state of this process's one life from now on."""
    _in_flight.set_function(lambda: len(life.rows))
    _in_flight_max.set(life.max_in_flight)
    _waiting.set_function(lambda: life.engine.waiting)
    _running.set_function(lambda: max(0, life.rows_in_engine - life.engine.waiting))
    _ready.set_function(lambda: life.takes_rows)
    _engine.watched = life.engine


def count_row(answer: Answer) -> None:
    """Count a row whose result is stored."""
    _by_outcome[answer.outcome].inc()
    if answer.completions:
        _prompt_tokens.inc(answer.prompt_tokens or 0)
        _output_tokens.inc(sum(completion.output_tokens for completion in answer.completions))
        _seconds.observe(answer.seconds)


def count_wait(sent: float) -> None:
    """Count a row that the engine is given now, and that was sent at this time."""
    _wait.observe(max(0.0, time.time() - sent))


def count_redelivery() -> None:
    """Count a message that was taken before."""
    _redelivered.inc()


def page() -> bytes:
    """Return all metrics of this process in Prometheus' text format."""
    return generate_latest(REGISTRY)


def serve_page(path: Path) -> None:
    """Give the page to whoever connects to the Unix socket ``path``, for as long as the process lives."""
    server = socketserver.ThreadingUnixStreamServer(str(path), _Page)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()


class _Page(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        with suppress(OSError):  # whoever asked did not wait
            self.wfile.write(page())


class _EngineCounts(Collector):
    """The engine keeps these itself."""

    watched: Engine | None = None

    def collect(self) -> Iterator[Metric]:
        steps, usage = (self.watched.steps, self.watched.kv_cache_usage) if self.watched is not None else (0, None)
        yield CounterMetricFamily("kotae_engine_steps", "Steps of the engine; of one without a model, milliseconds.", value=steps)
        if usage is not None:  # under the name that vLLM gives it where it serves metrics itself
            yield GaugeMetricFamily("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", value=usage)


_engine = _EngineCounts()
REGISTRY.register(_engine)
