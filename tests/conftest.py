"""The real parts that tests share: one Valkey and one vLLM engine for the session, workers and command lines as processes."""

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
import redis
import xlsxwriter
from hypothesis import settings

from tests.browsers import browser as browser
from tests.connections import watched_connections
from tests.scheduling import pytest_collection_modifyitems, pytest_xdist_auto_num_workers, pytest_xdist_make_scheduler  # noqa: F401  # hooks
from workers.contract import broker
from workers.contract.messages import Answer, ChatMessage, Question, Sampling
from workers.contract.processes import start_child, stop_child
from workers.settings import WorkerSettings

# Several test processes share the cores; threads that wait for each other by spinning would take them all.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A machine with much else to do is slow at times, and that is no fault.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

#: What the endpoint of the tests wants to hear.
ENDPOINT_KEY = "a secret of the tests"

#: Seconds that anything may take that is expected to happen at once; only a broken test waits that long.
PATIENCE = 60.0


def eventually(condition: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """Return the first true value of ``condition``, looked at often; fail when it never comes."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    pytest.fail(f"never came true within {patience:g} s")


def free_port() -> int:
    """Return a port that nobody is likely to get meanwhile: none that clients get, where one might even connect to itself."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the person who runs the tests may decide them."""
    for key in list(os.environ):
        if key.startswith("KOTAE_"):
            monkeypatch.delenv(key)


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """The embedded server itself, as `kotae run` starts it."""
    with subprocess.Popen([sys.executable, "-m", "producer.embedded"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        yield server.stdout.readline().decode().strip()
        server.stdin.close()


@pytest.fixture
def broker_url(valkey_url: str) -> str:
    """A broker with nothing in it, and nobody who waits for rows."""
    with redis.Redis.from_url(valkey_url) as client:
        for other in client.client_list():
            if other["cmd"] == "brpop":  # a worker that was killed, whose end the server has not heard of: it would be given the first row
                client.client_unblock(int(other["id"]))
        client.flushall()
    return valkey_url


@pytest.fixture
def client(broker_url: str) -> Iterator[redis.Redis]:
    """A look into the broker."""
    with redis.Redis.from_url(broker_url) as connection:
        yield connection


class Process(NamedTuple):
    """A program of ours, and where its words go."""

    popen: "subprocess.Popen[bytes]"
    log: Path

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self, patience: float = PATIENCE) -> int:
        self.popen.terminate()
        return self.popen.wait(patience)

    def kill(self) -> None:
        """End it and all below it at once, as a machine that loses its power does."""
        for process in [*psutil.Process(self.popen.pid).children(recursive=True), psutil.Process(self.popen.pid)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.popen.wait()


StartWorker = Callable[..., Process]


@pytest.fixture
def start_worker(broker_url: str, tmp_path: Path, client: redis.Redis) -> Iterator[StartWorker]:
    """Start `kotae-worker`s with the echo engine; all are stopped at the end."""
    started: list[Process] = []

    def start(
        *options: str,
        name: str = "echo",
        wait: bool = True,
        patience: float = PATIENCE,
        command: list[str] | None = None,
        **environment: str,
    ) -> Process:
        log = tmp_path / f"worker-{len(started)}.log"
        pattern = f"kotae.presence.{name}.*"
        known = set(client.keys(pattern))
        program = command or [sys.executable, "-m", "workers", "--engine", "echo", "--name", name, "--drain-seconds", "0", *options]
        env = os.environ | {"KOTAE_BROKER": broker_url} | environment
        with log.open("wb") as file:
            process = Process(subprocess.Popen(program, env=env, stdout=file, stderr=file, stdin=subprocess.DEVNULL), log)
        started.append(process)
        if wait:
            eventually(lambda: process.popen.poll() is not None or set(client.keys(pattern)) - known, patience)
            assert process.popen.poll() is None, process.said()
        return process

    yield start
    for process in started:
        if process.popen.poll() is None:
            process.kill()


class Finished(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


class Kotae:
    """The command line, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, *arguments: str | Path, **environment: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "producer.cli", *map(str, arguments)],
            cwd=self.folder,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str | Path, patience: float = 4 * PATIENCE, **environment: str) -> Finished:
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=patience)
        return Finished(process.returncode, out, err)

    def json(self, *arguments: str | Path, **environment: str) -> dict[str, Any]:
        """Run a command that must succeed, and return what it says to programs."""
        finished = self(*arguments, "--json", **environment)
        assert finished.code == 0, finished.err
        answer: dict[str, Any] = json.loads(finished.out)
        return answer


@pytest.fixture
def kotae(tmp_path: Path) -> Kotae:
    """The command line as a person starts it."""
    return Kotae(tmp_path)


def make_workbook(path: Path, questions: list[str], **columns: list[Any]) -> Path:
    """Write a workbook with a column NO, the questions, and further columns."""
    with xlsxwriter.Workbook(str(path), {"strings_to_formulas": False, "strings_to_urls": False}) as workbook:
        sheet = workbook.add_worksheet("questions")
        for place, (header, cells) in enumerate({"NO": list(range(1, len(questions) + 1)), "question": questions, **columns}.items()):
            for row, cell in enumerate([header, *cells]):
                if cell != "":
                    sheet.write(row, place, cell)
    return path


# The one vLLM engine of the session, and a real Celery worker around it.


@pytest.fixture(scope="session")
def engine_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The event loop on which the session's engines live."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(scope="session")
def vllm_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the vLLM engine writes down what it generates."""
    return tmp_path_factory.mktemp("ledger") / "ledger"


@pytest.fixture(scope="session")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter for the demo model."""
    from tests.adapter import make_adapter

    return make_adapter(tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="session")
def vllm_life(valkey_url: str, vllm_ledger: Path, adapter: Path) -> Iterator[Any]:
    """A worker's life around a real vLLM with the demo model and an adapter."""
    from workers.lifecycle import WorkerLife

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch and vLLM warn of while they are imported is not ours
        settings = WorkerSettings(
            model="demo",
            name="demo-model",
            adapters={"tuned": str(adapter)},
            # float32: in bf16, rows differ by who shares their batch
            engine_args={"max_num_seqs": 64, "max_model_len": 2048, "max_loras": 4, "dtype": "float32"},
            ledger=vllm_ledger,
        )
        life = WorkerLife(settings, broker.broker_settings(valkey_url))
        life.start("vllm@tests")
    yield life
    life.stop()


@pytest.fixture(scope="session")
def sync_engine(engine_loop: asyncio.AbstractEventLoop, adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real synchronous vLLM in a process of its own, as Unsloth's is driven; and whom that process has asked on the network."""
    with warnings.catch_warnings(), watched_connections(tmp_path_factory.mktemp("network")) as asked:
        warnings.simplefilter("ignore")  # as above
        from tests.sync_engine import DemoSyncEngine

        settings = WorkerSettings(
            model="demo", adapters={"tuned": str(adapter)}, engine_args={"max_num_seqs": 64, "max_model_len": 2048, "dtype": "float32"}
        )
        engine = DemoSyncEngine(settings)
        asyncio.run_coroutine_threadsafe(engine.start(), engine_loop).result()
    yield engine, asked
    asyncio.run_coroutine_threadsafe(engine.close(), engine_loop).result()


@pytest.fixture(scope="session")
def vllm_endpoint(adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real `vllm serve` with the demo model and an adapter, which wants a key; its address."""
    from workers.engines.demo_model import demo_model_path

    log, port = tmp_path_factory.mktemp("endpoint") / "log", free_port()
    model = ["--model", str(demo_model_path()), "--served-model-name", "demo", "--max-model-len", "2048", "--max-num-seqs", "64"]
    # As the session's engines have it, see there
    slow = ["--dtype", "float32", "--enforce-eager", "--no-enable-chunked-prefill", "--distributed-executor-backend", "uni"]
    lora = ["--enable-lora", "--max-loras", "4", "--max-lora-rank", "8", "--lora-modules", f"tuned={adapter}"]
    where = ["--host", "127.0.0.1", "--port", str(port), "--api-key", ENDPOINT_KEY]
    one_process = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_NO_USAGE_STATS": "1"}
    with log.open("wb") as file:
        server = start_child(
            ["tests.vllm_endpoint", *model, *slow, *lora, *where], dict(os.environ) | one_process, stdout=file, stderr=file
        )

    def answers() -> bool:
        assert server.poll() is None, log.read_text()[-3000:]
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as reply:
            return bool(reply.status == 200)
        return False

    try:
        eventually(answers, 4 * PATIENCE)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        stop_child(server, 8)


@pytest.fixture(scope="session")
def endpoint_engine(vllm_endpoint: str, engine_loop: asyncio.AbstractEventLoop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The engine `openai` on that endpoint; wrapped as a worker wraps it."""
    from workers.engines import open_engine
    from workers.engines.ledger import LedgerEngine

    settings = WorkerSettings(
        engine="openai", model="demo", adapters={"tuned": "tuned"}, engine_args={"base_url": vllm_endpoint}, OPENAI_API_KEY=ENDPOINT_KEY
    )
    engine = LedgerEngine(open_engine(settings), tmp_path_factory.mktemp("openai") / "ledger")
    engine.identity = asyncio.run_coroutine_threadsafe(engine.start(), engine_loop).result()
    yield engine
    asyncio.run_coroutine_threadsafe(engine.close(), engine_loop).result()


@pytest.fixture(scope="session")
def unsloth_engine(engine_loop: asyncio.AbstractEventLoop, adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The demo model as Unsloth loads it, with its identity, and whom its process has asked on the network; needs a GPU."""
    with warnings.catch_warnings(), watched_connections(tmp_path_factory.mktemp("network")) as asked:
        warnings.simplefilter("ignore")  # as above
        from workers.engines import open_engine

        small = {"max_seq_length": 2048, "max_num_seqs": 64, "max_loras": 4, "gpu_memory_utilization": 0.2}
        settings = WorkerSettings(
            engine="unsloth", model="demo", adapters={"tuned": str(adapter)}, engine_args={"load_in_4bit": False, **small}
        )
        engine = open_engine(settings)
        identity = asyncio.run_coroutine_threadsafe(engine.start(), engine_loop).result()
    yield engine, identity, asked
    asyncio.run_coroutine_threadsafe(engine.close(), engine_loop).result()


@pytest.fixture
def vllm_worker(vllm_life: Any, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Celery worker with the threads pool, on the session's vLLM engine."""
    from celery.contrib.testing.worker import start_worker as start_celery_worker

    from workers import tasks
    from workers.outbox import Outbox

    monkeypatch.setenv("KOTAE_BROKER", broker_url)
    monkeypatch.setenv("KOTAE_NAME", "demo-model")
    monkeypatch.setattr(tasks, "_life", vllm_life)
    monkeypatch.setattr(tasks, "_outbox", Outbox(tasks.app.backend, vllm_life.is_full, vllm_life.engine_died))
    vllm_life.announce()
    with start_celery_worker(tasks.app, pool="threads", concurrency=64, perform_ping_check=False, shutdown_timeout=PATIENCE):
        vllm_life.ready(None)
        eventually(lambda: vllm_life.redis.exists(broker.presence_key("demo-model", "vllm@tests")))
        yield vllm_life
        vllm_life.retire()


def question(text: str = "Say hello.", row: int = 0, run_id: str = "cafe", **changes: Any) -> Question:
    """A question, with any field of Sampling or of Question changed."""
    sampling = {name: changes.pop(name) for name in list(changes) if name in Sampling.model_fields}
    messages = (ChatMessage(role="user", content=text),)
    return Question(run_id=run_id, row=row, messages=messages, sampling=Sampling(**{"max_tokens": 16, **sampling}), **changes)


def send(url: str, questions: list[Question], served_name: str, queue: int = 0) -> None:
    """Put questions on a queue by Celery alone."""
    app = broker.producer_app(broker.broker_settings(url))
    with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
        for one in questions:
            app.send_task(
                broker.ANSWER_TASK,
                args=(one.to_wire(),),
                task_id=broker.task_id(one.run_id, one.row, one.generation),
                queue=broker.celery_queues(served_name)[queue],
                producer=producer,
                argsrepr=repr(one),
            )
    app.close()


def result_of(client: redis.Redis, one: Question, patience: float = PATIENCE) -> Answer:
    """Wait for the answer of a question that was sent."""
    value = eventually(lambda: client.get(broker.result_key(broker.task_id(one.run_id, one.row, one.generation))), patience)
    return Answer.model_validate(json.loads(value)["result"])


@contextmanager
def stopped_in_the_end(process: "subprocess.Popen[str]") -> Iterator["subprocess.Popen[str]"]:
    """Leave no process behind, whatever a test finds."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
