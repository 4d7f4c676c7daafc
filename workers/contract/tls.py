"""What can be learnt of a server's TLS: whether it speaks it, and for how long its certificate holds."""

import math
import socket
import ssl
import time
from urllib.parse import parse_qs, urlsplit

#: Seconds for each step of the handshake.
_PATIENCE = 2.0


def speaks_tls(url: str) -> bool:
    """Say whether a TLS handshake with the server of a URL gets anywhere; whom its certificate names does not matter here."""
    parts = urlsplit(url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        plain = socket.create_connection((parts.hostname or "localhost", parts.port or 6379), _PATIENCE)
        with plain, context.wrap_socket(plain):
            return True
    except OSError:
        return False


def certificate_days(url: str) -> float:
    """Return for how many days the certificate of a server holds; infinity where none is used or looked at. Raises OSError."""
    parts = urlsplit(url)
    options = parse_qs(parts.query)
    if parts.scheme != "rediss" or options.get("ssl_cert_reqs", [""])[0] in ("none", "CERT_NONE"):
        return math.inf
    context = ssl.create_default_context(cafile=options.get("ssl_ca_certs", [None])[0])
    host = parts.hostname or "localhost"
    with (
        socket.create_connection((host, parts.port or 6379), _PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        certificate = secured.getpeercert() or {}
    return (ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()) / 86400
