"""The one page of metrics of a host: those of its worker processes, each labelled by served name and GPU."""

import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

#: Seconds in which a worker process must give its page; Prometheus itself waits ten.
_PATIENCE = 3.0
_LABELS = ("served_name", "gpu")


class Source(NamedTuple):
    """A worker process, or the place of one."""

    gpu: str
    #: Returns its page. Raises OSError if there is nobody who could.
    page: Callable[[], bytes]
    #: Returns how often its process was started again.
    restarts: Callable[[], int]


class HostPage(Collector):
    """Asks every worker process whenever somebody asks us; one that does not answer in time is down."""

    def __init__(self, served_name: str, sources: Sequence[Source]) -> None:
        self._served_name, self._sources = served_name, sources

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("kotae_worker_up", "1 if the worker process gives its metrics.", labels=_LABELS)
        restarts = CounterMetricFamily("kotae_worker_restarts", "Starts of the worker process after its first.", labels=_LABELS)
        merged: dict[str, Metric] = {}
        with ThreadPoolExecutor(len(self._sources)) as threads:
            pages = list(threads.map(_page_of, self._sources))
        for source, text in zip(self._sources, pages, strict=True):
            labels = (self._served_name, source.gpu)
            up.add_metric(labels, float(bool(text)))
            restarts.add_metric(labels, source.restarts())
            _merge(merged, text_string_to_metric_families(text), dict(zip(_LABELS, labels, strict=True)))
        yield up
        yield restarts
        yield from merged.values()


def read_socket(path: Path) -> bytes:
    """Return the page of the process that listens on a Unix socket. Raises OSError."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_PATIENCE)
        connection.connect(str(path))
        with connection.makefile("rb") as stream:
            return stream.read()


def _page_of(source: Source) -> str:
    try:
        return source.page().decode()
    except OSError:
        return ""


def _merge(merged: dict[str, Metric], families: Iterable[Metric], labels: dict[str, str]) -> None:
    for family in families:
        into = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
        into.samples += [sample._replace(labels=sample.labels | labels) for sample in family.samples]
