"""Prometheus metrics of one worker process over HTTP: whatever its engine counts, as vLLM does."""

from .contract.errors import UserError


def serve_metrics(host: str, port: int) -> None:
    """Serve ``http://host:port/metrics`` for as long as the process lives. Raises UserError if that cannot be."""
    try:
        from prometheus_client import start_http_server
    except ImportError as error:
        raise UserError("--metrics-port needs prometheus-client: pip install prometheus-client") from error
    try:
        start_http_server(port, host)
    except (OSError, OverflowError) as error:
        raise UserError(f"metrics cannot be served on {host}:{port}: {error}; choose another --metrics-port") from error
