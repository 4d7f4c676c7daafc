"""How a process of ours serves Prometheus metrics: on loopback, or elsewhere to those with a certificate of the fleet."""

import ipaddress
import os
import ssl
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.registry import Collector

from .errors import UserError

#: What lies in the folder that ``compose/certificates.sh`` makes for a machine: its certificate, its key, who signed both sides'.
CERTIFICATE, KEY, AUTHORITY = "cert.pem", "key.pem", "ca.pem"
#: Seconds in which a client must have said what it wants.
_PATIENCE = 10


def serve_metrics(collector: Collector, host: str, port: int, tls: Path | None) -> None:
    """Serve ``/metrics`` for as long as the process lives; with ``tls`` (a folder) by HTTPS, to clients of the same authority.

    Raises UserError if that cannot be, and for an address that others reach if it would be open to all of them.
    """
    if tls is None and not _is_loopback(host):
        raise UserError(f"metrics on {host} would be open to everybody: name certificates (--metrics-tls; of `kotae metrics`: --tls)")
    if tls is not None and not all(os.access(tls / name, os.R_OK) for name in (CERTIFICATE, KEY, AUTHORITY)):
        raise UserError(f"{tls}: {CERTIFICATE}, {KEY} and {AUTHORITY} must lie there, readable, as compose/certificates.sh makes them")
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    try:
        if tls is None:
            start_http_server(port, host, registry)
        else:
            files = {"certfile": str(tls / CERTIFICATE), "keyfile": str(tls / KEY), "client_cafile": str(tls / AUTHORITY)}
            server, _ = start_http_server(port, host, registry, **files, client_auth_required=True)  # type: ignore[arg-type]  # as strings
            _greet_in_threads(server)
    except ssl.SSLError as error:
        raise UserError(f"{tls}: the certificate cannot be used: {error}") from error
    except (OSError, OverflowError) as error:
        raise UserError(f"metrics cannot be served on {host}:{port}: {error}; choose another address or port") from error


def _greet_in_threads(server: Any) -> None:
    """Have each client's TLS handshake done by its own thread: one that connects and says nothing would keep all others out."""
    server.socket.do_handshake_on_connect = False
    server.RequestHandlerClass = type("Handler", (server.RequestHandlerClass,), {"timeout": _PATIENCE})
    server.handle_error = lambda *_: None  # whoever has no certificate of ours is no news


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
