"""vLLM as an engine: one ``AsyncLLM`` whose batch is shared by every row in flight. Spans vLLM 0.24 to 0.33."""

import asyncio
import dataclasses
import inspect
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

# Before vllm is imported: threads run here, so its processes must be spawned, not forked.
os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")

import torch
import vllm
from vllm import SamplingParams
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.lora.request import LoRARequest
from vllm.outputs import RequestOutput
from vllm.platforms import current_platform
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.metrics.loggers import StatLoggerBase

from workers.contract.errors import EngineDead, Failed, UserError
from workers.contract.messages import EngineName
from workers.settings import WorkerSettings

from .adapters import max_lora_rank
from .compile_cache import compiled_once
from .demo_model import DEMO
from .gpu_room import check_gpu_room
from .model_runner import VARIABLE, choose_model_runner
from .root_cause import ErrorLog
from .vllm_base import VLLMFamily, check_engine_args
from .vllm_messages import Loaded, Reply
from .vllm_requests import first_line, loaded, reply_of

#: AsyncLLM's silent defaults, 128 sequences and 2,048 batched tokens, cost 20-24 % on an H200.
_GPU_DEFAULTS: dict[str, Any] = {"max_num_seqs": 1024, "max_num_batched_tokens": 16384}
#: On a CPU compiling takes minutes and gains nothing that a try-out would notice; and vLLM up to 0.32 dies there of a seeded
#: row whose prompt it reads in two steps ("CPU Generator does not use offset"), so it must read every prompt in one.
_CPU_DEFAULTS: dict[str, Any] = {"max_num_seqs": 256, "enforce_eager": True, "enable_chunked_prefill": False}
#: The demo model can do 8,192; less makes it start sooner.
_DEMO_MAX_MODEL_LEN = 4096


class VLLMEngine(VLLMFamily):
    """Answers with a model that vLLM loads, on GPUs or on the CPU."""

    engine_name: EngineName = "vllm"
    kv_cache_usage = None  # among the metrics that AsyncLLM itself gives to Prometheus

    def __init__(self, settings: WorkerSettings) -> None:
        super().__init__(settings)
        self._args = self._engine_args()
        self.max_in_flight: int = self._args["max_num_seqs"]
        self.steps = self.waiting = 0

    def check(self) -> None:
        if self._engine.errored:
            raise EngineDead(first_line(self._engine.dead_error))

    async def close(self) -> None:
        await asyncio.to_thread(self._engine.shutdown)
        del self._engine  # its finalizer fails once Python itself shuts down

    async def _open(self) -> Loaded:
        self._engine = self._load()
        tokenizer: Any = self._engine.get_tokenizer()
        return loaded(await tokenizer if inspect.isawaitable(tokenizer) else tokenizer, self._engine.vllm_config)

    async def _load_adapter(self, name: str) -> None:
        await self._engine.add_lora(self._lora(name))

    async def _request(self, prompt: list[int], params: SamplingParams, request_id: str, adapter: str | None) -> Reply:
        lora = self._lora(adapter) if adapter is not None else None
        last: RequestOutput | None = None
        async for output in self._engine.generate({"prompt_token_ids": prompt}, params, request_id, lora_request=lora):
            last = output
        if last is None:
            raise Failed("the engine ended the row without an output")
        return reply_of(last)

    def _lora(self, name: str) -> LoRARequest:
        return LoRARequest(name, self._adapter_number(name), str(self._adapters[name]))

    def _load(self) -> AsyncLLM:
        if current_platform.is_cpu():
            _prepare_cpu()
        check_gpu_room(self._model, self._args, _default("gpu_memory_utilization"))
        choose_model_runner(self._model, self._args, _default("gpu_memory_utilization"))
        args = AsyncEngineArgs(**self._args)
        with ErrorLog() as log, _compiled_once(self._args):
            try:
                return AsyncLLM.from_engine_args(args, stat_loggers=[lambda *_: _Observer(self)])
            except (ValueError, OSError) as error:
                raise UserError(f"vLLM cannot load {self._settings.model}: {first_line(error)}") from error
            except RuntimeError as error:
                reason = log.reason() or first_line(error)
                if "out of memory" in reason:
                    reason += "; try --tensor-parallel-size, --quantization, or a smaller --engine-arg max_num_batched_tokens"
                raise EngineDead(f"vLLM cannot start with {self._settings.model}: {reason}") from error

    def _engine_args(self) -> dict[str, Any]:
        given = self._settings.engine_args
        known = {field.name for field in dataclasses.fields(AsyncEngineArgs)}
        if "model" in given:
            raise UserError("engine argument model: use --model")
        check_engine_args(given, known, f"vLLM {vllm.__version__}")
        args: dict[str, Any] = {"model": self._model, "seed": 0}
        args |= _cpu_defaults() if current_platform.is_cpu() else _GPU_DEFAULTS
        if self._settings.model == DEMO:
            args["max_model_len"] = _DEMO_MAX_MODEL_LEN
        if self._adapters:
            # vLLM's CPU code lets rows without an adapter use the last slot: one more than there are adapters stays empty.
            slots = len(self._adapters) + current_platform.is_cpu()
            args |= {"enable_lora": True, "max_loras": slots, "max_lora_rank": max_lora_rank(self._adapters)}
        return args | given


class _Observer(StatLoggerBase):  # type: ignore[misc]  # vLLM is not typed for us
    """Told by vLLM of every step of its engine core."""

    def __init__(self, engine: VLLMEngine) -> None:
        self._engine = engine

    def record(self, scheduler_stats: Any = None, *_: Any, **__: Any) -> None:
        self._engine.steps += 1
        if scheduler_stats is not None:
            self._engine.waiting = scheduler_stats.num_waiting_reqs

    def log_engine_initialized(self) -> None:
        pass


def _compiled_once(args: dict[str, Any]) -> AbstractContextManager[None]:
    if current_platform.is_cpu() or args.get("enforce_eager"):
        return nullcontext()
    runner = os.environ.get(VARIABLE)  # each compiles graphs of its own
    return compiled_once(Path(vllm.envs.VLLM_CACHE_ROOT), vllm.__version__, torch.__version__, runner, args)


def _default(name: str) -> Any:
    return next(field.default for field in dataclasses.fields(AsyncEngineArgs) if field.name == name)


def _cpu_defaults() -> dict[str, Any]:
    """Without bf16 instructions a bf16 model runs at a fifth of the speed of the same model in float32."""
    has_bf16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return _CPU_DEFAULTS | {"distributed_executor_backend": "uni"} | ({} if has_bf16 else {"dtype": "float32"})


def _prepare_cpu() -> None:
    """Set what vLLM reads from the environment when it runs on a CPU, where the user has not."""
    cores = len(os.sched_getaffinity(0))
    # One process for the engine and its only worker: each further one imports vLLM again, 13 s on a small machine.
    # vLLM keeps to "uni" only with this variable, which AsyncLLM otherwise ignores, and then leaves the threads to us.
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("OMP_NUM_THREADS", str(cores))
    # Gigabytes for the KV cache; vLLM would otherwise take a share of all memory.
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
