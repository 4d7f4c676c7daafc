"""What only Unsloth itself can show; most of it needs a GPU: ``TEST_ENGINES=unsloth pytest -n0 tests/test_unsloth.py``."""

import asyncio
import importlib.util
from typing import Any

import pytest

from workers.contract.errors import UserError
from workers.contract.hardware import visible_gpus
from workers.engines import open_engine
from workers.settings import WorkerSettings

needs_unsloth = pytest.mark.skipif(
    not visible_gpus() or importlib.util.find_spec("unsloth") is None, reason="needs a GPU, and Unsloth beside vLLM 0.24"
)


@pytest.mark.skipif(bool(visible_gpus()), reason="is about machines without a GPU")
def test_without_a_gpu_it_is_said_in_one_line() -> None:
    """Neither a missing library nor a missing GPU is a traceback."""
    with pytest.raises(UserError, match=r"engine unsloth (is not installed|needs a GPU)") as error:
        open_engine(WorkerSettings(engine="unsloth", model="demo"))

    assert "\n" not in str(error.value)


@needs_unsloth
def test_loading_and_answering_ask_nobody_on_the_network(unsloth_engine: Any) -> None:
    """Unsloth counts its users and looks names up where it is not told otherwise."""
    _, _, asked = unsloth_engine

    assert asked() == []


@needs_unsloth
def test_the_identity_names_unsloth_and_what_it_loaded(unsloth_engine: Any) -> None:
    """What was run must be told later; rows in the batch are what the engine really has."""
    engine, identity, _ = unsloth_engine

    assert (identity.engine, identity.dtype, identity.quantization) == ("unsloth", "bfloat16", "")
    assert identity.versions["unsloth"]
    assert len(identity.weights) == 16
    assert engine.max_in_flight == identity.engine_args["max_num_seqs"] == 64


@needs_unsloth
@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"engine_args": {"max_num_seq": 3, "gpu_memory_utilization": 0.1}}, "did you mean max_num_seqs"),  # the fixture has its part
        ({"adapters": {"mine": "/nope"}}, "adapter mine: there is no folder /nope"),
        ({"model": "/nope"}, "no model at /nope"),
    ],
)
def test_what_cannot_be_loaded_is_said_before_loading(unsloth_engine: Any, settings: dict[str, Any], says: str) -> None:
    """Loading takes minutes; a typing error must not."""
    with pytest.raises(UserError, match=says):
        asyncio.run(open_engine(WorkerSettings(**{"engine": "unsloth", "model": "demo", **settings})).start())
