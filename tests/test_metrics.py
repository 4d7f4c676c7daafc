"""What Prometheus is told: by the workers of a host on one port, by the broker, and what it makes of that."""

import http.client
import json
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Kotae, StartWorker, eventually, free_port, make_workbook, question, result_of, send, stopped_in_the_end

ROOT = Path(__file__).parent.parent
COMPOSE = ROOT / "compose"
needs_prometheus = pytest.mark.skipif(not (shutil.which("prometheus") and shutil.which("promtool")), reason="Prometheus is not installed")
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def page(url: str, tls: ssl.SSLContext | None = None) -> Samples:
    """All samples of a page of metrics by name and labels; none until somebody serves it."""
    try:
        with urllib.request.urlopen(url, timeout=10, context=tls) as response:
            text = response.read().decode()
    except (OSError, http.client.HTTPException):
        return {}
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float | None:
    """The one sample of a name that has these labels."""
    found = [number for (other, theirs), number in samples.items() if other == name and labels.items() <= dict(theirs).items()]
    assert len(found) <= 1, f"{name} {labels} is {len(found)} samples"
    return found[0] if found else None


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of a fleet, as a person makes them."""
    folder = tmp_path_factory.mktemp("certificates") / "tls"
    subprocess.run([COMPOSE / "certificates.sh", folder, "hub", "gpu1,127.0.0.1"], check=True, stdout=subprocess.DEVNULL)
    return folder


@pytest.fixture
def metrics(kotae: Kotae, broker_url: str) -> Iterator[str]:
    """`kotae metrics` beside the broker; the address of its page."""
    port = free_port()
    with stopped_in_the_end(kotae.start("metrics", "--port", str(port), KOTAE_BROKER=broker_url)) as process:
        url = f"http://127.0.0.1:{port}/metrics"
        eventually(lambda: process.poll() is not None or page(url))
        yield url
        process.terminate()
        assert process.wait(20) == 0


def start_with_metrics(start_worker: StartWorker, *options: str, **environment: str) -> tuple[Any, str]:
    port = free_port()
    worker = start_worker("--metrics-port", str(port), *options, **environment)
    return worker, f"http://127.0.0.1:{port}/metrics"


def test_rows_are_counted_by_outcome_with_their_tokens(start_worker: StartWorker, kotae: Kotae, broker_url: str) -> None:
    """Exactly once each, when their result is stored; and by nothing that grows with runs or rows."""
    _, url = start_with_metrics(start_worker)
    before = eventually(lambda: value(samples := page(url), "kotae_worker_ready") and samples)
    for name, rows in (("a", ["one two three"] * 40), ("b", ["one two"] * 7 + [""])):
        make_workbook(kotae.folder / f"{name}.xlsx", rows, lora=["", "", "nobody", *[""] * (len(rows) - 3)])
        kotae("run", f"{name}.xlsx", "-o", f"{name}-out.xlsx", "--adapter-column", "lora", KOTAE_BROKER=broker_url)

    after = eventually(lambda: (samples := page(url)) and value(samples, "kotae_rows_total", outcome="answered") == 45 and samples)

    where = {"served_name": "echo", "gpu": "cpu"}
    assert value(after, "kotae_rows_total", outcome="rejected", **where) == 2
    assert value(after, "kotae_rows_total", outcome="failed", **where) == 0
    assert value(after, "kotae_prompt_tokens_total", **where) == 39 * 3 + 6 * 2
    assert value(after, "kotae_output_tokens_total", **where) == 39 * 3 + 6 * 2
    assert value(after, "kotae_row_seconds_count", **where) == 45
    assert value(after, "kotae_row_wait_seconds_count", **where) == 47
    assert value(after, "kotae_rows_redelivered_total", **where) == 0
    assert eventually(lambda: value(page(url), "kotae_rows_in_flight") == 0)
    assert after.keys() == before.keys(), "no time series came with 47 rows of two runs"
    assert all(where.items() <= dict(labels).items() for _, labels in after)


def test_what_a_worker_does_at_the_moment_is_seen(start_worker: StartWorker, broker_url: str, metrics: str) -> None:
    """Rows taken, at work and waiting, here and on the queues."""
    _, url = start_with_metrics(start_worker, "--engine-arg", "max_num_seqs=3", "--engine-arg", "delay=600", "--max-in-flight", "5")
    send(broker_url, [question(row=row) for row in range(9)], "echo")

    busy = eventually(lambda: (samples := page(url)) and value(samples, "kotae_rows_in_flight") == 5 and samples)
    assert value(busy, "kotae_rows_in_flight_max") == 5
    assert eventually(lambda: value(page(url), "kotae_engine_rows_running") == 3)
    assert value(page(url), "kotae_engine_rows_waiting") == 2
    known = page(metrics)
    assert value(known, "kotae_queue_rows", served_name="echo") == 4
    assert value(known, "kotae_workers", served_name="echo") == 1
    assert value(known, "kotae_broker_rows_taken") == 5


def test_rows_that_come_back_are_counted_where_they_are_taken_again(start_worker: StartWorker, broker_url: str, client: Any) -> None:
    """A worker that stops hands its rows back; what that costs is seen."""
    first, _ = start_with_metrics(start_worker, "--engine-arg", "delay=600")
    rows = [question(row=row) for row in range(6)]
    send(broker_url, rows, "echo")
    eventually(lambda: client.hlen("unacked") == 6)
    assert first.stop() == 0

    _, url = start_with_metrics(start_worker)

    for one in rows:
        result_of(client, one)
    assert value(page(url), "kotae_rows_redelivered_total") == 6


def test_a_dead_worker_is_down_and_its_restart_is_counted(start_worker: StartWorker) -> None:
    """The supervisor goes on telling, whatever became of its workers."""
    worker, url = start_with_metrics(start_worker)
    assert value(page(url), "kotae_worker_up", gpu="cpu") == 1
    (child,) = psutil.Process(worker.popen.pid).children()

    child.send_signal(signal.SIGSTOP)
    hung = page(url)
    child.kill()

    assert value(hung, "kotae_worker_up", gpu="cpu") == 0, "one that hangs is as good as dead"
    again = eventually(lambda: (samples := page(url)) and value(samples, "kotae_worker_up") == 1 and samples)
    assert value(again, "kotae_worker_restarts_total", gpu="cpu", served_name="echo") == 1
    assert eventually(lambda: value(page(url), "kotae_worker_ready") == 1)


def test_a_broker_that_is_away_is_said_and_not_an_error(kotae: Kotae, tmp_path: Path) -> None:
    """Nor are old figures told as new ones."""
    port = free_port()
    server = subprocess.Popen([sys.executable, "-m", "producer.embedded"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdout is not None
    broker_url = server.stdout.readline().decode().strip()
    with server, stopped_in_the_end(kotae.start("metrics", "--port", str(port), KOTAE_BROKER=broker_url)):
        url = f"http://127.0.0.1:{port}/metrics"
        assert value(eventually(lambda: page(url)), "kotae_broker_up") == 1
        assert server.stdin is not None
        server.stdin.close()
        server.wait(20)

        away = page(url)

    assert away == {("kotae_broker_up", frozenset()): 0}


@needs_openssl
def test_metrics_for_other_machines_need_certificates_on_both_sides(start_worker: StartWorker, tls: Path) -> None:
    """An open address shows nothing to whoever passes by."""
    port = free_port()
    start_worker("--metrics-port", str(port), "--metrics-host", "0.0.0.0", "--metrics-tls", str(tls / "gpu1"))
    ours = ssl.create_default_context(cafile=str(tls / "hub" / "ca.pem"))
    stranger = ssl.create_default_context(cafile=str(tls / "hub" / "ca.pem"))
    ours.load_cert_chain(tls / "hub" / "cert.pem", tls / "hub" / "key.pem")

    assert value(eventually(lambda: page(f"https://127.0.0.1:{port}/metrics", ours)), "kotae_worker_up") == 1
    assert page(f"https://127.0.0.1:{port}/metrics", stranger) == {}
    assert page(f"http://127.0.0.1:{port}/metrics") == {}


@needs_openssl
def test_who_connects_and_says_nothing_keeps_nobody_out(start_worker: StartWorker, tls: Path) -> None:
    """A port scanner, a health check of a balancer, a cable that was pulled: the fleet must not look dead for it."""
    port = free_port()
    worker = start_worker("--metrics-port", str(port), "--metrics-host", "0.0.0.0", "--metrics-tls", str(tls / "gpu1"))
    ours = ssl.create_default_context(cafile=str(tls / "hub" / "ca.pem"))
    ours.load_cert_chain(tls / "hub" / "cert.pem", tls / "hub" / "key.pem")

    with socket.create_connection(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)) as babbling:
        babbling.sendall(b"GET / HTTP/1.0\r\n\r\n")

        assert value(page(f"https://127.0.0.1:{port}/metrics", ours), "kotae_worker_up") == 1
    assert "Traceback" not in worker.said()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--metrics-host", "0.0.0.0"], "open to everybody"),
        (["--metrics-host", "0.0.0.0", "--metrics-tls", "/nowhere"], "cert.pem, key.pem and ca.pem must lie there"),
        (["--metrics-tls", str(ROOT / "tests")], "must lie there"),
    ],
)
def test_metrics_that_would_be_open_are_refused_in_one_line(start_worker: StartWorker, options: list[str], says: str) -> None:
    worker = start_worker("--metrics-port", str(free_port()), *options, wait=False)

    assert worker.popen.wait(60) == 2
    (line,) = worker.said().splitlines()
    assert says in line


def test_a_port_that_is_taken_is_said_in_one_line(start_worker: StartWorker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        worker = start_worker("--metrics-port", str(taken.getsockname()[1]), wait=False)

        assert worker.popen.wait(60) == 2
    assert "choose another address or port" in worker.said()


@needs_prometheus
@needs_openssl
def test_a_real_prometheus_scrapes_hub_and_worker(
    start_worker: StartWorker, kotae: Kotae, broker_url: str, metrics: str, tls: Path, tmp_path: Path
) -> None:
    """With the configuration of the hub, of which only the addresses and the intervals are this test's."""
    port, own = free_port(), free_port()
    start_worker("--metrics-port", str(port), "--metrics-tls", str(tls / "gpu1"))
    shutil.copytree(tls / "hub", tmp_path / "tls")
    shutil.copy(COMPOSE / "alerts.yaml", tmp_path)
    config = yaml.safe_load((COMPOSE / "prometheus.yaml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [urllib.parse.urlsplit(metrics).netloc]
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "gpus.yaml").write_text(yaml.safe_dump([{"targets": [f"127.0.0.1:{port}"]}]))
    subprocess.run(["promtool", "check", "config", tmp_path / "prometheus.yaml"], check=True, stdout=subprocess.DEVNULL)
    command = ["prometheus", f"--config.file={tmp_path}/prometheus.yaml", f"--web.listen-address=127.0.0.1:{own}"]

    def ask(query: str) -> list[Any]:
        url = f"http://127.0.0.1:{own}/api/v1/query?" + urllib.parse.urlencode({"query": query})
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return [float(one["value"][1]) for one in json.load(response)["data"]["result"]]
        except (urllib.error.URLError, ConnectionError):
            return []

    with (tmp_path / "log").open("w") as log:
        prometheus = subprocess.Popen([*command, f"--storage.tsdb.path={tmp_path}/data"], stdout=log, stderr=log, text=True)
    with stopped_in_the_end(prometheus):
        assert eventually(lambda: ask("up") == [1, 1]), (tmp_path / "log").read_text()
        make_workbook(kotae.folder / "q.xlsx", ["how", "many"] * 50)
        assert kotae("run", "q.xlsx", "-o", "out.xlsx", KOTAE_BROKER=broker_url).code == 0

        assert eventually(lambda: ask('kotae_rows_total{job="kotae-worker", outcome="answered"}') == [100])
        assert eventually(lambda: ask('kotae_workers{served_name="echo"}') == [1])
        assert eventually(lambda: ask("kotae:yield:10m") == [1])
        assert ask('ALERTS{alertstate="firing"}') == []
        for panel in panels():
            if "vllm:" not in panel:  # the echo engine has none
                query = panel.replace("$served_name", "echo").replace("$__rate_interval", "1m")
                assert eventually(lambda query=query: ask(query)), f"nothing to be seen: {query}"


@needs_prometheus
def test_the_alarms_go_off_when_they_should_and_not_otherwise() -> None:
    finished = subprocess.run(["promtool", "test", "rules", ROOT / "tests" / "alerts.yaml"], capture_output=True, text=True)

    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_rules_and_dashboard_ask_only_for_what_is_served(start_worker: StartWorker, metrics: str) -> None:
    """A panel without data looks like a quiet fleet."""
    _, url = start_with_metrics(start_worker)
    served = {name for name, _ in [*page(url), *eventually(lambda: len(page(metrics)) > 4 and page(metrics))]}
    served |= {rule["record"] for rule in rules() if "record" in rule} | {"up", "ALERTS"}

    asked = {name for expression in expressions() for name in names_in(expression) if not name.startswith("vllm:")}

    assert asked > {"kotae_rows_total", "kotae_queue_rows", "kotae:yield:10m"}
    assert asked <= served


def test_what_the_dashboard_asks_of_vllm_is_little() -> None:
    """test_vllm_end_to_end.py looks for these on the page of a real vLLM."""
    assert {name for expression in expressions() for name in names_in(expression) if name.startswith("vllm:")} == VLLM_NAMES


#: What the dashboard asks of vLLM.
VLLM_NAMES = {"vllm:kv_cache_usage_perc", "vllm:time_to_first_token_seconds_bucket"}


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((COMPOSE / "alerts.yaml").read_text())["groups"]
    return list(group["rules"])


def panels() -> list[str]:
    """Every query of the dashboard."""
    dashboard = json.loads((COMPOSE / "grafana" / "dashboards" / "kotae.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(queries) > 20
    return queries


def expressions() -> list[str]:
    """Every query of the rules and of the dashboard."""
    return panels() + [rule["expr"] for rule in rules()]


def names_in(expression: str) -> set[str]:
    """The metrics of a query."""
    bare = re.sub(r'"[^"]*"', "", expression)
    return set(re.findall(r"\b(?:kotae|vllm|process)[_:][\w:]+|\bup\b|\bALERTS\b", bare))
