"""One supervised worker process per GPU, or per group of GPUs that share a model, or one on the CPU."""

import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .contract.errors import UserError
from .contract.exposition import serve_metrics
from .contract.hardware import visible_gpus
from .contract.processes import start_child, stop_child
from .host_page import HostPage, Source, read_socket
from .lifecycle import EXIT_NO_ENGINE, EXIT_USER_ERROR, READY_FD
from .settings import WorkerSettings

#: Seconds between two looks at the processes.
_LOOK = 0.2
#: Seconds before a process that died is started again: first, and at most.
_RESTART_DELAYS = (1.0, 5.0)
#: Deaths in a row, each before the engine was ready, after which a place is given up.
_GIVE_UP = 3


@dataclass
class _Place:
    """Where one worker process runs."""

    label: str
    gpu: str
    env: dict[str, str]
    process: "subprocess.Popen[bytes] | None" = None
    #: The end of a pipe on which the process says that it takes rows.
    ready: int = -1
    starts: int = 0
    #: Deaths since a process of this place was last ready, and those of them for which only its engine can be to blame.
    deaths: int = 0
    deaths_of_the_engine: int = 0
    start_at: float = field(default_factory=time.monotonic)

    @property
    def is_given_up(self) -> bool:
        return self.deaths_of_the_engine >= _GIVE_UP

    def source(self) -> Source:
        """Return where the metrics of this place come from."""
        page = Path(self.env["KOTAE_METRICS_SOCKET"])
        return Source(self.gpu, lambda: read_socket(page), restarts=lambda: max(0, self.starts - 1))


def choose_gpus(wanted: str) -> list[str]:
    """Return the GPU ids for ``all``, ``none``, ``auto`` (all there are, or none) or a list such as ``0,1``. Raises UserError."""
    if wanted == "none":
        return []
    present = visible_gpus()
    if wanted in ("auto", "all"):
        if wanted == "all" and not present:
            raise UserError("no GPU is visible here: check nvidia-smi and CUDA_VISIBLE_DEVICES, or run on the CPU with --gpus none")
        return present
    chosen = [gpu.strip() for gpu in wanted.split(",") if gpu.strip()]
    if not chosen:
        raise UserError(f"--gpus {wanted!r} names none: say all, none, auto, or a list such as 0,1")
    if twice := [gpu for gpu, times in Counter(chosen).items() if times > 1]:
        raise UserError(f"--gpus {wanted}: GPU {', '.join(twice)} is named twice; one GPU takes one worker")
    if missing := [gpu for gpu in chosen if gpu not in present]:
        raise UserError(f"no GPU {', '.join(missing)} here; visible: {', '.join(present) or 'none'}")
    return chosen


def group_gpus(gpus: list[str], size: int) -> list[list[str]]:
    """Return the GPUs in groups of ``size``, each for one worker. Raises UserError if they do not come out even."""
    if not isinstance(size, int) or size < 1 or len(gpus) % size or (size > 1 and not gpus):
        raise UserError(
            f"tensor_parallel_size {size}: {len(gpus)} GPUs cannot be shared out in groups of {size}; choose others with --gpus"
        )
    return [gpus[first : first + size] for first in range(0, len(gpus), size)]


def supervise(settings: WorkerSettings, groups: list[list[str]], log_level: str) -> int:
    """Keep one worker process per group of GPUs running until told to stop; return the exit code. Serves the metrics of all.

    A process that died is started again, each alone, after at most 5 s. A place whose engine dies three times in a row before it
    is ready is given up, the others go on. What fails at the very first start is somebody's mistake and ends all.
    """
    stop = _StopSignals()
    places = [_Place(f"gpu{'-'.join(group)}", ",".join(group), {"CUDA_VISIBLE_DEVICES": ",".join(group)}) for group in groups] or [
        _Place(f"cpu-{os.getpid()}", "cpu", {"CUDA_VISIBLE_DEVICES": ""})
    ]
    with _metrics(settings, places):
        try:
            while not stop.count:
                for place in places:
                    code = _look_after(place, settings.served_name, log_level)
                    if code in (EXIT_USER_ERROR, EXIT_NO_ENGINE) and place.starts == 1:
                        return code
                if all(place.is_given_up for place in places):
                    return EXIT_NO_ENGINE
                select.select([], [], [], _LOOK)  # libfaketime, with which a test sets a clock wrong, breaks time.sleep
            return 0
        finally:
            _stop_all(places, stop)


@contextmanager
def _metrics(settings: WorkerSettings, places: list[_Place]) -> Iterator[None]:
    """Serve the metrics of all places on one port, if a port was given. Raises UserError."""
    if settings.metrics_port is None:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="kotae-") as folder:
        for place in places:
            place.env["KOTAE_METRICS_SOCKET"] = str(Path(folder) / place.label)
        page = HostPage(settings.served_name, [place.source() for place in places])
        serve_metrics(page, settings.metrics_host, settings.metrics_port, settings.metrics_tls)
        yield


class _StopSignals:
    """Counts SIGTERM and SIGINT, since a second one means: at once.

    Only counts: an Event that is set while its own thread is about to wait for it would never return.
    """

    def __init__(self) -> None:
        self.count = 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._received)

    def _received(self, *_: object) -> None:
        self.count += 1


def _look_after(place: _Place, served_name: str, log_level: str) -> int | None:
    """Start the process of a place when it is time; return the exit code if it has just died."""
    if place.process is None:
        if time.monotonic() >= place.start_at and not place.is_given_up:
            _start(place, served_name, log_level)
        return None
    code = place.process.poll()
    if code is not None:
        stop_child(place.process, grace=0)
        place.process = None
        _plan_restart(place, code)
    return code


def _start(place: _Place, served_name: str, log_level: str) -> None:
    if page := place.env.get("KOTAE_METRICS_SOCKET"):
        Path(page).unlink(missing_ok=True)  # of the one before
    place.ready, theirs = os.pipe()
    os.set_blocking(place.ready, False)
    environment = dict(os.environ) | place.env | {READY_FD: str(theirs)}
    place.process = start_child(_command(place, served_name, log_level), environment, pass_fds=(theirs,))
    os.close(theirs)
    place.starts += 1


def _plan_restart(place: _Place, code: int) -> None:
    if _was_ready(place):
        place.deaths = place.deaths_of_the_engine = 0
    elif code != EXIT_USER_ERROR:  # a broker that is away comes back, and a clock is set right
        place.deaths_of_the_engine += 1
    first, most = _RESTART_DELAYS
    delay = min(first * 2**place.deaths, most)
    place.deaths += 1
    place.start_at = time.monotonic() + delay
    if place.is_given_up:
        _say(f"{place.label} ended {_GIVE_UP} times before its engine was ready, last with code {code}; it is given up: see above why")
    elif place.starts > 1 or code not in (EXIT_USER_ERROR, EXIT_NO_ENGINE):
        _say(f"{place.label} ended with code {code}; starting it again in {delay:g} s")


def _was_ready(place: _Place) -> bool:
    try:
        return bool(os.read(place.ready, 16))
    except BlockingIOError:
        return False  # something below it holds the pipe open
    finally:
        os.close(place.ready)


def _stop_all(places: list[_Place], stop: _StopSignals) -> None:
    running = [place.process for place in places if place.process is not None]
    passed_on = 0
    # Each drains by itself for as long as it was told; whoever stopped us decides how long that may take.
    while any(process.poll() is None for process in running):
        if passed_on < max(1, min(stop.count, 2)):
            passed_on += 1
            for process in running:
                if process.poll() is None:
                    process.terminate()
        time.sleep(0.05)
    for process in running:
        stop_child(process, grace=0)


def _say(line: str) -> None:
    print(f"kotae-worker: {line}", file=sys.stderr, flush=True)


def _command(place: _Place, served_name: str, log_level: str) -> list[str]:
    node = re.sub(r"[^\w.-]+", "-", served_name).strip("-")
    options = ["--without-gossip", "--without-mingle", "--loglevel", log_level, "--hostname", f"{node}-{place.label}@%h"]
    return ["celery", "-A", "workers.tasks", "--quiet", "worker", *options]
