"""An engine on vLLM's synchronous front, for those that load no other: its batch is driven by a thread of ours."""

import abc
import asyncio

from vllm import SamplingParams
from vllm.lora.request import LoRARequest
from vllm.outputs import RequestOutput
from vllm.v1.engine.llm_engine import LLMEngine

from workers.contract.errors import EngineDead

from .vllm_base import Opened, VLLMFamily
from .vllm_thread import EngineThread


class SyncVLLMEngine(VLLMFamily):
    """Answers with an ``LLMEngine`` of this process. Who inherits it loads that."""

    @abc.abstractmethod
    def _load(self) -> LLMEngine:
        """Load the model, in the thread that will own it. Raises UserError or EngineDead."""

    async def _open(self) -> Opened:
        self._thread = EngineThread(self._load)
        engine = await self._thread.start()
        return Opened(engine.get_tokenizer(), engine.vllm_config)

    @property
    def steps(self) -> int:
        return self._thread.steps

    @property
    def waiting(self) -> int:
        return self._thread.waiting

    def check(self) -> None:
        if self._thread.dead:
            raise EngineDead(self._thread.dead)

    async def close(self) -> None:
        await asyncio.to_thread(self._thread.close)

    async def _load_adapter(self, lora: LoRARequest) -> None:
        await self._thread.call(lambda engine: engine.add_lora(lora))

    async def _request(self, prompt: list[int], params: SamplingParams, request_id: str, lora: LoRARequest | None) -> RequestOutput:
        return await self._thread.request(prompt, params, request_id, lora)
