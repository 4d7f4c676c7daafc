"""A fleet of more than one host: hub, two GPU machines and a producer, each in a network namespace with an address of its own.

Services are those of compose/, with TLS and passwords; each machine has only the files that docs/fleet.md has it given.
"""

import json
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import redis

from tests.chaos.networks import Networks, sweep
from tests.chaos.world import Ledger, questions
from tests.conftest import PATIENCE, eventually, make_workbook
from tests.machines import COMPOSE, PROGRAMS, Machine, make_secrets
from tests.test_run import table
from workers.contract import broker
from workers.contract.messages import Presence

needs = [
    pytest.mark.skipif(not Networks.are_possible(), reason="network namespaces need root, `ip`, and a kernel that lets us"),
    pytest.mark.skipif(not all(map(shutil.which, PROGRAMS)), reason="redis-server, openssl or iproute2 is not installed"),
]
pytestmark = needs

KOTAE = (sys.executable, "-m", "producer.cli")
#: Rows of 2 to 4 s.
ENGINE = {"delay": 3.0, "delay_spread": 1.0}
#: Seconds in which a machine that joins has rows; from when it says that it takes some, since Python may start slowly on a busy machine.
JOINED = 10.0


class Fleet(NamedTuple):
    hub: Machine
    gpu1: Machine
    gpu2: Machine
    laptop: Machine

    def ledger(self, machine: Machine) -> Ledger:
        return Ledger([machine.folder / "ledger"])

    def start_worker(self, machine: Machine, in_flight: int) -> None:
        machine.start("worker", KOTAE_LEDGER=str(machine.folder / "ledger"), KOTAE_MAX_IN_FLIGHT=str(in_flight))


def named(inside: tuple[str, ...], host: str) -> tuple[str, ...]:
    """Give a machine its name, as compose gives it to a container."""
    return (*inside, "unshare", "--uts", "sh", "-c", f'hostname {host}; exec "$@"', "sh")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Four machines; of their services only the broker runs."""
    with Networks() as networks:
        address, inside = networks.add()
        variables = {"KOTAE_HUB": address, "KOTAE_MODEL": "none", "KOTAE_NAME": "phi", "KOTAE_ENGINE": "echo"}
        variables |= {"KOTAE_ENGINE_ARGS": json.dumps(ENGINE), "KOTAE_DRAIN_SECONDS": "1"}
        hub = Machine(tmp_path_factory.mktemp("hub"), named(inside, "hub"), **variables | {"KOTAE_HOST": "hub"})
        make_secrets(hub.compose, f"hub,broker,{address}", "gpu1", "gpu2", "laptop")
        others = []
        for name in ("gpu1", "gpu2", "laptop"):
            machine = Machine(tmp_path_factory.mktemp(name), named(networks.add()[1], name), **variables | {"KOTAE_HOST": name})
            machine.receive(hub, f"tls/{name}", "secrets/broker-password")
            others.append(machine)
        try:
            hub.start("broker")
            hub.wait_for("broker")
            yield Fleet(hub, *others)
        finally:
            for machine in [*others, hub]:
                machine.close()


def test_a_machine_joins_and_another_leaves_in_mid_run_and_every_row_is_answered_once(fleet: Fleet) -> None:
    """The machine that joins has rows within 10 s; the one that is told to stop hands back what it cannot finish."""
    texts, home = questions(240), fleet.laptop.folder
    book = make_workbook(home / "q.xlsx", texts)
    fleet.start_worker(fleet.gpu1, in_flight=16)  # alone it would need 45 s
    command = (*KOTAE, "run", str(book), "--model", "phi", "-o", str(home / "out.xlsx"))
    run = fleet.laptop.start_command("run", *command, **fleet.laptop.environment("producer") | {"KOTAE_HOME": str(home / "home")})
    eventually(lambda: run.poll() is not None or fleet.ledger(fleet.gpu1).running)
    assert run.poll() is None, fleet.laptop.said("run")

    fleet.start_worker(fleet.gpu2, in_flight=128)
    eventually(lambda: len(hosts(fleet)) == 2)
    joined = time.time()
    eventually(lambda: fleet.ledger(fleet.gpu2).started)
    waited = fleet.ledger(fleet.gpu2).events[0].time - joined

    code = fleet.gpu1.stop("worker")

    assert run.wait(120) == 0, fleet.laptop.said("run")
    assert waited < JOINED
    assert code == 0
    assert "rows handed back" in fleet.gpu1.said("worker"), "it had nothing to hand back: give it longer rows"
    assert [(row["question"], row["answer"]) for row in table(home / "out.xlsx")] == [(text, text) for text in texts]
    times = Counter(event.row for machine in (fleet.gpu1, fleet.gpu2) for event in fleet.ledger(machine).of("end"))
    assert len(times) == len(texts)
    assert set(times.values()) == {1}


def hosts(fleet: Fleet) -> set[str]:
    """The machines that give signs of life, by the names that a person sees."""
    password = (fleet.laptop.compose / "secrets" / "broker-password").read_text().strip()
    with redis.Redis.from_url(fleet.laptop.environment("producer")["KOTAE_BROKER"], password=password) as client:
        values = [client.get(key) for key in client.scan_iter(broker.presence_key("phi", "*"))]
    return {Presence.model_validate_json(value).host for value in values if value is not None}


def no_tls(environment: dict[str, str], folder: Path) -> dict[str, str]:
    url = environment["KOTAE_BROKER"].replace("rediss://", "redis://").partition("?")[0]
    return {"KOTAE_BROKER": url}


def another_authority(environment: dict[str, str], folder: Path) -> dict[str, str]:
    subprocess.run([COMPOSE / "certificates.sh", folder / "tls", "laptop"], check=True, stdout=subprocess.DEVNULL)
    url = environment["KOTAE_BROKER"].partition("ssl_ca_certs=")[0]
    return {"KOTAE_BROKER": f"{url}ssl_ca_certs={folder / 'tls' / 'laptop' / 'ca.pem'}"}


def wrong_password(environment: dict[str, str], folder: Path) -> dict[str, str]:
    (folder / "password").write_text("guess")
    return {"KOTAE_BROKER_PASSWORD_FILE": str(folder / "password")}


@pytest.mark.parametrize(
    ("mistake", "says"),
    [(no_tls, "speaks TLS"), (another_authority, "certificate"), (wrong_password, "refused the password")],
)
def test_who_comes_without_the_right_key_is_told_in_one_line(
    fleet: Fleet, tmp_path: Path, mistake: Callable[[dict[str, str], Path], dict[str, str]], says: str
) -> None:
    """A worker and a producer, and nothing is half-started."""
    producer, worker = fleet.laptop.environment("producer"), fleet.gpu1.environment("worker")
    make_workbook(tmp_path / "q.xlsx", ["a"])
    asking = (*KOTAE, "run", str(tmp_path / "q.xlsx"), "--model", "phi", "-o", str(tmp_path / "out.xlsx"), "--home", str(tmp_path / "home"))

    begun = [
        (fleet.laptop, fleet.laptop.start_command(says, *asking, **producer | mistake(producer, tmp_path))),
        (fleet.gpu1, fleet.gpu1.start_command(says, sys.executable, "-m", "workers", **worker | mistake(worker, tmp_path))),
    ]

    for machine, process in begun:
        assert process.wait(PATIENCE) == 2
        (line,) = machine.said(says).splitlines()
        assert says in line
        assert "guess" not in line
    assert not (tmp_path / "out.xlsx").exists()
    assert not (tmp_path / "home").exists()


def test_networks_of_processes_that_were_killed_are_taken_away(fleet: Fleet) -> None:
    """And those of the living are left alone."""
    make = "import os, sys; from tests.chaos.networks import Networks; networks = Networks(); networks.add(); os.kill(os.getpid(), 9)"
    killed = subprocess.Popen([sys.executable, "-c", make])
    killed.wait()
    assert killed.returncode == -9

    sweep()

    assert fleet.hub.is_healthy("broker")
    names = subprocess.run("ip -oneline link; ip netns list", shell=True, capture_output=True, text=True).stdout
    assert not re.findall(rf"\bk[bp]{killed.pid}\b|\bkb{killed.pid}[v-]", names)
