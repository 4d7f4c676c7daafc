"""A model loaded by Unsloth: the reference program's own door, with its parameters, and hundreds of rows in one batch."""

import importlib.util
from importlib.metadata import version
from typing import Any

from vllm.platforms import current_platform

from workers.contract.errors import UserError
from workers.contract.messages import EngineName
from workers.settings import WorkerSettings

from .adapters import max_lora_rank
from .gpu_room import check_gpu_room
from .vllm_messages import Loader
from .vllm_sync import SyncVLLMEngine

#: As the reference program loads its model; and rows in the batch, which Unsloth would otherwise choose by the memory.
_DEFAULTS: dict[str, Any] = {
    "max_seq_length": 3584,
    "load_in_4bit": True,
    "max_lora_rank": 16,
    "gpu_memory_utilization": 0.8,
    "max_num_seqs": 512,
}


class UnslothEngine(SyncVLLMEngine):
    """Answers with a model that Unsloth loads; underneath runs vLLM."""

    engine_name: EngineName = "unsloth"

    def __init__(self, settings: WorkerSettings) -> None:
        if importlib.util.find_spec("unsloth") is None:
            raise UserError("the engine unsloth is not installed: pip install '.[unsloth]' beside vLLM 0.24")
        if not current_platform.is_cuda_alike():
            raise UserError("the engine unsloth needs a GPU; on a CPU use --engine vllm")
        super().__init__(settings)
        self._args = self._engine_args()
        self.max_in_flight = self._args["max_num_seqs"]

    def _engine_args(self) -> dict[str, Any]:
        given = self._settings.engine_args
        rank = max(_DEFAULTS["max_lora_rank"], max_lora_rank(self._adapters))
        args = _DEFAULTS | {"max_loras": max(1, len(self._adapters)), "max_lora_rank": rank} | given
        if args["max_num_seqs"] == 256:
            args["max_num_seqs"] = 257  # Unsloth reads 256, its default, as "choose for me"
        return args

    def _loader(self) -> Loader:
        room = {"gpu_memory_utilization": self._args["gpu_memory_utilization"]}
        quantized = {"quantization": "bitsandbytes"} if self._args["load_in_4bit"] else {}
        check_gpu_room(self._model, room | quantized, 0.8)
        return Loader("workers.engines.unsloth_model:load", self._model, self._args)

    def _versions(self) -> dict[str, str]:
        return super()._versions() | {"unsloth": version("unsloth")}
