"""What the two sides of ``vllm_process`` tell each other: how to load a model, orders, reports."""

import pkgutil
from typing import TYPE_CHECKING, Any, NamedTuple

from workers.contract.errors import EngineError

from . import Sample

if TYPE_CHECKING:
    from vllm.v1.engine.llm_engine import LLMEngine


class Loader(NamedTuple):
    """What loads the model: it is imported in the process that is to own the engine, and not before."""

    #: ``package.module:function``, which returns an ``LLMEngine`` and raises UserError or EngineDead.
    function: str
    model: str
    #: Engine arguments.
    args: dict[str, Any]

    def __call__(self) -> "LLMEngine":
        engine: LLMEngine = pkgutil.resolve_name(self.function)(self.model, self.args)
        return engine


class Loaded(NamedTuple):
    """What is known of a model once it is loaded."""

    tokenizer: Any
    max_model_len: int
    dtype: str
    quantization: str
    #: Rows that share the batch at most.
    max_num_seqs: int
    #: What the model's ``generation_config.json`` says, or else its ``config.json``.
    generation_config: dict[str, Any]
    #: ``V1`` or ``V2``: the same seed gives other tokens in the other one.
    model_runner: str


class Reply(NamedTuple):
    """What came of a request."""

    samples: tuple[Sample, ...]
    #: Natural logarithms of the prompt's own tokens, where they were asked for.
    prompt_logprobs: tuple[float, ...]


class Request(NamedTuple):
    """Continue a prompt."""

    request_id: str
    prompt: list[int]
    #: ``SamplingParams``
    params: Any
    adapter: str | None


class Abort(NamedTuple):
    """Forget a request."""

    request_id: str


class Adapter(NamedTuple):
    """Load a LoRA adapter; ``number`` is vLLM's, from 1."""

    name: str
    number: int
    folder: str


class Report(NamedTuple):
    """What happened since the last one."""

    #: Steps made since the start.
    steps: int
    #: Requests that wait for room in the batch; all that are not done.
    waiting: int
    unfinished: int
    #: Share of the room for keys and values that is taken, from 0 to 1.
    kv_cache_usage: float
    #: By request, or adapter: what came of it.
    results: list[tuple[str, "Reply | EngineError | None"]]
