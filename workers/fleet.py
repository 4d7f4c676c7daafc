"""One supervised worker process per GPU, or one on the CPU."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

from .contract.errors import UserError
from .contract.hardware import visible_gpus
from .contract.processes import start_child, stop_child
from .lifecycle import EXIT_NO_ENGINE, EXIT_USER_ERROR

#: Seconds before a process that died is started again: first, and at most.
_RESTART_DELAYS = (1.0, 5.0)


@dataclass
class _Place:
    """Where one worker process runs."""

    label: str
    env: dict[str, str]
    process: "subprocess.Popen[bytes] | None" = None
    restarts: int = 0
    start_at: float = field(default_factory=time.monotonic)


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
    if missing := [gpu for gpu in chosen if gpu not in present]:
        raise UserError(f"no GPU {', '.join(missing)} here; visible: {', '.join(present) or 'none'}")
    return chosen


def supervise(served_name: str, gpus: list[str], log_level: str) -> int:
    """Keep one worker process per GPU running until told to stop; return the exit code.

    A process that died is started again, each alone. One that ends because of a mistake that a restart cannot mend ends all.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    places = [_Place(f"gpu{gpu}", {"CUDA_VISIBLE_DEVICES": gpu}) for gpu in gpus] or [
        _Place(f"cpu-{os.getpid()}", {"CUDA_VISIBLE_DEVICES": ""})
    ]
    try:
        while not stop.wait(0.2):
            for place in places:
                code = _look_after(place, served_name, log_level)
                # What fails at the very first start is a mistake of ours or of the user's; later it is the machine's, and passes.
                if code in (EXIT_USER_ERROR, EXIT_NO_ENGINE) and place.restarts == 1:
                    return code
        return 0
    finally:
        _stop_all(places)


def _look_after(place: _Place, served_name: str, log_level: str) -> int | None:
    """Start the process of a place when it is time; return the exit code if it has just died."""
    if place.process is None:
        if time.monotonic() >= place.start_at:
            place.process = start_child(_command(place, served_name, log_level), dict(os.environ) | place.env)
        return None
    code = place.process.poll()
    if code is None:
        return None
    stop_child(place.process, grace=0)
    first, most = _RESTART_DELAYS
    delay = min(first * 2**place.restarts, most)
    if code not in (EXIT_USER_ERROR, EXIT_NO_ENGINE) or place.restarts:
        print(f"kotae-worker: {place.label} ended with code {code}; starting it again in {delay:g} s", file=sys.stderr, flush=True)
    place.process, place.restarts, place.start_at = None, place.restarts + 1, time.monotonic() + delay
    return code


def _stop_all(places: list[_Place]) -> None:
    running = [place.process for place in places if place.process is not None]
    for process in running:
        if process.poll() is None:
            process.terminate()
    # Each drains by itself for as long as it was told; whoever stopped us decides how long that may take.
    for process in running:
        process.wait()
        stop_child(process, grace=0)


def _command(place: _Place, served_name: str, log_level: str) -> list[str]:
    node = re.sub(r"[^\w.-]+", "-", served_name).strip("-")
    options = ["--without-gossip", "--without-mingle", "--loglevel", log_level, "--hostname", f"{node}-{place.label}@%h"]
    return ["celery", "-A", "workers.tasks", "--quiet", "worker", *options]
