"""``kotae run`` without a broker: an embedded server and local workers, as subprocesses that never outlive us."""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from pydantic import SecretStr

from workers.contract.broker import BrokerSettings
from workers.contract.errors import KotaeError, UserError
from workers.contract.fingerprint import fingerprint_folder
from workers.contract.hardware import visible_gpus
from workers.contract.messages import Presence
from workers.contract.processes import start_child, stop_child

from .transport import Transport

#: How the demo model is asked for, and called.
DEMO, DEMO_NAME = "demo", "SmolLM2-135M-Instruct"
#: Seconds that a local worker gets to end by itself: it has nothing to give back to anybody.
_GRACE = 8.0
_PASSED_ON = {"KOTAE_GPUS", "KOTAE_LOG_LEVEL", "KOTAE_MAX_IN_FLIGHT"}


class LocalModel(NamedTuple):
    """What a local worker is to load, and under which name."""

    served_name: str
    model: str
    engine: str
    engine_args: dict[str, Any]
    #: Name and folder.
    adapter: tuple[str, str] | None = None


class WorkerDied(KotaeError):
    """Raised when a local worker ended although nobody told it to; the message says where its log is."""


def choose_model(model: str | None, engine: str, engine_args: dict[str, Any], adapter: str | None) -> LocalModel:
    """Decide what to load: the model named or, without one and without a GPU, the demo model. Raises UserError.

    The served name of a local folder holds a fingerprint of its files: another model in the same folder makes another run.
    """
    if engine == "openai":
        return _behind_an_endpoint(model, engine_args, adapter)
    named_adapter = _named(adapter, "--adapter") if adapter else None
    if engine == "echo":
        if model is not None:
            raise UserError(f"--model {model}: the echo engine has no model; leave --model or --engine out")
        return LocalModel("echo", "echo", engine, engine_args, named_adapter)
    if model is None:
        if gpus := visible_gpus():
            raise UserError(f"there {'is a GPU' if len(gpus) == 1 else f'are {len(gpus)} GPUs'} here: name the model to load with --model")
        model = DEMO
    if model == DEMO:
        return LocalModel(DEMO_NAME, DEMO, engine, engine_args, named_adapter)
    folder = Path(model).expanduser()
    if folder.is_dir():
        return LocalModel(_named(model, "--model")[0], str(folder.resolve()), engine, engine_args, named_adapter)
    if folder.is_absolute() or model.startswith((".", "~")) or model.count("/") != 1:
        raise UserError(f"there is no model at {model}: give the folder of a model, or its name on a hub (organisation/name)")
    return LocalModel(model, model, engine, engine_args, named_adapter)


class LocalFleet:
    """An embedded server and the workers on it."""

    def __init__(
        self, server: "subprocess.Popen[bytes]", workers: "subprocess.Popen[bytes]", url: str, log: Path, served_name: str
    ) -> None:
        self._server, self._workers, self._log, self._served_name = server, workers, log, served_name
        # Nothing of the environment's broker may mix in: its password is not ours.
        self.settings = BrokerSettings(broker=SecretStr(url), broker_password=None, broker_password_file=None)

    def wait_until_ready(self, transport: Transport, waiting: Callable[[float], object]) -> list[Presence]:
        """Wait until a worker takes rows; return those that do. Raises UserError or WorkerDied if none ever will."""
        started = time.monotonic()
        while not (workers := transport.workers(self._served_name)):
            self.check()
            waiting(time.monotonic() - started)
            time.sleep(0.1)
        return workers

    def check(self) -> None:
        """Raise if the server or the workers have ended: UserError where somebody can mend it, WorkerDied otherwise."""
        if self._server.poll() is not None:
            raise WorkerDied("the embedded server has ended; run again to resume")
        code = self._workers.poll()
        if code is None:
            return
        said = [
            line.removeprefix("kotae-worker: ")
            for line in self._log.read_text(errors="replace").splitlines()
            if line.startswith("kotae-worker: ")
        ]
        if code == 2 and said:
            raise UserError(said[-1])
        raise WorkerDied(f"{said[-1] if said else f'the local worker ended with code {code}'}; its log is {self._log}")


@contextlib.contextmanager
def local_fleet(model: LocalModel, home: Path, ledger: Path | None = None) -> Iterator[LocalFleet]:
    """Start an embedded server and local workers, one per GPU or one on the CPU, and stop them on every way out."""
    with contextlib.ExitStack() as stack:
        log = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kotae-log-"))) / "worker.log"
        with log.open("wb") as file:
            server = start_child(["producer.embedded"], dict(os.environ), stdout=subprocess.PIPE, stderr=file)
        stack.callback(stop_child, server, _GRACE)
        assert server.stdout is not None
        url = server.stdout.readline().decode().strip()
        if not url.startswith("redis://"):
            said = (log.read_text(errors="replace").strip().splitlines() or ["it says nothing"])[-1]
            raise UserError(f"the embedded server could not start here ({said}); start a Redis or Valkey and name it with --broker")
        with log.open("wb") as file:
            workers = start_child(["workers"], _environment(model, url, ledger), stdout=file, stderr=file)
        stack.callback(stop_child, workers, _GRACE)
        fleet = LocalFleet(server, workers, url, log, model.served_name)
        try:
            yield fleet
        except WorkerDied as error:
            kept = home / "logs" / f"worker-{time.strftime('%Y%m%d-%H%M%S')}.log"
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(log, kept)
            raise WorkerDied(str(error).replace(str(log), str(kept))) from error


def _environment(model: LocalModel, url: str, ledger: Path | None) -> dict[str, str]:
    # Of our own settings only those that say how workers run: which broker, model and name is ours to decide.
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("KOTAE_") or key in _PASSED_ON}
    ours = {
        "KOTAE_BROKER": url,
        "KOTAE_MODEL": model.model,
        "KOTAE_ENGINE": model.engine,
        "KOTAE_NAME": model.served_name,
        "KOTAE_ENGINE_ARGS": json.dumps(model.engine_args),
        "KOTAE_DRAIN_SECONDS": "0",
    }
    if model.adapter is not None:
        ours["KOTAE_ADAPTERS"] = json.dumps(dict([model.adapter]))
    if ledger is not None:
        ours["KOTAE_LEDGER"] = str(ledger.absolute())
    return inherited | ours


def _behind_an_endpoint(model: str | None, engine_args: dict[str, Any], adapter: str | None) -> LocalModel:
    """Name a model by its endpoint too: another one may have another model of that name."""
    if model is None:
        raise UserError("name the endpoint's model with --model")
    host = urlsplit(str(engine_args.get("base_url", ""))).netloc.rpartition("@")[2]
    if not host:
        raise UserError("name the endpoint with --base-url, such as https://host/v1 (the key goes into OPENAI_API_KEY)")
    return LocalModel(f"{model}@{host}", model, "openai", engine_args, (adapter, adapter) if adapter else None)


def _named(folder: str, option: str) -> tuple[str, str]:
    """Return a name for a folder of weights, and the folder; the name changes when the weights do."""
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise UserError(f"{option} {folder}: there is no such folder")
    path = path.resolve()
    return f"{path.name}-{fingerprint_folder(path)[:8]}", str(path)
