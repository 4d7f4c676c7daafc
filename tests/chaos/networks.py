"""Networks of a test's own: namespaces on one bridge, each with an address, which can be cut off one by one."""

import os
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Self

#: A range that is set aside for tests of networks (RFC 2544); nobody's machines have addresses in it. Each process takes its own part.
_NET = f"198.{18 + os.getpid() // 256 % 2}.{os.getpid() % 256}"
#: Bridges, cables and namespaces are named by the process that made them.
_OURS = re.compile(r"k[bp](\d+)(?:[v-]\d+)?")


class Networks:
    """A bridge, and hosts that hang on it; use it as a context, which takes all of it away."""

    def __init__(self) -> None:
        self._bridge = f"kb{os.getpid()}"  # names of interfaces have 15 letters at most
        self._hosts: list[str] = []
        sweep()
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("addr", "add", f"{_NET}.1/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")

    @staticmethod
    def are_possible() -> bool:
        """Say whether this machine lets us make namespaces and bridges."""
        if os.geteuid() != 0 or shutil.which("ip") is None:
            return False
        probe = f"kp{os.getpid()}"
        tries = (("link", "add", probe, "type", "bridge"), ("link", "del", probe), ("netns", "add", probe), ("netns", "del", probe))
        return all(subprocess.run(["ip", *one], capture_output=True).returncode == 0 for one in tries)

    def add(self) -> tuple[str, tuple[str, ...]]:
        """Add a host; return its address, and what to write before a command that is to run on it."""
        host, number = f"{self._bridge}-{len(self._hosts)}", len(self._hosts)
        self._hosts.append(host)
        inside = ("ip", "netns", "exec", host)
        _ip("netns", "add", host)
        _ip("link", "add", self._cable(number), "type", "veth", "peer", "name", "eth0", "netns", host)
        _ip("link", "set", self._cable(number), "master", self._bridge, "up")
        for line in (["addr", "add", f"{_NET}.{number + 2}/24", "dev", "eth0"], ["link", "set", "eth0", "up"], ["link", "set", "lo", "up"]):
            subprocess.run([*inside, "ip", *line], check=True)
        return f"{_NET}.{number + 2}", inside

    def cut(self, inside: tuple[str, ...]) -> None:
        """Pull a host's cable at the bridge: it sees its link as up, and nothing comes through any more."""
        _ip("link", "set", self._cable(self._hosts.index(inside[-1])), "nomaster")

    def mend(self, inside: tuple[str, ...]) -> None:
        _ip("link", "set", self._cable(self._hosts.index(inside[-1])), "master", self._bridge)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(subprocess.CalledProcessError):
            _ip("link", "del", self._bridge)
        for number, host in enumerate(self._hosts):
            for line in (("link", "del", self._cable(number)), ("netns", "del", host)):
                with suppress(subprocess.CalledProcessError):
                    _ip(*line)

    def _cable(self, number: int) -> str:
        return f"{self._bridge}v{number}"


def sweep() -> list[str]:
    """Take away what processes left behind that were killed; return the names."""
    listed = subprocess.run(["ip", "-oneline", "link"], capture_output=True, text=True, check=True).stdout
    links = [line.split()[1].rstrip(":").partition("@")[0] for line in listed.splitlines()]
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    names = {"link": links, "netns": [line.split()[0] for line in listed.splitlines()]}
    left = [(kind, name) for kind, of_kind in names.items() for name in of_kind if _is_left(name)]
    for kind, name in left:
        with suppress(subprocess.CalledProcessError):  # a cable goes with its other end
            _ip(kind, "del", name)
    return [name for _, name in left]


def _is_left(name: str) -> bool:
    ours = _OURS.fullmatch(name)
    return ours is not None and not Path("/proc", ours[1]).exists()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
