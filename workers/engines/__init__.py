"""The seam to the model: what an engine is, and the one door to each kind."""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, Protocol, assert_never

from workers.contract.errors import UserError
from workers.contract.messages import ChatMessage, ModelIdentity, Sampling
from workers.settings import WorkerSettings

from .demo_model import DEMO

# Before vllm is imported, by whatever comes first: nobody is called home.
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

#: Finish reasons that are no end of a reply: what runs the model gave it up, and what there is of it is no answer.
GIVEN_UP = frozenset({"abort", "error"})


class Sample(NamedTuple):
    """One sampled continuation of a prompt."""

    text: str
    #: Where an engine does not know them, other numbers, as many as there are tokens.
    token_ids: tuple[int, ...]
    #: ``stop``, ``length``, ... as vLLM and OpenAI name it.
    finish_reason: str
    #: What the model thought, where the engine gives it apart from the text.
    reasoning: str = ""


class Generation(NamedTuple):
    """What an engine made of one prompt."""

    prompt_token_ids: tuple[int, ...]
    samples: tuple[Sample, ...]


class Engine(Protocol):
    """Turns conversations into text, hundreds at a time. All methods run on one event loop."""

    #: How many rows at once fill the engine's batch.
    max_in_flight: int

    @property
    def steps(self) -> int:
        """Count up while the engine works: one that stands still although it has rows hangs. Read from other threads."""

    @property
    def waiting(self) -> int:
        """Return how many rows the engine has and has not begun, for want of room. Read from other threads."""

    @property
    def kv_cache_usage(self) -> float | None:
        """Return the share of the room for keys and values that is taken; None where there is none, or vLLM's own metrics tell it."""

    def check(self) -> None:
        """Raise EngineDead if the engine is gone. Called from other threads."""

    async def start(self) -> ModelIdentity:
        """Load the model and say which it is. Raises UserError where somebody can mend what is wrong."""

    async def generate(self, request_id: str, messages: Sequence[ChatMessage], sampling: Sampling, adapter: str | None) -> Generation:
        """Answer one conversation; cancelling the call aborts it in the engine.

        ``request_id`` is unique per attempt. Raises Rejected, Failed or EngineDead, and nothing else on purpose.
        """

    async def close(self) -> None:
        """Give the memory back; the engine is not used again."""


def open_engine(settings: WorkerSettings) -> Engine:
    """Return the engine that the settings name, not yet started; its heavy library is imported here and not before."""
    if settings.model == DEMO or Path(settings.model).expanduser().is_dir():
        # Everything is here, and nothing is looked up elsewhere. Before the import: the hub's library reads it only then.
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    match settings.engine:
        case "vllm":
            from .vllm_engine import VLLMEngine

            return VLLMEngine(settings)
        case "unsloth":
            from .unsloth_engine import UnslothEngine

            return UnslothEngine(settings)
        case "openai":
            if find_spec("openai") is None:
                raise UserError("--engine openai needs OpenAI's client: pip install 'kotae[openai]'")
            from .openai_engine import OpenAIEngine

            return OpenAIEngine(settings)
        case "echo":
            from .echo_engine import EchoEngine

            return EchoEngine(settings)
        case _:
            assert_never(settings.engine)
