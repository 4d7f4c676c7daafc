"""Machines of a fleet as compose/ describes it: their services as processes, with the same commands and environment.

What stands in for the containers: paths are those on this machine, and Redis is Debian's (Valkey's server there, too).
"""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.conftest import PATIENCE, eventually

ROOT = Path(__file__).parent.parent
COMPOSE = ROOT / "compose"
PROGRAMS = ("redis-server", "redis-cli", "openssl", "ip", "unshare")

#: What runs a service where its image's entry point does.
_ENTRY_POINTS = {"worker": [sys.executable, "-m", "workers"], "prometheus": ["prometheus"]}


def make_secrets(compose: Path, *machines: str, **passwords: str) -> None:
    """Copy compose/ and make in it the passwords but those given, and the certificates of ``machines``, as docs/fleet.md says."""
    shutil.copytree(COMPOSE, compose)
    (compose / "secrets").mkdir()
    for name, password in passwords.items():
        (compose / "secrets" / f"{name}-password").write_text(f"{password}\n")
    for command in (["./secrets.sh"], ["./certificates.sh", "tls", *machines]):
        subprocess.run(command, check=True, cwd=compose, stdout=subprocess.DEVNULL)


@contextmanager
def watched_process_list() -> Iterator[set[str]]:
    """Give all command lines that are seen on this machine meanwhile, looked at often."""
    seen: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            lines = (" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))
            seen.update(line.encode(errors="replace").decode() for line in lines)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


class Machine:
    """A machine with a copy of compose/ in its folder; ``inside`` is what to write before a command that is to run on it."""

    def __init__(self, folder: Path, inside: Iterable[str], **variables: str) -> None:
        self.folder, self.compose, self.inside = folder, folder / "compose", [*inside]
        self.variables = variables
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        files = [yaml.safe_load((COMPOSE / f"{name}.yaml").read_text()) for name in ("hub", "worker", "producer")]
        self.services: dict[str, dict[str, Any]] = {name: service for file in files for name, service in file["services"].items()}

    def receive(self, hub: "Machine", *paths: str) -> None:
        """Copy files or folders of the hub's compose/ to ours, as scp does."""
        for path in paths:
            target = self.compose / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(hub.compose / path, target) if (hub.compose / path).is_dir() else shutil.copy(hub.compose / path, target)

    def do(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command on this machine."""
        return subprocess.run(
            [*self.inside, *command], env=_base(self.folder) | environment, capture_output=True, text=True, timeout=PATIENCE
        )

    def start(self, name: str, **environment: str) -> None:
        """Start a service as its file says, and with what else is given; nobody is waited for."""
        if name == "broker":  # its file holds paths, too
            path = self.compose / "broker.conf"
            path.write_text(self.here(name, path.read_text()))
        command = [self.here(name, part) for part in self.services[name].get("command", [])]
        self.start_command(name, *_ENTRY_POINTS.get(name, []), *command, **self.environment(name), **environment)

    def start_command(self, name: str, *command: str, **environment: str) -> "subprocess.Popen[bytes]":
        """Start a command of any kind; its words are in the log of this name."""
        with self.log(name).open("ab") as log:
            self.running[name] = subprocess.Popen(
                [*self.inside, *command], env=_base(self.folder) | environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        return self.running[name]

    def wait_for(self, name: str) -> None:
        """Wait until the health check of a service says that it is up."""
        if "healthcheck" in self.services[name]:
            eventually(lambda: self.running[name].poll() is not None or self.is_healthy(name))
        assert self.running[name].poll() is None, self.said(name)

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def said(self, name: str) -> str:
        return self.log(name).read_text(errors="replace")

    def environment(self, name: str) -> dict[str, str]:
        """The environment of a service, and nothing else of ours."""
        given = self.services[name].get("environment", {})
        return _base(self.folder) | {key: self.here(name, text) for key, text in given.items()}

    def is_healthy(self, name: str) -> bool:
        """Run the service's own health check."""
        kind, *command = self.services[name]["healthcheck"]["test"]
        assert kind in ("CMD", "CMD-SHELL")
        words = [self.here(name, part) for part in command]
        shell = ["sh", "-c", *words] if kind == "CMD-SHELL" else words
        return self.do(*shell, **self.environment(name)).returncode == 0

    def here(self, name: str, text: str) -> str:
        """Return a text of a compose file as compose gives it to a service, with the paths of this machine."""
        text = self._filled(text)
        mounts = {f"/run/secrets/{secret}": f"./secrets/{secret}" for secret in self.services[name].get("secrets", [])}
        for volume in self.services[name].get("volumes", []):
            source, target, *_ = self._filled(volume).split(":")
            mounts[target] = source
        root = self.folder / "roots" / name
        for target, source in sorted(mounts.items(), key=lambda mount: -len(mount[0])):
            _mount(root / target[1:], self.compose / source if source.startswith("./") else self.folder / "volumes" / source)
            text = re.sub(rf"(?<![\w./]){re.escape(target)}(?=[/\s\"';)]|$)", f"{root}{target}", text)
        if name == "prometheus":
            text = text.replace("=/etc/prometheus", f"={root}/etc/prometheus")
        return text.replace("@broker:", "@127.0.0.1:").replace("valkey-", "redis-")

    def stop(self, name: str) -> int:
        """Stop a service as `docker compose stop` does, and return its exit code."""
        self.running[name].terminate()
        return self.running[name].wait(PATIENCE)

    def close(self) -> None:
        """Stop what still runs."""
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            process.wait(PATIENCE)

    def _filled(self, text: str) -> str:
        filled = re.sub(r"\$\{(\w+):?[-?]?((?:[^{}]|\{\})*)\}", lambda found: self.variables.get(found[1], found[2]), text)
        return filled.replace("$$", "$")


def _mount(target: Path, source: Path) -> None:
    if not target.is_symlink():
        if not source.exists():  # a volume
            source.mkdir(parents=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source)


def _base(home: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {"PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(home)}
