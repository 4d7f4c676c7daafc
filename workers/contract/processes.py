"""Ending with the process that started us, however it ended: a lost GPU worker would hold its GPU for ever."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path
from typing import IO, TypeAlias
from urllib.parse import quote

Target: TypeAlias = int | IO[bytes] | None

#: Set for a child whose standard input is a pipe that only its parent holds open.
EXIT_WITH_PARENT = "KOTAE_EXIT_WITH_PARENT"
#: Seconds to end decently once the parent is gone.
_GRACE = 10.0
#: Settings that name a file, and options of a broker's URL that do.
_FILES, _URL = ("KOTAE_BROKER_PASSWORD_FILE", "OPENAI_API_KEY_FILE"), "KOTAE_BROKER"
_FILES_IN_URL = re.compile(r"(ssl_(?:ca_certs|certfile|keyfile)=)([^&/][^&]*)")
#: Where our packages are.
_ROOT = Path(__file__).resolve().parents[2]


def end_with_parent() -> None:
    """End this process soon after its parent has gone, if it was started by ``start_child``."""
    if os.environ.pop(EXIT_WITH_PARENT, ""):
        threading.Thread(target=_wait_for_the_end_of_stdin, name="parent-watch", daemon=True).start()


def start_child(
    module: list[str], env: dict[str, str], stdout: Target = None, stderr: Target = None, pass_fds: tuple[int, ...] = ()
) -> "subprocess.Popen[bytes]":
    """Run a Python module in a session of its own (a Ctrl-C is ours to pass on), as a process that ends when we do.

    It sees our modules and not those of the folder it is started in: there may lie a ``workers.py`` or a ``redis.py``.
    """
    installed = Path(sysconfig.get_path("purelib")) == _ROOT
    path = [*([] if installed else [str(_ROOT)]), *filter(None, [env.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", *module],
        env=env | _with_absolute_paths(env) | {EXIT_WITH_PARENT: "1", "PYTHONPATH": os.pathsep.join(path)},
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=stderr,
        pass_fds=pass_fds,
        start_new_session=True,
        cwd=_ROOT,  # Celery puts it on the path
    )


def _with_absolute_paths(env: dict[str, str]) -> dict[str, str]:
    """Return the settings that name files relative to our folder, which is not the child's, with their whole paths."""
    here = quote(f"{os.getcwd()}/")
    paths = {name: os.path.abspath(env[name]) for name in _FILES if env.get(name)}
    return paths | ({_URL: _FILES_IN_URL.sub(rf"\g<1>{here}\g<2>", env[_URL])} if _URL in env else {})


def stop_child(child: "subprocess.Popen[bytes]", grace: float) -> None:
    """Ask a child to end, insist after ``grace`` seconds, and leave nothing of its session behind."""
    if child.poll() is None:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(grace)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)  # engines start processes of their own
    child.wait()
    if child.stdin is not None:
        child.stdin.close()


def _wait_for_the_end_of_stdin() -> None:
    while os.read(0, 4096):  # not sys.stdin: its lock, held by a daemon thread, is fatal when Python shuts down
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE)
    os.killpg(0, signal.SIGKILL)
