"""What the machinery costs without a model: rows/s of `kotae run` with the echo engine, and how much Redis and the producer hold.

python -m benchmarks.echo_rows --rows 10000 --window 1000
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import redis
import xlsxwriter

from producer.workbook.reading import read_sheet
from workers.contract.processes import start_child, stop_child

_SAMPLES_PER_SECOND = 2


def main() -> None:
    """Measure and print one JSON object."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=10_000)
    options.add_argument("--window", type=int, default=1_000)
    options.add_argument("--delay", type=float, default=0.3, help="seconds a row takes, plus or minus as much")
    options.add_argument("--workers", type=int, default=1)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "q.xlsx", Path(folder) / "out.xlsx"
        with xlsxwriter.Workbook(str(source), {"constant_memory": True}) as workbook:
            sheet = workbook.add_worksheet()
            for row, text in enumerate(["question", *(f"What is {number}?" for number in range(given.rows))]):
                sheet.write_string(row, 0, text)
        began = time.monotonic()
        with _fleet(given.workers, given.delay) as url:
            command = [sys.executable, "-m", "producer.cli", "run", str(source), "-o", str(out), "--home", folder, "--model", "echo"]
            with subprocess.Popen([*command, "--window", str(given.window)], env=_environment(url), stdout=subprocess.DEVNULL) as running:
                most_rows, most_memory = _watch(running, url)
        seconds = time.monotonic() - began
        answered = read_sheet(out)
        in_place = [row[0] == row[1] for row in answered.rows()]
    told = {
        "benchmark": "echo_rows",
        "rows": given.rows,
        "workers": given.workers,
        "window": given.window,
        "seconds": round(seconds, 1),
        "rows_per_s": round(given.rows / seconds, 1),
        "rows_with_their_own_answer": sum(in_place),
        "most_rows_in_redis": most_rows,
        "producer_peak_mb": round(most_memory / 1e6, 1),
    }
    print(json.dumps(told))


@contextlib.contextmanager
def _fleet(workers: int, delay: float) -> Iterator[str]:
    """Start an embedded server and workers on it; give its URL."""
    with contextlib.ExitStack() as stack:
        server = start_child(["producer.embedded"], dict(os.environ), stdout=subprocess.PIPE)
        stack.callback(stop_child, server, 10)
        assert server.stdout is not None
        url = server.stdout.readline().decode().strip()
        command = ["workers", "--engine", "echo", "--engine-arg", f"delay={delay}", "--engine-arg", f"delay_spread={delay}"]
        for _ in range(workers):
            stack.callback(stop_child, start_child(command, _environment(url)), 10)
        yield url


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
