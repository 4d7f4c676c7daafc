"""An engine on vLLM's synchronous front, for those that load no other: it runs in a process of its own."""

import abc
import asyncio

from vllm import SamplingParams

from workers.contract.errors import EngineDead

from .vllm_base import VLLMFamily
from .vllm_messages import Loaded, Loader, Reply
from .vllm_process import EngineProcess


class SyncVLLMEngine(VLLMFamily):
    """Answers with vLLM's ``LLMEngine``. Who inherits it says how that is loaded."""

    @abc.abstractmethod
    def _loader(self) -> Loader:
        """Return what loads the model in the other process. Raises UserError."""

    async def _open(self) -> Loaded:
        self._process = EngineProcess(self._loader())
        loaded = await self._process.start()
        self.max_in_flight = loaded.max_num_seqs
        return loaded

    @property
    def steps(self) -> int:
        return self._process.steps

    @property
    def waiting(self) -> int:
        return self._process.waiting

    @property
    def kv_cache_usage(self) -> float:
        return self._process.kv_cache_usage

    @property
    def unfinished(self) -> int:
        return self._process.unfinished

    def check(self) -> None:
        if self._process.dead:
            raise EngineDead(self._process.dead)

    async def close(self) -> None:
        await asyncio.to_thread(self._process.close)

    async def _load_adapter(self, name: str) -> None:
        await self._process.load_adapter(name, self._adapter_number(name), str(self._adapters[name]))

    async def _request(self, prompt: list[int], params: SamplingParams, request_id: str, adapter: str | None) -> Reply:
        return await self._process.request(prompt, params, request_id, adapter)
