"""Whether the workers of this host are well, for a container's health check: exit code 0 if each gives its metrics."""

import ssl
import sys
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from .contract.exposition import AUTHORITY, CERTIFICATE, KEY
from .settings import WorkerSettings, worker_settings


def ailing(settings: WorkerSettings) -> list[str]:
    """Return the GPUs whose worker is down, as its supervisor says on loopback. Raises OSError if there is no supervisor."""
    context = None
    if (tls := settings.metrics_tls) is not None:
        context = ssl.create_default_context(cafile=str(tls / AUTHORITY))
        context.load_cert_chain(tls / CERTIFICATE, tls / KEY)
    url = f"{'https' if context else 'http'}://127.0.0.1:{settings.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=8, context=context) as response:  # noqa: S310  # the address is ours
        families = text_string_to_metric_families(response.read().decode())
    return [
        sample.labels["gpu"] for family in families if family.name == "kotae_worker_up" for sample in family.samples if not sample.value
    ]


if __name__ == "__main__":
    sys.exit(f"no word from the worker on GPU {', '.join(down)}" if (down := ailing(worker_settings())) else 0)
