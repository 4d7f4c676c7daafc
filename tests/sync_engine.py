"""Unsloth's engine without Unsloth: the demo model in vLLM's own synchronous front, driven as Unsloth's is. For machines without a GPU."""

import os

from vllm import LLM
from vllm.v1.engine.llm_engine import LLMEngine

from workers.contract.messages import EngineName
from workers.engines.adapters import max_lora_rank
from workers.engines.vllm_sync import SyncVLLMEngine
from workers.settings import WorkerSettings


class DemoSyncEngine(SyncVLLMEngine):
    """Answers with an in-process vLLM; all but the loading is what Unsloth's engine does."""

    engine_name: EngineName = "vllm"

    def __init__(self, settings: WorkerSettings) -> None:
        super().__init__(settings)
        self._args = dict(settings.engine_args)
        self.max_in_flight = self._args["max_num_seqs"]

    def _load(self) -> LLMEngine:
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
        lora = {"enable_lora": True, "max_loras": 4, "max_lora_rank": max_lora_rank(self._adapters)}
        eager = {"enforce_eager": True, "enable_chunked_prefill": False, "distributed_executor_backend": "uni", "seed": 0}
        return LLM(model=self._model, **eager, **lora, **self._args).llm_engine
