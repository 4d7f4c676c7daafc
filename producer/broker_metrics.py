"""``kotae metrics``: what the broker knows of the fleet, for Prometheus."""

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from workers.contract import broker
from workers.contract.errors import BrokerError
from workers.contract.exposition import serve_metrics

from .transport import Transport


def serve(url: str | None, host: str, port: int, tls: Path | None) -> int:
    """Serve the metrics until told to stop; return the exit code. Raises BrokerError or UserError if that cannot begin."""
    told_to_stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told_to_stop.set())
    transport = Transport(broker.broker_settings(url))
    serve_metrics(BrokerMetrics(transport), host, port, tls)
    told_to_stop.wait()
    transport.close()
    return 0


class BrokerMetrics(Collector):
    """Asks the broker whenever somebody asks us. Served names without rows and without workers are left out: old ones vanish."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("kotae_broker_up", "1 if the broker answers.")
        try:
            found = [*self._fleet(), *self._load()]
        except BrokerError:
            found = []
        up.add_metric([], float(bool(found)))
        yield up
        yield from found

    def _fleet(self) -> Iterator[Metric]:
        waiting, workers = self._transport.waiting(), Counter(worker.served_name for worker in self._transport.workers())
        rows = GaugeMetricFamily("kotae_queue_rows", "Rows that no worker has taken yet.", labels=["served_name"])
        living = GaugeMetricFamily("kotae_workers", "Workers that take rows and gave a sign of life lately.", labels=["served_name"])
        for name in sorted(waiting.keys() | workers.keys()):
            rows.add_metric([name], waiting[name])
            living.add_metric([name], workers[name])
        yield rows
        yield living

    def _load(self) -> Iterator[Metric]:
        load = self._transport.load()
        yield GaugeMetricFamily("kotae_broker_rows_taken", "Rows taken by workers and not acknowledged, of all served names.", load.taken)
        yield GaugeMetricFamily("kotae_broker_memory_bytes", "Memory that the broker uses.", load.memory)
        yield GaugeMetricFamily("kotae_broker_memory_max_bytes", "Memory that it may use; 0 without a limit.", load.max_memory)
        days = self._transport.certificate_days()
        yield GaugeMetricFamily("kotae_broker_certificate_days", "Days for which the broker's certificate holds; +Inf without TLS.", days)
        yield GaugeMetricFamily("kotae_broker_clients", "Connections to the broker.", load.clients)
