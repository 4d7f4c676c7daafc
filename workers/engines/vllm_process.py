"""A synchronous vLLM engine in a process of its own, for those that load no other.

Beside Celery's threads its steps would wait for Python's lock; docs/engines.md has what was measured with and without.
"""

import asyncio
import multiprocessing
import os
import signal
import socket
import threading
from contextlib import suppress
from typing import Any

from vllm import SamplingParams

from workers.contract.errors import EngineDead, EngineError, UserError

from .vllm_messages import Abort, Adapter, Loaded, Loader, Reply, Report, Request
from .vllm_server import serve

#: Seconds in which the process must end once nothing is asked of it any more.
_GRACE = 20.0


class EngineProcess:
    """The near side: hands requests over and gives each caller what comes back."""

    def __init__(self, load: Loader) -> None:
        #: Steps made; rows that wait for room in the batch; rows that are not done.
        self.steps = self.waiting = self.unfinished = 0
        #: Share of the room for keys and values that is taken, from 0 to 1.
        self.kv_cache_usage = 0.0
        #: Why the engine cannot go on; empty while it can.
        self.dead = ""
        # Futures belong to the loop of those who ask, and so does all that is heard.
        self._futures: dict[str, asyncio.Future[Reply | None]] = {}
        self._connection, far = multiprocessing.Pipe()
        spawning = multiprocessing.get_context("spawn")  # threads run here
        self._process = spawning.Process(target=serve, args=(far, load), name="vllm", daemon=True)
        self._far = far

    async def start(self) -> Loaded:
        """Load the engine. Raises UserError or EngineDead."""
        await asyncio.to_thread(self._process.start)
        self._far.close()  # the end of the process is then the end of what can be read
        loop = asyncio.get_running_loop()
        self._loaded: asyncio.Future[Loaded] = loop.create_future()
        threading.Thread(target=self._listen, args=(loop,), name="vllm-reports", daemon=True).start()
        return await self._loaded

    async def request(self, prompt: list[int], params: SamplingParams, request_id: str, adapter: str | None) -> Reply:
        """Have a prompt continued; cancelling the call aborts it. Raises an EngineError."""
        try:
            reply = await self._ask(request_id, Request(request_id, prompt, params, adapter))
        except asyncio.CancelledError:
            if self._futures.pop(request_id, None) is not None:
                self._send(Abort(request_id))
            raise
        assert reply is not None
        return reply

    async def load_adapter(self, name: str, number: int, folder: str) -> None:
        """Load a LoRA adapter. Raises an EngineError."""
        await self._ask(name, Adapter(name, number, folder))

    def close(self) -> None:
        """Give the engine back; rows that it still has are lost to their callers."""
        with suppress(OSError), socket.socket(fileno=os.dup(self._connection.fileno())) as ours:
            ours.shutdown(socket.SHUT_RDWR)  # to close it would not be seen at the other end, as long as our listener reads from it
        self._process.join(_GRACE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._connection.close()

    async def _ask(self, key: str, order: Request | Adapter) -> Reply | None:
        if self.dead or not self._send(order):
            raise EngineDead(self.dead or "its process has ended")
        self._futures[key] = asyncio.get_running_loop().create_future()
        return await self._futures[key]

    def _send(self, order: Request | Adapter | Abort) -> bool:
        try:
            self._connection.send(order)
        except (OSError, ValueError):  # its process has gone, or we are closing
            return False
        return True

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        reason = ""
        try:
            while True:
                loop.call_soon_threadsafe(self._hear, self._connection.recv())
        except (EOFError, OSError):
            self._process.join(1)
            reason = f"its process ended{_by(self._process.exitcode)}"
        except Exception as error:  # whoever waits must hear of it
            reason = f"what its process says cannot be read ({type(error).__name__}: {error})"
        with suppress(RuntimeError):  # the loop is closed: nobody is there to hear it
            loop.call_soon_threadsafe(self._die, EngineDead(reason))

    def _hear(self, said: Loaded | Report | UserError | EngineDead) -> None:
        match said:
            case Report(steps, waiting, unfinished, kv_cache_usage, results):
                self.steps, self.waiting, self.unfinished, self.kv_cache_usage = steps, waiting, unfinished, kv_cache_usage
                for key, result in results:
                    if (future := self._futures.pop(key, None)) is not None:
                        _settle(future, result)
            case Loaded():
                self._loaded.set_result(said)
            case UserError() | EngineDead():
                self._die(said)

    def _die(self, why: UserError | EngineDead) -> None:
        if self.dead:
            return
        self.dead = str(why)
        if not self._loaded.done():
            self._loaded.set_exception(why)
        while self._futures:
            _settle(self._futures.popitem()[1], EngineDead(self.dead))


def _settle(future: "asyncio.Future[Any]", result: Reply | EngineError | None) -> None:
    if future.done():  # whoever asked has given up
        return
    if isinstance(result, EngineError):
        future.set_exception(result)
    else:
        future.set_result(result)


def _by(exitcode: int | None) -> str:
    if exitcode is None:
        return ""
    return f" by {signal.Signals(-exitcode).name}" if exitcode < 0 else f" with exit code {exitcode}"
