"""A feeder and collector of its own: a process that goes on when the command that started it, and its terminal, are gone."""

import os
import subprocess
import sys
import time
from pathlib import Path

from pydantic import SecretStr

from workers.contract.broker import BrokerSettings
from workers.contract.errors import UserError

from .transport import Transport

#: Seconds in which it must have taken over the run.
_PATIENCE = 30.0


def detach(transport: Transport, run_id: str, home: Path) -> tuple[int, Path]:
    """Start a process that feeds and collects a run until it is done; return its number and its log. Raises UserError if it cannot."""
    log = home.absolute() / "logs" / f"feed-{run_id}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "producer.cli", "feed", run_id, "--home", str(home.absolute())],
            env=os.environ | _secrets(transport.settings),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,  # no Ctrl-C and no hang-up of our terminal is meant for it
        )
    end = time.monotonic() + _PATIENCE
    while f"process {process.pid} " not in transport.holder(run_id):
        if process.poll() == 0:
            break  # done already
        if process.poll() is not None or time.monotonic() > end:
            raise UserError(f"the background process could not take over: {_last_line(log)}")
        time.sleep(0.1)
    return process.pid, log


def _secrets(settings: BrokerSettings) -> dict[str, str]:
    given = {"KOTAE_BROKER": settings.broker, "KOTAE_BROKER_PASSWORD": settings.broker_password or SecretStr("")}
    return {name: secret.get_secret_value() for name, secret in given.items() if secret.get_secret_value()}


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("kotae: ") if lines else f"it said nothing ({log})"
