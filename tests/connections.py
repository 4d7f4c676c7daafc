"""Whom processes ask on the network: every Python that starts meanwhile writes it down, also one that somebody else starts."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

#: Imported by every Python at its start, if it is found first. A connected UDP socket sends nothing: so vLLM finds its own address.
_HOOK = """
import _socket, os, sys

def _watch(event, arguments):
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect":
        socket, address = arguments
        if not isinstance(address, tuple) or socket.type == _socket.SOCK_DGRAM:
            return
        host = address[0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else str(host)
    if host not in ("localhost", "None", "0.0.0.0", "::", "::1") and not host.startswith("127."):
        with open(os.environ["TEST_CONNECTIONS"], "a") as file:
            print(os.path.basename(sys.argv[0]), event, host, file=file)

sys.addaudithook(_watch)
"""


@contextmanager
def watched_connections(folder: Path) -> Iterator[Callable[[], list[str]]]:
    """Watch every Python process that begins within, for as long as it lives; gives what asks for the lines written by now."""
    (folder / "sitecustomize.py").write_text(_HOOK)
    log, before = folder / "connections", os.environ.get("PYTHONPATH")
    log.touch()
    quiet = os.environ.pop("VLLM_NO_USAGE_STATS", None)  # who keeps quiet must do so by itself, and not because a test before it did
    os.environ |= {"TEST_CONNECTIONS": str(log), "PYTHONPATH": os.pathsep.join(filter(None, [str(folder), before]))}
    try:
        yield lambda: log.read_text().splitlines()
    finally:
        del os.environ["PYTHONPATH"], os.environ["TEST_CONNECTIONS"]
        if quiet is not None:
            os.environ["VLLM_NO_USAGE_STATS"] = quiet
        if before is not None:
            os.environ["PYTHONPATH"] = before
