"""One thread that owns a synchronous vLLM engine: takes requests in, steps, hands results out. Many rows share its batch."""

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

from vllm import SamplingParams
from vllm.lora.request import LoRARequest
from vllm.outputs import RequestOutput
from vllm.v1.engine.llm_engine import LLMEngine

from workers.contract.errors import EngineDead

from .vllm_requests import first_line

T = TypeVar("T")


class _Order(NamedTuple):
    """Something to be done between two steps, by the thread that owns the engine."""

    do: Callable[[LLMEngine], None]
    #: Told if the engine is dead by then.
    future: "Future[Any]"


class EngineThread:
    """Drives an ``LLMEngine`` of this process; nobody else may touch that meanwhile, or answers go astray."""

    def __init__(self, load: Callable[[], LLMEngine]) -> None:
        #: Steps made; rows that wait for room in the batch.
        self.steps = self.waiting = 0
        #: Why the engine cannot go on; empty while it can.
        self.dead = ""
        self._load = load
        self._orders: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self._rows: dict[str, Future[RequestOutput]] = {}
        self._loaded: Future[LLMEngine] = Future()
        self._thread = threading.Thread(target=self._run, name="vllm-engine", daemon=True)

    async def start(self) -> LLMEngine:
        """Load the engine in its thread, and return it for a look. Raises what the loading raises."""
        self._thread.start()
        return await asyncio.wrap_future(self._loaded)

    async def request(self, prompt: list[int], params: SamplingParams, request_id: str, lora: LoRARequest | None) -> RequestOutput:
        """Have a prompt continued; cancelling the call aborts it. Raises what vLLM raises on taking it in, or EngineDead."""
        future: Future[RequestOutput] = Future()

        def add(engine: LLMEngine) -> None:
            if future.set_running_or_notify_cancel():
                engine.add_request(request_id, {"prompt_token_ids": prompt}, params, lora_request=lora)
                self._rows[request_id] = future

        self._order(add, future)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            self._order(lambda engine: self._abort(engine, request_id), Future())
            raise

    async def call(self, do: Callable[[LLMEngine], T]) -> T:
        """Have something done between two steps. Raises what it raises, or EngineDead."""
        future: Future[T] = Future()

        def carry_out(engine: LLMEngine) -> None:
            if future.set_running_or_notify_cancel():
                future.set_result(do(engine))

        self._order(carry_out, future)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Give the engine back; rows that it still has are lost to their callers."""
        self._orders.put(None)
        self._thread.join()

    def _order(self, do: Callable[[LLMEngine], None], future: "Future[Any]") -> None:
        self._orders.put(_Order(do, future))

    def _abort(self, engine: LLMEngine, request_id: str) -> None:
        if self._rows.pop(request_id, None) is not None:
            engine.abort_request([request_id])

    def _run(self) -> None:
        try:
            engine = self._load()
        except BaseException as error:
            self._loaded.set_exception(error)
            return
        self._loaded.set_result(engine)
        try:
            while self._carry_out_orders(engine):
                self._step(engine)
        except Exception as error:  # whatever a step fails with, no row of this batch can be trusted
            self._die(f"{type(error).__name__}: {first_line(error)}")
        else:
            engine.engine_core.shutdown()

    def _carry_out_orders(self, engine: LLMEngine) -> bool:
        """Do what was ordered since the last step, waiting for something if there is nothing else to do; False at the end."""
        idle = not engine.has_unfinished_requests()
        while True:
            try:
                order = self._orders.get(block=idle)
            except queue.Empty:
                return True
            if order is None:
                return False
            try:
                order.do(engine)
            except Exception as error:
                order.future.set_exception(error)
            idle = idle and not engine.has_unfinished_requests()

    def _step(self, engine: LLMEngine) -> None:
        for output in engine.step():
            if output.finished and (future := self._rows.pop(output.request_id, None)) is not None:
                future.set_result(output)
        self.steps += 1
        _, self.waiting = engine.engine_core.engine_core.scheduler.get_request_counts()

    def _die(self, reason: str) -> None:
        self.dead = reason
        for future in self._rows.values():
            future.set_exception(EngineDead(reason))
        self._rows.clear()
        while (order := self._orders.get()) is not None:
            if order.future.set_running_or_notify_cancel():
                order.future.set_exception(EngineDead(reason))
