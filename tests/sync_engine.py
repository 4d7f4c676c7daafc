"""Unsloth's engine without Unsloth: the demo model in vLLM's own synchronous front, driven as Unsloth's is. For machines without a GPU."""

import os
from typing import Any

from workers.contract.errors import UserError
from workers.contract.messages import EngineName
from workers.engines.adapters import max_lora_rank
from workers.engines.vllm_messages import Loader
from workers.engines.vllm_sync import SyncVLLMEngine
from workers.settings import WorkerSettings


class DemoSyncEngine(SyncVLLMEngine):
    """Answers with a vLLM in a process of its own; all but the loading is what Unsloth's engine does."""

    engine_name: EngineName = "vllm"

    def __init__(self, settings: WorkerSettings) -> None:
        super().__init__(settings)
        lora = {"enable_lora": True, "max_loras": 4, "max_lora_rank": max_lora_rank(self._adapters)}
        self._args = lora | settings.engine_args
        self.max_in_flight = self._args["max_num_seqs"]

    def _loader(self) -> Loader:
        return Loader("tests.sync_engine:load", self._model, self._args)


def load(model: str, args: dict[str, Any]) -> Any:
    """Return vLLM's synchronous engine."""
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "2"}
    from vllm import LLM

    eager = {"enforce_eager": True, "enable_chunked_prefill": False, "distributed_executor_backend": "uni", "seed": 0}
    return LLM(model=model, **eager, **args).llm_engine


class FailingEngine:
    """Stands for a vLLM whose steps fail: with the real one that takes a fault of the hardware."""

    def __init__(self, tokenizer: Any = None) -> None:
        self.tokenizer = tokenizer
        self.rows: list[str] = []
        self.engine_core = self.scheduler = self.kv_cache_manager = self
        self.usage = 0.0
        self.vllm_config = self.model_config = self.scheduler_config = self
        self.max_model_len, self.dtype, self.quantization, self.max_num_seqs = 64, "float32", None, 4

    def get_tokenizer(self) -> Any:
        return self.tokenizer

    def try_get_generation_config(self) -> dict[str, Any]:
        return {}

    def has_unfinished_requests(self) -> bool:
        return bool(self.rows)

    def get_num_unfinished_requests(self) -> int:
        return len(self.rows)

    def get_request_counts(self) -> tuple[int, int]:
        return 0, len(self.rows)

    def add_request(self, request_id: str, *_: Any, **__: Any) -> None:
        if request_id.startswith("bad"):
            raise ValueError("no such prompt")
        self.rows.append(request_id)

    def step(self) -> list[Any]:
        if "kill" in self.rows:
            os.kill(os.getpid(), 9)
        raise RuntimeError("CUDA error: an illegal memory access\nand a page of advice")

    def shutdown(self) -> None:
        pass


def load_failing(model: str, args: dict[str, Any]) -> Any:
    """Return an engine that fails, or none at all."""
    if model == "none":
        raise UserError("no such model")
    return FailingEngine(_Unreadable() if model == "unreadable" else None)


class _Unreadable:
    """Can be sent to another process, and not be read there: a tokenizer may come with code of its own."""

    def __reduce__(self) -> Any:
        return int, ("no number",)
