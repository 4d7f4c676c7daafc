"""`kotae doctor`: what is wrong with broker, workers, machine and home is found, and each finding says what to do."""

import asyncio
import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from tests.conftest import Kotae, StartWorker, make_workbook, question, send
from tests.test_several_runs import OLD_ECHO, old_kotae  # noqa: F401  # a fixture
from workers.contract import broker
from workers.contract.messages import Presence


def findings(kotae: Kotae, url: str | None, *, code: int, **environment: str) -> list[dict[str, Any]]:
    """Ask the doctor; return what was found."""
    finished = kotae("doctor", "--json", *(() if url is None else ("--broker", url)), **environment)
    assert finished.code == code, finished.out + finished.err
    assert "Traceback" not in finished.err
    told: dict[str, Any] = json.loads(finished.out)
    assert told["problems"] == len(of_level(told["findings"], "problem"))
    assert all(bool(one["do"]) == (one["level"] != "ok") for one in told["findings"]), "whoever is told of trouble is told what to do"
    return told["findings"]


def of_level(found: list[dict[str, Any]], level: str) -> list[str]:
    return [one["says"] for one in found if one["level"] == level]


def test_all_is_well_with_a_fleet_that_works(kotae: Kotae, start_worker: StartWorker, broker_url: str) -> None:
    """A server on loopback that keeps nothing on disk is worth two warnings, and no problem."""
    start_worker()

    found = findings(kotae, broker_url, code=0)

    limit, disk = of_level(found, "warning")
    assert "no memory limit" in limit
    assert "append-only file is off" in disk
    well = " | ".join(of_level(found, "ok"))
    for says in (
        "this user may do all", "it asks for a password", "Valkey 9", "noeviction", "echo: 1 on 1 host, echo by echo", "clocks are within",
        "Kotae 0", "GiB are free",
    ):  # fmt: skip
        assert says in well


@contextmanager
def configured(client: redis.Redis, **settings: str) -> Iterator[None]:
    """Change a server's configuration for a while."""
    names = [name.replace("_", "-") for name in settings]
    before = {name: client.config_get(name)[name] for name in names}
    try:
        for name, value in zip(names, settings.values(), strict=True):
            client.config_set(name, value)
        yield
    finally:
        for name, value in before.items():
            client.config_set(name, value)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"maxmemory_policy": "allkeys-lru"}, "maxmemory-policy is allkeys-lru: an evicted key is a lost answer"),
        ({"maxmemory": "100kb"}, "of 0 MiB: nothing more is sent"),
        ({"requirepass": ""}, None),
    ],
    ids=["evicts", "full", "open"],
)
def test_a_server_that_would_lose_or_refuse_rows_is_a_problem(
    kotae: Kotae, broker_url: str, client: redis.Redis, settings: dict[str, str], says: str | None
) -> None:
    """And one on loopback without a password at least a warning."""
    with configured(client, **settings):
        found = findings(kotae, broker_url, code=1 if says else 0)

    if says:
        (said,) = of_level(found, "problem")
        assert says in said
    else:
        assert any("it asks for no password" in said for said in of_level(found, "warning"))
    assert not client.keys("*doctor*"), "nothing that was tried stays"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://127.0.0.1:1/0", "cannot reach the broker"),
        ("redis://:wrong@{host}", "refused the password"),
        ("redis://127.0.0.1:1/nonsense", "URL cannot be read"),
    ],
)
def test_a_broker_that_cannot_be_used_is_one_finding_among_the_others(kotae: Kotae, broker_url: str, url: str, says: str) -> None:
    """The rest of the machine is looked at all the same."""
    found = findings(kotae, url.format(host=broker_url.rpartition("@")[2]), code=1)

    (said,) = of_level(found, "problem")
    assert says in said
    assert "wrong" not in said
    assert any("GiB are free" in says for says in of_level(found, "ok"))


@pytest.fixture
def tls(broker_url: str, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The broker behind TLS: its URL and the certificate to trust. The embedded server has none, so a proxy speaks it."""
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*new, *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    behind = urlsplit(broker_url)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
            writer.close()
        except BaseException:  # the end of the test among it
            writer.transport.abort()
            raise

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(behind.hostname, behind.port)
        await asyncio.gather(pump(reader, to_server), pump(from_server, writer), return_exceptions=True)

    with serving(lambda: asyncio.start_server(connect, "127.0.0.1", 0, ssl=context)) as port:
        yield f"rediss://{behind.netloc.rpartition('@')[0]}@127.0.0.1:{port}/0", certificate


async def _cancel_the_rest() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)  # transports that were given up are closed by then


@contextmanager
def serving(start: Callable[[], Coroutine[Any, Any, asyncio.Server]]) -> Iterator[int]:
    """Run a server on a loop of its own; give its port."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # clients that do not trust it hang up
    server = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield server.sockets[0].getsockname()[1]
    server.close()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.run_until_complete(_cancel_the_rest())
    loop.close()


@pytest.mark.skipif(which("openssl") is None, reason="needs openssl")
def test_tls_is_told_and_a_certificate_that_nobody_checks_is_a_warning(kotae: Kotae, tls: tuple[str, Path]) -> None:
    """Encryption to whoever answers is no protection."""
    url, certificate = tls

    trusted = findings(kotae, f"{url}?ssl_ca_certs={certificate}", code=0)
    unchecked = findings(kotae, f"{url}?ssl_cert_reqs=none", code=0)
    stranger = findings(kotae, url, code=1)

    assert any("TLS is on, but the broker's certificate ends in 2 days" in says for says in of_level(trusted, "warning"))
    assert any("certificate is not checked" in says for says in of_level(unchecked, "warning"))
    assert "certificate verify failed" in of_level(stranger, "problem")[0]


def test_what_an_acl_keeps_from_us_is_named_and_the_advice_helps(kotae: Kotae, broker_url: str, client: redis.Redis) -> None:
    """An ACL that is too narrow shows as rows that never move."""
    url = f"redis://team:sesame@{broker_url.rpartition('@')[2]}"
    narrow = [
        "~kotae.*",
        "~unacked*",
        "~celery-task-meta-*",
        "~_kombu*",
        "&*",
        "+@all",
        "-@dangerous",
        "-brpop",
        "-eval",
        "-setbit",
        "+info",
    ]
    client.execute_command("ACL", "SETUSER", "team", "reset", "on", ">sesame", *narrow)
    try:
        found = findings(kotae, url, code=1)
        (advice,) = [one["do"] for one in found if one["level"] == "problem"]
        (said,) = of_level(found, "problem")
        client.execute_command("ACL", "SETUSER", "team", *advice.partition(";")[0].split()[3:])

        assert {what.split()[0] for what in said.partition(": ")[2].split(", ")} >= {"EVAL", "BRPOP", "SETBIT"}
        assert "LRANGE" not in said
        assert findings(kotae, url, code=0)
    finally:
        client.execute_command("ACL", "DELUSER", "team")


def test_workers_of_another_contract_and_the_rows_that_wait_for_them_are_told(
    kotae: Kotae,
    start_worker: StartWorker,
    broker_url: str,
    client: redis.Redis,
    old_kotae: dict[str, str],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the middle of an upgrade this is what a person wants to know."""
    worker = start_worker(command=OLD_ECHO, **old_kotae)
    send(broker_url, [question()], "echo")

    beside = of_level(findings(kotae, broker_url, code=1), "problem")
    worker.stop()
    with monkeypatch.context() as earlier:
        earlier.setattr(broker, "CONTRACT_VERSION", 0)
        send(broker_url, [question(row=row) for row in range(3)], "echo")
    after = of_level(findings(kotae, broker_url, code=1), "problem")

    assert any("speak contract 0, this kotae speaks 1" in says for says in beside)
    assert "rows that wait for echo, which no worker serves: 1" in beside
    assert "rows for echo on queues of contract 0, of which no worker is there: 3" in after


def test_two_models_under_one_name_are_a_problem_and_a_wrong_clock_a_warning(kotae: Kotae, broker_url: str, client: redis.Redis) -> None:
    """Workers refuse this at their start, but not if they could not see each other then."""
    for number in range(2):
        told = dict(served_name="echo", fingerprint=f"f{number}", host=f"host{number}", pid=1, gpu="", in_flight=0, max_in_flight=1)
        presence = Presence(worker=f"w{number}", incarnation="x", clock_skew=4.5 * number, contract=broker.CONTRACT_VERSION, **told)  # type: ignore[arg-type]
        client.set(broker.presence_key("echo", presence.worker), presence.model_dump_json(), ex=60)

    found = findings(kotae, broker_url, code=1)

    assert any("different models (fingerprints f0 (1), f1 (1))" in says for says in of_level(found, "problem"))
    assert any("host1 by +4.5 s" in says for says in of_level(found, "warning"))


@pytest.mark.skipif(which("faketime") is None, reason="needs the Debian package faketime")
def test_a_machine_whose_clock_is_wrong_learns_why_no_worker_starts_on_it(broker_url: str, tmp_path: Path) -> None:
    """Its worker cannot tell the fleet."""
    command = ["faketime", "-f", "+20s", sys.executable, "-m", "producer.cli", "doctor", "--broker", broker_url, "--home", str(tmp_path)]

    finished = subprocess.run(command, env=os.environ | {"FAKETIME_DONT_FAKE_MONOTONIC": "1"}, capture_output=True, text=True)

    assert finished.returncode == 1
    assert "this machine's clock differs from the broker's by +20.0 s: no worker starts here" in finished.stdout


def test_a_damaged_run_store_and_a_home_that_is_none_are_told(kotae: Kotae) -> None:
    """One bad file must not hide the others, nor end the doctor."""
    make_workbook(kotae.folder / "q.xlsx", ["a"])
    run_id = kotae.json("run", "q.xlsx", "-o", "out.xlsx", "--engine", "echo")["run_id"]
    store = kotae.folder / ".kotae" / "runs" / f"{run_id}.sqlite"
    (store.parent / "feed.sqlite").write_bytes(b"no database" * 1000)
    pages = bytearray(store.read_bytes())
    pages[4096 : 2 * 4096] = b"\x5a" * 4096
    store.write_bytes(pages)
    (kotae.folder / "file").touch()

    damaged = of_level(findings(kotae, None, code=1), "problem")
    no_home = of_level(findings(kotae, None, code=1, KOTAE_HOME="file"), "problem")

    assert len(damaged) == 2
    assert any("feed.sqlite" in says for says in damaged)
    assert any(run_id in says for says in damaged)
    assert no_home == [f"file cannot be written: {kotae.folder / 'file'} is not a folder"]


@pytest.fixture
def one_gpu(tmp_path: Path) -> dict[str, str]:
    """An H200, of which nvidia-smi tells; nothing else of this machine is found."""
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    listed, head = "0, NVIDIA H200, 570.1, 10 MiB, 143771 MiB", "| Driver Version: 570.1   CUDA Version: 12.8 |"
    smi.write_text(f'#!/bin/sh\ncase "$1" in *name*) echo "{listed}";; "") echo "{head}";; *) echo 0;; esac\n')
    smi.chmod(0o755)
    return {"PATH": f"{smi.parent}:/usr/bin:/bin"}


def test_a_gpu_without_vllm_and_with_a_driver_is_told(kotae: Kotae, one_gpu: dict[str, str]) -> None:
    """The driver decides which CUDA, and so which vLLM, can run."""
    found = findings(kotae, None, code=0, **one_gpu)

    assert any("0: NVIDIA H200, driver 570.1, 10 MiB of 143771 MiB used" in says for says in of_level(found, "ok"))
    assert any("vLLM is not installed" in says for says in of_level(found, "warning"))


@pytest.mark.parametrize(("runtime", "is_told"), [("13.0.96", True), ("12.9.79", False)])
def test_a_driver_that_is_older_than_torchs_cuda_is_a_problem(
    kotae: Kotae, one_gpu: dict[str, str], tmp_path: Path, runtime: str, is_told: bool
) -> None:
    """No engine would start, after minutes of trying; this says why at once."""
    package = tmp_path / "site" / f"nvidia_cuda_runtime-{runtime}.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text(f"Metadata-Version: 2.1\nName: nvidia-cuda-runtime\nVersion: {runtime}\n")
    path = f"{tmp_path / 'site'}:{os.environ.get('PYTHONPATH', '')}"

    found = findings(kotae, None, code=1 if is_told else 0, PYTHONPATH=path, **one_gpu)

    said = [says for says in of_level(found, "problem") if "CUDA 13.0.96, and the driver knows CUDA 12 only" in says]
    assert bool(said) == is_told


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    """It must work, and at once, on a laptop without torch."""
    program = """
import sys
from producer.cli import cli
cli(["doctor", "--json"], standalone_mode=False)
print(sorted({"torch", "vllm", "transformers", "unsloth", "pyarrow"} & sys.modules.keys()))
"""

    said = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    assert said.splitlines()[-1] == "[]"
