"""What the machinery costs without a model: rows/s of `kotae run` with the echo engine, and how much Redis and the producer hold.

python -m benchmarks.echo_rows --rows 10000 --window 1000
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import redis
import xlsxwriter

from producer.workbook.reading import read_sheet

_SAMPLES_PER_SECOND = 10


def main() -> None:
    """Measure and print one JSON object."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=10_000)
    options.add_argument("--window", type=int, default=1_000)
    options.add_argument("--delay", type=float, default=0.3, help="seconds a row takes, plus or minus as much")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "q.xlsx", Path(folder) / "out.xlsx"
        with xlsxwriter.Workbook(str(source), {"constant_memory": True}) as workbook:
            sheet = workbook.add_worksheet()
            for row, text in enumerate(["question", *(f"What is {number}?" for number in range(given.rows))]):
                sheet.write_string(row, 0, text)
        command = [sys.executable, "-m", "producer.cli", "run", str(source), "-o", str(out), "--home", folder, "--engine", "echo"]
        command += ["--engine-arg", f"delay={given.delay}", "--engine-arg", f"delay_spread={given.delay}", "--window", str(given.window)]
        began = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as running:
            most_rows, most_memory = _watch(running)
        seconds = time.monotonic() - began
        answered = read_sheet(out)
        in_place = [row[0] == row[1] for row in answered.rows]
    told = {
        "benchmark": "echo_rows",
        "rows": given.rows,
        "window": given.window,
        "seconds": round(seconds, 1),
        "rows_per_s": round(given.rows / seconds, 1),
        "rows_with_their_own_answer": sum(in_place),
        "most_rows_in_redis": most_rows,
        "producer_peak_mb": round(most_memory / 1e6, 1),
    }
    print(json.dumps(told))


def _watch(running: "subprocess.Popen[bytes]") -> tuple[int, int]:
    """Return the most rows that Redis held in any form, and the most memory of the producer, in bytes."""
    most_rows = most_memory = 0
    client: redis.Redis | None = None
    producer = psutil.Process(running.pid)
    while running.poll() is None:
        try:
            most_memory = max(most_memory, producer.memory_info().rss)
            client = client or _embedded_server(producer)
            if client is not None:
                pipe = client.pipeline(transaction=True)  # one instant: a row moves from one place to the next
                for key in client.keys("kotae.1.*"):
                    pipe.llen(key)
                pipe.hlen("unacked")
                most_rows = max(most_rows, sum(pipe.execute()) + len(client.keys("celery-task-meta-*")))
        except (redis.RedisError, psutil.Error):
            client = None
        time.sleep(1 / _SAMPLES_PER_SECOND)
    return most_rows, most_memory


def _embedded_server(producer: psutil.Process) -> "redis.Redis | None":
    for child in producer.children():
        if url := child.environ().get("KOTAE_BROKER"):
            return redis.Redis.from_url(url)
    return None


if __name__ == "__main__":
    main()
