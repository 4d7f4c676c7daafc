"""Why an engine did not start: vLLM says that in the log of another process, and to its caller only that it failed."""

import json
import os
import re
import tempfile
from copy import deepcopy
from pathlib import Path
from types import TracebackType
from typing import Self

_CONFIG_PATH = "VLLM_LOGGING_CONFIG_PATH"
#: The last line of a traceback.
_RAISED = re.compile(r"^(?:\w+\.)*[A-Z]\w*(?:Error|Exception): (.+)$", re.MULTILINE)
#: What a process says of another one that failed.
_HEARSAY = re.compile(r"initialization failed|died unexpectedly|Failed core proc")


class ErrorLog:
    """A context in which processes that vLLM starts also log their errors to a file of ours.

    Who has a ``VLLM_LOGGING_CONFIG_PATH`` keeps it, and gets no reason from here.
    """

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="kotae-vllm-")
        self._file = Path(self._folder.name) / "errors"
        self._is_ours = _CONFIG_PATH not in os.environ
        if self._is_ours:
            config = Path(self._folder.name) / "logging.json"
            config.write_text(json.dumps(_logging_config(self._file)))
            os.environ[_CONFIG_PATH] = str(config)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._is_ours:
            del os.environ[_CONFIG_PATH]
        self._folder.cleanup()  # processes that live on have opened it

    def reason(self) -> str:
        """Return the message of the exception that was first to blame; empty if none was seen."""
        text = self._file.read_text(errors="replace") if self._file.exists() else ""
        return next((reason.strip() for reason in _RAISED.findall(text) if not _HEARSAY.search(reason)), "")


def _logging_config(file: Path) -> dict[str, object]:
    from vllm.logger import DEFAULT_LOGGING_CONFIG

    config = deepcopy(DEFAULT_LOGGING_CONFIG)
    config["formatters"]["kotae"] = {"format": "%(message)s"}
    config["handlers"]["kotae"] = {"class": "logging.FileHandler", "filename": str(file), "level": "ERROR", "formatter": "kotae"}
    config["loggers"]["vllm"]["handlers"] = [*config["loggers"]["vllm"]["handlers"], "kotae"]
    return dict(config)
