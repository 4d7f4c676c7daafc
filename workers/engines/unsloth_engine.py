"""A model loaded by Unsloth: the reference program's own door, with its parameters, and hundreds of rows in one batch."""

import inspect
import os
from typing import Any

from workers.contract.errors import EngineDead, UserError
from workers.contract.messages import EngineName
from workers.settings import WorkerSettings

from .adapters import max_lora_rank
from .demo_model import cache_home

# Before Unsloth is imported: nobody is called home, and what it compiles goes where caches are.
os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(cache_home() / "kotae" / "unsloth"))

try:
    import unsloth  # first: it changes transformers, trl and vLLM while it is imported
except ImportError as error:
    raise UserError(f"the engine unsloth is not installed ({error}): pip install '.[unsloth]' beside vLLM 0.24") from error
except NotImplementedError as error:  # its own way to say that there is no GPU
    raise UserError(f"the engine unsloth needs a GPU: {error}") from error

import torch
from vllm.v1.engine.llm_engine import LLMEngine

from .gpu_room import check_gpu_room
from .vllm_base import check_engine_args
from .vllm_requests import first_line
from .vllm_sync import SyncVLLMEngine

#: As the reference program loads its model; and rows in the batch, which Unsloth would otherwise choose by the memory.
_DEFAULTS: dict[str, Any] = {
    "max_seq_length": 3584,
    "load_in_4bit": True,
    "max_lora_rank": 16,
    "gpu_memory_utilization": 0.8,
    "max_num_seqs": 512,
}
#: Ours to decide. The exact name: Unsloth otherwise loads another repository's weights for many names, after asking the network.
_FIXED: dict[str, Any] = {"fast_inference": True, "use_exact_model_name": True}


class UnslothEngine(SyncVLLMEngine):
    """Answers with a model that Unsloth loads; underneath runs vLLM, in this process."""

    engine_name: EngineName = "unsloth"

    def __init__(self, settings: WorkerSettings) -> None:
        super().__init__(settings)
        if not torch.cuda.is_available():
            raise UserError("the engine unsloth needs a GPU; on a CPU use --engine vllm")
        self._args = self._engine_args()
        self.max_in_flight = self._args["max_num_seqs"]

    def _engine_args(self) -> dict[str, Any]:
        given = self._settings.engine_args
        check_engine_args(given, _parameters(), f"Unsloth {unsloth.__version__}")
        rank = max(_DEFAULTS["max_lora_rank"], max_lora_rank(self._adapters))
        args = _DEFAULTS | {"max_loras": max(1, len(self._adapters)), "max_lora_rank": rank} | given
        if args["max_num_seqs"] == 256:
            args["max_num_seqs"] = 257  # Unsloth reads 256, its default, as "choose for me"
        return args

    def _load(self) -> LLMEngine:
        room = {"gpu_memory_utilization": self._args["gpu_memory_utilization"]}
        quantized = {"quantization": "bitsandbytes"} if self._args["load_in_4bit"] else {}
        check_gpu_room(self._model, room | quantized, 0.8)
        try:
            model, _ = unsloth.FastLanguageModel.from_pretrained(model_name=self._model, **_FIXED, **self._args)
        except (ValueError, OSError) as error:
            raise UserError(f"Unsloth cannot load {self._settings.model}: {first_line(error)}") from error
        except RuntimeError as error:
            raise EngineDead(f"Unsloth cannot start with {self._settings.model}: {first_line(error)}") from error
        llm = getattr(model, "vllm_engine", None)
        if llm is None:  # it says so in a printed line and goes on without
            raise UserError(f"Unsloth has no fast inference for {self._settings.model}; use --engine vllm")
        self._model_of_unsloth = model  # shares its weights with the engine
        engine: LLMEngine = llm.llm_engine
        self._args["max_num_seqs"] = self.max_in_flight = engine.vllm_config.scheduler_config.max_num_seqs
        return engine

    def _versions(self) -> dict[str, str]:
        return super()._versions() | {"unsloth": unsloth.__version__}


def _parameters() -> set[str]:
    """Return the names that loading takes: Unsloth drops others with a printed line."""
    from unsloth_zoo.vllm_utils import load_vllm

    functions = (unsloth.FastLanguageModel.from_pretrained, load_vllm)
    parameters = (one for function in functions for one in inspect.signature(function).parameters.values())
    names = {one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    return names - _FIXED.keys() - {"model_name", "config", "use_async", "use_engine", "return_args"}
