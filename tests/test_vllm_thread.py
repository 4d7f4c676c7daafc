"""The thread that owns a synchronous engine, when that engine fails. What it does while all is well is shown in test_engines.py."""

import asyncio
from typing import Any

import pytest

from tests.conftest import eventually
from workers.contract.errors import EngineDead, UserError

# vLLM is imported here, which warns of itself.
pytestmark = pytest.mark.filterwarnings("ignore")


class FailingEngine:
    """Stands for a vLLM whose steps fail: with the real one that takes a fault of the hardware."""

    def __init__(self) -> None:
        self.rows: list[str] = []

    def has_unfinished_requests(self) -> bool:
        return bool(self.rows)

    def add_request(self, request_id: str, *_: Any, **__: Any) -> None:
        if request_id == "bad":
            raise ValueError("no such prompt")
        self.rows.append(request_id)

    def step(self) -> list[Any]:
        raise RuntimeError("CUDA error: an illegal memory access\nand a page of advice")


def ask(thread: Any, request_id: str) -> Any:
    """Ask for a continuation, whatever comes of it."""
    return thread.request([1, 2, 3], None, request_id, None)


def test_a_step_that_fails_ends_all_rows_and_refuses_the_next() -> None:
    """A fault of CUDA leaves nothing that could be trusted; the process around it ends, and its rows go to others."""
    from workers.engines.vllm_thread import EngineThread

    async def run() -> tuple[list[Any], Any]:
        thread: Any = EngineThread(FailingEngine)  # type: ignore[arg-type]
        await thread.start()
        both = await asyncio.gather(ask(thread, "a"), ask(thread, "b"), return_exceptions=True)
        late = (await asyncio.gather(ask(thread, "c"), return_exceptions=True))[0]
        eventually(lambda: thread.dead)
        thread.close()
        return [*both, late], thread.dead

    failures, reason = asyncio.run(run())

    assert [type(failure) for failure in failures] == [EngineDead] * 3
    assert reason == "RuntimeError: CUDA error: an illegal memory access"


def test_a_request_that_is_refused_harms_no_other() -> None:
    """vLLM checks a prompt while it takes it in."""
    from workers.engines.vllm_thread import EngineThread

    async def run() -> Any:
        thread: Any = EngineThread(FailingEngine)  # type: ignore[arg-type]
        await thread.start()
        (refused,) = await asyncio.gather(ask(thread, "bad"), return_exceptions=True)
        alive = await thread.call(lambda engine: engine.rows)
        return refused, alive

    refused, alive = asyncio.run(run())

    assert isinstance(refused, ValueError)
    assert alive == []


def test_what_loading_fails_with_reaches_whoever_starts_it() -> None:
    """The loading runs in the thread that will own the engine."""
    from workers.engines.vllm_thread import EngineThread

    def load() -> Any:
        raise UserError("no such model")

    with pytest.raises(UserError, match="no such model"):
        asyncio.run(EngineThread(load).start())
