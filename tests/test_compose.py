"""The fleet that compose/ describes, its commands started by hand in the same order and with the same environment.

In a network of their own, so with the same ports. machines.py says what stands in for the containers; Grafana is left out.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import PATIENCE, eventually, make_workbook
from tests.machines import COMPOSE, PROGRAMS, ROOT, Machine, make_secrets, watched_process_list

HUB = "10.9.9.1"
FILES = ["hub", "worker", "producer"]
#: What must be told nowhere, and holds what URLs and shells take for something else. All of it is found by one word.
PLANTED = "planted-7c1e"
SECRETS = {name: f"{PLANTED}/b@{name}:50%+?#&='$x" for name in ("broker", "monitor", "grafana")} | {"flower": f"{PLANTED}-flower"}
SERVICES = ["broker", "flower", "prometheus", "metrics", "worker"]

needs = pytest.mark.skipif(
    not all(map(shutil.which, (*PROGRAMS, "prometheus", "ss", "nsenter", "wget", "curl"))),
    reason="redis-server, Prometheus, openssl, iproute2, wget or curl is not installed",
)


class Fleet(Machine):
    """A hub and a GPU machine in one network namespace of their own."""

    def __init__(self, folder: Path) -> None:
        variables = {"KOTAE_HUB": HUB, "KOTAE_HOST": "gpu1", "KOTAE_MODEL": "none", "KOTAE_NAME": "phi", "KOTAE_ENGINE": "echo"}
        self._network = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        super().__init__(folder, ["nsenter", f"--net=/proc/{self._network.pid}/ns/net"], **variables)
        make_secrets(self.compose, f"hub,broker,{HUB}", "gpu1", **SECRETS)
        (self.compose / "workers" / "workers.yaml").write_text(json.dumps([{"targets": ["127.0.0.1:9465"]}]))

    def open_network(self) -> None:
        """Wait for the namespace; skips where the kernel does not let us have one."""
        own = os.readlink("/proc/self/ns/net")
        while self._network.poll() is None and os.readlink(f"/proc/{self._network.pid}/ns/net") == own:
            time.sleep(0.01)
        if self._network.poll() is not None:
            pytest.skip("network namespaces need root, and a kernel that lets us")
        self.do("ip", "link", "set", "lo", "up")
        self.do("ip", "address", "add", f"{HUB}/32", "dev", "lo")

    def get(self, url: str, *options: str) -> str:
        """A page, as one gets it on this machine; empty if one does not."""
        return self.do("curl", "--silent", "--globoff", "--fail", "--location", *options, url).stdout

    def close(self) -> None:
        super().close()
        self._network.kill()
        self._network.wait()


@pytest.fixture(scope="module")
def process_list() -> Iterator[set[str]]:
    """What the process list shows while the fleet starts and answers."""
    with watched_process_list() as seen:
        yield seen


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, process_list: set[str]) -> Iterator[Fleet]:
    """A hub and a worker that are up."""
    fleet = Fleet(tmp_path_factory.mktemp("fleet"))
    try:
        fleet.open_network()
        for name in SERVICES:
            fleet.start(name)
            fleet.wait_for(name)
        yield fleet
    finally:
        fleet.close()


@pytest.fixture(scope="module")
def answered(fleet: Fleet) -> tuple[Path, str]:
    """A folder with the workbook of a run and its store, and what the command said."""
    folder = fleet.folder / "laptop"
    folder.mkdir()
    book = make_workbook(folder / "q.xlsx", ["one", "two", "three"])
    command = [sys.executable, "-m", "producer.cli", "run", str(book), "--model", "phi", "-o", str(folder / "out.xlsx")]
    finished = fleet.do(*command, **fleet.environment("producer") | {"KOTAE_HOME": str(folder / "home")})
    assert finished.returncode == 0, finished.stderr
    return folder, _said(finished)


@needs
def test_a_producer_is_answered_and_prometheus_sees_it(fleet: Fleet, answered: tuple[Path, str]) -> None:
    """TLS and passwords on the whole way, as in the files."""
    assert (answered[0] / "out.xlsx").exists()
    query = "http://127.0.0.1:9090/api/v1/query?query="
    assert eventually(lambda: seen(fleet, query + 'kotae_rows_total{outcome="answered"}') == ["3"])
    assert eventually(lambda: seen(fleet, query + "kotae_workers") == ["1"])


def seen(fleet: Fleet, url: str) -> list[str]:
    """The values that Prometheus has."""
    answer = fleet.do("curl", "--silent", "--globoff", url)
    return [one["value"][1] for one in json.loads(answer.stdout)["data"]["result"]] if answer.returncode == 0 else []


@needs
def test_only_what_the_docs_list_listens(fleet: Fleet) -> None:
    """The broker and the worker's metrics for other machines, Flower for what compose publishes on loopback; the rest on loopback."""
    lines = fleet.do("ss", "--listening", "--tcp", "--numeric", "--no-header").stdout.splitlines()

    listening = {line.split()[3] for line in lines}
    listed = (ROOT / "docs" / "fleet.md").read_text().partition("## What listens")[2].partition("\n## ")[0]

    assert {one.rpartition(":")[2] for one in listening} <= set(re.findall(r"\b\d{4}\b", listed))
    assert {one.rpartition(":")[2] for one in listening if not one.startswith("127.0.0.1:")} == {"6379", "5555", "9465"}
    assert {one for one in listening if one.startswith("127.0.0.1:")} == {"127.0.0.1:9090", "127.0.0.1:9464"}
    for name in ("hub", "worker"):
        services = yaml.safe_load((COMPOSE / f"{name}.yaml").read_text())["services"]
        ports = [port for service in services.values() for port in service.get("ports", [])]
        assert all(port.startswith(("127.0.0.1:", "${KOTAE_BIND:-127.0.0.1}:")) for port in ports)


@needs
def test_nobody_comes_in_without_the_password(fleet: Fleet) -> None:
    """Nor with a wrong one, nor without TLS; and whoever only looks cannot write."""
    ca = str(fleet.compose / "tls" / "hub" / "ca.pem")
    cli = ("redis-cli", "-h", HUB, "--tls", "--cacert", ca, "--no-auth-warning")
    monitor = (fleet.compose / "secrets" / "monitor-password").read_text().strip()
    ours = (fleet.compose / "secrets" / "broker-password").read_text().strip()

    assert "NOAUTH" in fleet.do(*cli, "PING").stdout
    assert "WRONGPASS" in _said(fleet.do(*cli, "--user", "kotae", "PING", REDISCLI_AUTH="guess"))
    assert "PONG" not in _said(fleet.do("redis-cli", "-h", HUB, "PING"))
    assert "PONG" in _said(fleet.do(*cli, "--user", "kotae", "PING", REDISCLI_AUTH=ours))
    assert "NOPERM" in _said(fleet.do(*cli, "--user", "kotae", "FLUSHALL", REDISCLI_AUTH=ours))
    for beyond in ("SET kotae.a b", "LRANGE kotae.1.phi.0 0 0", "MGET celery-task-meta-a:0:0", "HVALS unacked", "CLIENT PAUSE 1"):
        assert "NOPERM" in _said(fleet.do(*cli, "--user", "monitor", *beyond.split(), REDISCLI_AUTH=monitor)), beyond
    assert "noeviction" in _said(fleet.do(*cli, "--user", "monitor", "INFO", "memory", REDISCLI_AUTH=monitor))
    assert fleet.do("curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "http://127.0.0.1:5555/").stdout == "401"
    assert fleet.do("curl", "--silent", "--cacert", ca, "https://127.0.0.1:9465/metrics").returncode != 0
    wrong = fleet.folder / "wrong-password"
    wrong.write_text("guess")
    refused = fleet.do(
        sys.executable, "-m", "producer.cli", "status", **(fleet.environment("producer") | {"KOTAE_BROKER_PASSWORD_FILE": str(wrong)})
    )
    assert refused.returncode == 2
    assert "refused the password" in refused.stderr


@needs
def test_no_password_is_told(fleet: Fleet, answered: tuple[Path, str], process_list: set[str]) -> None:
    """Not in a process list, a log, a line about a wrong one, what the broker and Prometheus keep, a run's store or workbook, nor on a page
    of Flower or of metrics.
    """
    folder, said = answered
    (task, *_) = eventually(lambda: json.loads(flower(fleet, "api/tasks") or "{}"))
    (worker,) = eventually(lambda: json.loads(flower(fleet, "api/workers?refresh=1") or "{}"))
    assert "kotae.1.phi.0" in flower(fleet, "broker"), "Flower asks for the queues by TLS, too"
    with zipfile.ZipFile(folder / "out.xlsx") as workbook:
        told = {f"out.xlsx/{name}": workbook.read(name) for name in workbook.namelist()}
    told["what the command said"] = said.encode()
    told |= {f"said to a wrong password: {name}": text.encode() for name, text in said_to_a_wrong_password(fleet).items()}
    settings = f"worker/{worker}?refresh=1"  # there once the worker has told all of them to Flower
    told["Flower: a worker's settings"] = eventually(lambda: "broker_url" in (page := flower(fleet, settings)) and page).encode()
    pages = ["", "workers", "tasks", f"task/{task}", "broker", "api/workers", "api/tasks", "api/queues/length", "metrics"]
    told |= {f"Flower: /{page}": flower(fleet, page).encode() for page in pages}
    told["worker's metrics"] = fleet.get("https://127.0.0.1:9465/metrics", *_as_client(fleet.compose / "tls" / "hub")).encode()
    told["broker's metrics"] = fleet.get("http://127.0.0.1:9464/metrics").encode()
    told["Prometheus"] = fleet.get("http://127.0.0.1:9090/api/v1/status/config").encode()
    told["process list"] = "\n".join(process_list).encode()
    written = {path: path.read_bytes() for path in fleet.folder.rglob("*") if path.is_file() and not is_secret(path)}
    assert [what for what, content in told.items() if not content] == []
    told |= {str(path): content for path, content in written.items()}

    keys = [path.read_text().splitlines()[1] for path in (fleet.compose / "tls").rglob("*key.pem")]
    leaks = {what for what, content in told.items() for word in [PLANTED, *keys] if word.encode() in content}

    assert len(keys) == 3
    assert b"redis-server" in told["process list"]
    assert b"producer.cli" in told["process list"]
    assert {".sqlite", ".aof", ".log"} <= {path.suffix for path in written}
    assert not leaks


def said_to_a_wrong_password(fleet: Fleet) -> dict[str, str]:
    """What each program of ours says to one; Flower says it and goes on trying."""
    path = fleet.folder / "wrong-password"
    path.write_text(f"{PLANTED}-guess")
    wrong = {"KOTAE_BROKER_PASSWORD_FILE": str(path)}
    commands = {
        "producer": [sys.executable, "-m", "producer.cli", "status"],
        "worker": [sys.executable, "-m", "workers"],
        "metrics": [sys.executable, "-m", "producer.cli", "metrics", "--port", "9466"],
    }
    finished = {name: fleet.do(*command, **fleet.environment(name) | wrong) for name, command in commands.items()}
    assert [one.returncode for one in finished.values()] == [2, 2, 2]
    again = "flower-again"
    fleet.start_command(again, "celery", "-A", "workers.tasks", "flower", "--port=5556", **fleet.environment("flower") | wrong)
    eventually(lambda: "invalid username-password pair" in fleet.said(again))
    fleet.stop(again)
    return {name: _said(one) for name, one in finished.items()} | {"flower": fleet.said(again)}


def is_secret(path: Path) -> bool:
    """Say whether a file is where a secret belongs, or this test's own."""
    return path.parent.name == "secrets" or path.name.endswith("key.pem") or path.name in ("netrc", "wrong-password")


def flower(fleet: Fleet, page: str) -> str:
    """A page of Flower for who has its password."""
    password = (fleet.compose / "secrets" / "flower-password").read_text().strip()
    return fleet.get(f"http://127.0.0.1:5555/{page}", "--netrc-file", _netrc(fleet.folder / "netrc", password))


def test_every_variable_is_explained() -> None:
    """Whoever copies example.env need not look into the files."""
    explained = set(re.findall(r"^(KOTAE_\w+)=", (COMPOSE / "example.env").read_text(), re.M))
    used = {name for file in COMPOSE.glob("*.yaml") for name in re.findall(r"\$\{(KOTAE_\w+)", file.read_text())}

    assert explained == used


@pytest.mark.parametrize(
    "command",
    [
        ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", *(f"{name}.yaml" for name in FILES)],
        ["hadolint", "Dockerfile"],
        ["shellcheck", "certificates.sh", "secrets.sh"],
    ],
    ids=" ".join,
)
def test_the_files_are_what_their_programs_take(command: list[str]) -> None:
    """No engine is here that would start them; what can be said without one is: the schema, and what linters know."""
    program = shutil.which(command[0], path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip(f"{command[0]} is not installed")

    finished = subprocess.run([program, *command[1:]], cwd=COMPOSE, capture_output=True, text=True, timeout=PATIENCE)

    assert finished.returncode == 0, _said(finished)


@pytest.mark.parametrize("name", FILES)
def test_compose_itself_takes_the_files(name: str) -> None:
    """Where there is one: version 1 knows other files."""
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode != 0:
        pytest.skip("docker compose is not installed")

    command = [docker, "compose", "--env-file", "example.env", "-f", f"{name}.yaml", "config", "--quiet"]
    finished = subprocess.run(command, cwd=COMPOSE, capture_output=True, text=True, timeout=PATIENCE)

    assert finished.returncode == 0, _said(finished)


def test_a_worker_may_drain_before_it_is_killed() -> None:
    """Docker's patience is longer than ours."""
    worker: dict[str, Any] = yaml.safe_load((COMPOSE / "worker.yaml").read_text())["services"]["worker"]
    drain = re.search(r":-(\d+)\}", worker["environment"]["KOTAE_DRAIN_SECONDS"])
    grace = re.search(r":-(\d+)s\}", worker["stop_grace_period"])

    assert drain is not None
    assert grace is not None
    assert int(grace[1]) >= int(drain[1]) + 30


def test_the_producers_image_holds_no_torch() -> None:
    """What its lock lists, which is what pyproject.toml asks for."""
    lock = (ROOT / "requirements" / "base.txt").read_text()
    packages = set(re.findall(r"^([\w.-]+)==", lock, re.M))

    assert {"celery", "redis", "xlsxwriter"} < packages
    assert not packages & {"torch", "vllm", "transformers", "flower"}
    assert len(packages) < 60


def test_the_images_are_made_of_files_that_there_are() -> None:
    """Each that the recipe copies exists, and the builder is given it."""
    recipe = (COMPOSE / "Dockerfile").read_text()
    copied = [word for line in re.findall(r"^COPY (?!--from)(.+) \S+$", recipe, re.M) for word in line.split()]
    given = re.findall(r"^!(.+)$", (COMPOSE / "Dockerfile.dockerignore").read_text(), re.M)

    assert {"workers", "producer", "pyproject.toml", "requirements/gpu.txt"} < set(copied)
    assert all((ROOT / name).exists() for name in copied)
    assert all(any(fnmatch(name, pattern) for pattern in given) for name in copied)
    assert {target for target in re.findall(r"target: (\w+)", "".join(f.read_text() for f in COMPOSE.glob("*.yaml")))} <= set(
        re.findall(r" AS (\w+)$", recipe, re.M)
    )


def _netrc(path: Path, password: str) -> str:
    path.write_text(f"machine 127.0.0.1 login kotae password {password}")
    return str(path)


def _as_client(tls: Path) -> list[str]:
    return ["--cacert", str(tls / "ca.pem"), "--cert", str(tls / "cert.pem"), "--key", str(tls / "key.pem")]


def _said(finished: subprocess.CompletedProcess[str]) -> str:
    return finished.stdout + finished.stderr
