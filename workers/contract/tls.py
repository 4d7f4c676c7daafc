"""Whether a server speaks TLS, which it does not say to those who do not."""

import socket
import ssl
from urllib.parse import urlsplit

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
