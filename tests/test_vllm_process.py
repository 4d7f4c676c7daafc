"""The process that owns a synchronous engine, when that engine fails. What it does while all is well is shown in test_engines.py."""

import asyncio
from collections.abc import Coroutine
from typing import Any, NamedTuple

import pytest

from tests.conftest import eventually
from workers.contract.errors import EngineDead, Rejected, UserError

# vLLM is imported here, which warns of itself.
pytestmark = pytest.mark.filterwarnings("ignore")


def on_a_failing_engine(asking: Any, model: str = "failing") -> Any:
    """Run a coroutine function on an engine in its own process, and end that."""
    from workers.engines.vllm_messages import Loader
    from workers.engines.vllm_process import EngineProcess

    async def run() -> Any:
        engine = EngineProcess(Loader("tests.sync_engine:load_failing", model, {}))
        try:
            await engine.start()
            return await asking(engine)
        finally:
            engine.close()

    return asyncio.run(run())


class Params(NamedTuple):
    """What of ``SamplingParams`` such an engine reads."""

    n: int = 1


def ask(engine: Any, request_id: str) -> Coroutine[Any, Any, Any]:
    """Ask for a continuation, whatever comes of it."""
    asked: Coroutine[Any, Any, Any] = engine.request([1, 2, 3], Params(), request_id, None)
    return asked


async def ask_three(engine: Any, first: str) -> tuple[list[Any], str]:
    """Ask for two at once, and for one after the engine's end."""
    both = await asyncio.gather(ask(engine, first), ask(engine, "b"), return_exceptions=True)
    await asyncio.to_thread(eventually, lambda: engine.dead)
    (late,) = await asyncio.gather(ask(engine, "c"), return_exceptions=True)
    return [*both, late], engine.dead


def test_a_step_that_fails_ends_all_rows_and_refuses_the_next() -> None:
    """A fault of CUDA leaves nothing that could be trusted; the worker around it ends, and its rows go to others."""
    failures, reason = on_a_failing_engine(lambda engine: ask_three(engine, "a"))

    assert [type(failure) for failure in failures] == [EngineDead] * 3
    assert reason == "RuntimeError: CUDA error: an illegal memory access"


def test_a_process_that_is_killed_ends_all_rows_too() -> None:
    """The kernel, out of memory, kills without a word."""
    failures, reason = on_a_failing_engine(lambda engine: ask_three(engine, "kill"))

    assert [type(failure) for failure in failures] == [EngineDead] * 3
    assert reason == "its process ended by SIGKILL"


def test_requests_that_are_refused_harm_no_other_and_the_process_ends_by_itself() -> None:
    """vLLM checks a prompt while it takes it in. Those beyond the places of the batch would wait for the first ones for ever; and a
    process that does not end when it is closed is killed after 20 s, for which a worker that was told to stop would wait.
    """

    async def asking(engine: Any) -> Any:
        (first,) = await asyncio.gather(ask(engine, "bad"), return_exceptions=True)
        others = await asyncio.gather(*(ask(engine, f"bad {number}") for number in range(11)), return_exceptions=True)
        return engine, [first, *others]

    engine, refused = on_a_failing_engine(asking)

    assert [type(one) for one in refused] == [Rejected] * 12
    assert "no such prompt" in str(refused[0])
    assert engine.unfinished == 0
    assert engine._process.exitcode == 0


def test_what_loading_fails_with_reaches_whoever_starts_it() -> None:
    """The loading runs in the process that will own the engine."""
    with pytest.raises(UserError, match="no such model"):
        on_a_failing_engine(None, model="none")


def test_a_model_that_cannot_be_told_of_is_no_hang() -> None:
    """A tokenizer comes with code of its own, which may fail in the process that is to use it."""
    with pytest.raises(EngineDead, match=r"cannot be read \(ValueError: invalid literal"):
        on_a_failing_engine(None, model="unreadable")
