"""The engine's own count: an append-only file of every row an engine starts and ends, outside Redis and the run store.

A line is ``start|end request_id time``; a request id is ``run:row:generation:attempt``. Written with O_APPEND in one call
per line, so several engines may share a file.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from workers.contract.errors import UserError
from workers.contract.messages import ChatMessage, ModelIdentity, Sampling

from . import Engine, Generation


class LedgerEngine:
    """An engine that writes down what the engine inside it does."""

    def __init__(self, engine: Engine, path: Path) -> None:
        self._engine = engine
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise UserError(f"the ledger {path} cannot be written: {error.strerror}") from error
        self.max_in_flight = engine.max_in_flight

    @property
    def waiting(self) -> int:
        return self._engine.waiting

    @property
    def kv_cache_usage(self) -> float | None:
        return self._engine.kv_cache_usage

    @property
    def steps(self) -> int:
        """Count the steps of the engine inside."""
        return self._engine.steps

    def check(self) -> None:
        self._engine.check()

    async def start(self) -> ModelIdentity:
        return await self._engine.start()

    async def generate(self, request_id: str, messages: Sequence[ChatMessage], sampling: Sampling, adapter: str | None) -> Generation:
        self._write("start", request_id)
        generation = await self._engine.generate(request_id, messages, sampling, adapter)
        self._write("end", request_id)
        return generation

    async def close(self) -> None:
        await self._engine.close()
        os.close(self._file)

    def _write(self, event: str, request_id: str) -> None:
        os.write(self._file, f"{event} {request_id} {time.time():.6f}\n".encode())
