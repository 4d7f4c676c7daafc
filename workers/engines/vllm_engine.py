"""vLLM as an engine: one ``AsyncLLM`` whose batch is shared by every row in flight. Spans vLLM 0.24 to 0.33."""

import asyncio
import dataclasses
import difflib
import hashlib
import inspect
import json
import os
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

# Before vllm is imported: nobody is called home; and threads run here, so its processes must be spawned, not forked.
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")

import torch
import transformers
import vllm
from vllm import SamplingParams
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.lora.request import LoRARequest
from vllm.outputs import RequestOutput
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.metrics.loggers import StatLoggerBase

from workers.contract.errors import EngineDead, EngineError, Failed, Rejected, UserError
from workers.contract.fingerprint import fingerprint_folder
from workers.contract.messages import ChatMessage, ModelIdentity, Sampling
from workers.contract.replies import layout
from workers.settings import WorkerSettings

from . import Generation, Sample, canary
from .adapters import check_adapter, max_lora_rank
from .compile_cache import compiled_once
from .demo_model import DEMO, demo_model_path
from .gpu_room import check_gpu_room
from .root_cause import ErrorLog

#: AsyncLLM's silent defaults, 128 sequences and 2,048 batched tokens, cost 20-24 % on an H200.
_GPU_DEFAULTS: dict[str, Any] = {"max_num_seqs": 1024, "max_num_batched_tokens": 16384}
#: On a CPU compiling takes minutes and gains nothing that a try-out would notice; and vLLM up to 0.32 dies there of a seeded
#: row whose prompt it reads in two steps ("CPU Generator does not use offset"), so it must read every prompt in one.
_CPU_DEFAULTS: dict[str, Any] = {"max_num_seqs": 256, "enforce_eager": True, "enable_chunked_prefill": False}
#: The demo model can do 8,192; less makes it start sooner.
_DEMO_MAX_MODEL_LEN = 4096
#: An enforced reply must leave room for some words between its tags.
_MIN_FREE_TOKENS = 16
_HELLO = ({"role": "user", "content": "Hello"},)


class VLLMEngine:
    """Answers with a model that vLLM loads, on GPUs or on the CPU."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._model = _resolve_model(settings.model)
        self._adapters = _lora_requests(settings.adapters)
        self._args = self._engine_args()
        self.max_in_flight: int = self._args["max_num_seqs"]
        self.steps = self.waiting = 0

    def check(self) -> None:
        if self._engine.errored:
            raise EngineDead(_first_line(self._engine.dead_error))

    async def start(self) -> ModelIdentity:
        self._engine = self._load()
        tokenizer = self._engine.get_tokenizer()
        self._tokenizer: Any = await tokenizer if inspect.isawaitable(tokenizer) else tokenizer
        self._max_model_len: int = self._engine.vllm_config.model_config.max_model_len
        self._enforces_format = _can_bound_tokens()
        self._check_chat_template()
        base = [await self._read_canary(f"canary-{number}", None) for number in range(2)]
        heard = {name: await self._add_adapter(lora, base) for name, lora in self._adapters.items()}
        return await asyncio.to_thread(self._identity, base[0], heard)

    async def generate(self, request_id: str, messages: Sequence[ChatMessage], sampling: Sampling, adapter: str | None) -> Generation:
        if adapter is not None and adapter not in self._adapters:
            raise Rejected(f"no adapter {adapter!r} here; this worker has: {', '.join(self._adapters) or 'none'}")
        prompt = self.render(messages)
        room = self._max_model_len - len(prompt)
        if room <= 0:
            raise Rejected(f"the prompt has {len(prompt)} tokens; the model takes fewer than {self._max_model_len}")
        params = self._sampling_params(sampling, min(sampling.max_tokens, room))
        lora = self._adapters[adapter] if adapter is not None else None
        try:
            output = await self._last_output(prompt, params, request_id, lora)
        except Exception as error:
            raise _as_engine_error(error) from error
        return Generation(tuple(prompt), tuple(Sample(o.text, tuple(o.token_ids), str(o.finish_reason)) for o in output.outputs))

    async def close(self) -> None:
        await asyncio.to_thread(self._engine.shutdown)
        del self._engine  # its finalizer fails once Python itself shuts down

    def render(self, messages: Sequence[ChatMessage]) -> list[int]:
        """Return the prompt's token ids by the chat template of the model's own tokenizer. Raises Rejected."""
        try:
            return self._apply_chat_template([message.model_dump() for message in messages])
        except Exception as error:  # templates raise what they like, jinja2.TemplateError among it
            raise Rejected(f"the model's chat template refuses this conversation: {_first_line(error)}") from error

    def _apply_chat_template(self, conversation: Sequence[dict[str, str]]) -> list[int]:
        return list(self._tokenizer.apply_chat_template(conversation, tokenize=True, add_generation_prompt=True, return_dict=False))

    async def _add_adapter(self, lora: LoRARequest, base: Sequence[canary.Reading]) -> canary.Reading:
        """Load an adapter and see that it is heard. One that is bad would kill the engine if generate() were the first to get it."""
        try:
            await self._engine.add_lora(lora)
        except EngineDeadError:
            raise
        except Exception as error:
            raise UserError(f"adapter {lora.lora_name} cannot be loaded: {_first_line(error)}") from error
        reading = await self._read_canary(f"canary-{lora.lora_name}", lora)
        canary.check_is_heard(lora.lora_name, reading, base)
        return reading

    async def _read_canary(self, request_id: str, lora: LoRARequest | None) -> canary.Reading:
        params = SamplingParams(temperature=0, max_tokens=canary.TOKENS, prompt_logprobs=0, output_kind=RequestOutputKind.FINAL_ONLY)
        try:
            output = await self._last_output(self.render(canary.QUESTION), params, request_id, lora)
        except EngineDeadError as error:
            raise EngineDead(_first_line(error)) from error
        prompt_logprobs = tuple(next(iter(said.values())).logprob for said in output.prompt_logprobs or () if said)
        return canary.Reading(output.outputs[0].text, prompt_logprobs)

    async def _last_output(self, prompt: list[int], params: SamplingParams, request_id: str, lora: LoRARequest | None) -> RequestOutput:
        last: RequestOutput | None = None
        async for output in self._engine.generate({"prompt_token_ids": prompt}, params, request_id, lora_request=lora):
            last = output
        if last is None:
            raise Failed("the engine ended the row without an output")
        return last

    def _sampling_params(self, sampling: Sampling, max_tokens: int) -> SamplingParams:
        return SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            max_tokens=max_tokens,
            min_tokens=min(sampling.min_tokens, max_tokens),
            n=sampling.n,
            seed=None if sampling.temperature == 0 else sampling.seed,  # greedy needs none, and a generator per row costs time
            stop=list(sampling.stop),
            repetition_penalty=sampling.repetition_penalty,
            presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty,
            ignore_eos=sampling.ignore_eos,
            structured_outputs=self._structured_outputs(sampling, max_tokens),
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _structured_outputs(self, sampling: Sampling, max_tokens: int) -> StructuredOutputsParams | None:
        """Hold the reply to its format. Both parts are bounded in tokens, so that the tags always close within ``max_tokens``."""
        if sampling.enforce_format is None or (shape := layout(sampling.enforce_format)) is None:
            return None
        if not self._enforces_format:
            raise Rejected("this worker's vLLM cannot bound the parts of a reply: --enforce-format needs xgrammar 0.2.8 or newer")
        tags = "".join(shape)
        # At worst every byte of a tag is a token of its own; one more for the end of the reply.
        free = max_tokens - len(tags.encode()) - 1
        if free < _MIN_FREE_TOKENS:
            raise Rejected(f"--enforce-format leaves {max(free, 0)} of {max_tokens} tokens between the tags; raise --max-tokens")
        reasoning = free * 3 // 5
        excludes = ["</", *re.findall(r"<\w+>", tags)]  # a tag inside a part would end it, or begin another, for whoever reads the reply
        elements = [
            {"type": "const_string", "value": shape.opening},
            {"type": "any_text", "excludes": excludes, "max_tokens": reasoning},
            {"type": "const_string", "value": shape.between},
            {"type": "any_text", "excludes": excludes, "max_tokens": free - reasoning},
        ]
        if shape.closing:
            elements.append({"type": "const_string", "value": shape.closing})
        tag = {"type": "structural_tag", "format": {"type": "sequence", "elements": elements}}
        return StructuredOutputsParams(structural_tag=json.dumps(tag))

    def _adapter_folders(self) -> dict[str, Path]:
        return {name: Path(lora.lora_path) for name, lora in self._adapters.items()}

    def _load(self) -> AsyncLLM:
        if current_platform.is_cpu():
            _prepare_cpu()
        check_gpu_room(_gpus(), self._model, self._args, _default("gpu_memory_utilization"))
        args = AsyncEngineArgs(**self._args)
        with ErrorLog() as log, _compiled_once(self._args):
            try:
                return AsyncLLM.from_engine_args(args, stat_loggers=[lambda *_: _Observer(self)])
            except (ValueError, OSError) as error:
                raise UserError(f"vLLM cannot load {self._settings.model}: {_first_line(error)}") from error
            except RuntimeError as error:
                reason = log.reason() or _first_line(error)
                if "out of memory" in reason:
                    reason += "; try --tensor-parallel-size, --quantization, or a smaller --engine-arg max_num_batched_tokens"
                raise EngineDead(f"vLLM cannot start with {self._settings.model}: {reason}") from error

    def _engine_args(self) -> dict[str, Any]:
        given = self._settings.engine_args
        known = {field.name for field in dataclasses.fields(AsyncEngineArgs)}
        for key in given:
            if key == "model":
                raise UserError("engine argument model: use --model")
            if key not in known:
                near = difflib.get_close_matches(key, known, n=3)
                raise UserError(
                    f"engine argument {key}: vLLM {vllm.__version__} has none of this name"
                    + (f"; did you mean {', '.join(near)}?" if near else "")
                )
        args: dict[str, Any] = {"model": self._model, "seed": 0}
        args |= _cpu_defaults() if current_platform.is_cpu() else _GPU_DEFAULTS
        if self._settings.model == DEMO:
            args["max_model_len"] = _DEMO_MAX_MODEL_LEN
        if self._adapters:
            for name, folder in self._adapter_folders().items():
                check_adapter(name, folder, Path(self._model))
            # vLLM's CPU code lets rows without an adapter use the last slot: one more than there are adapters stays empty.
            slots = len(self._adapters) + current_platform.is_cpu()
            args |= {"enable_lora": True, "max_loras": slots, "max_lora_rank": max_lora_rank(self._adapter_folders())}
        args |= given
        if not isinstance(args["max_num_seqs"], int) or args["max_num_seqs"] < 1:
            raise UserError(f"engine argument max_num_seqs: {args['max_num_seqs']} is not a number of rows")
        return args

    def _check_chat_template(self) -> None:
        try:
            self._apply_chat_template(_HELLO)
        except Exception as error:
            raise UserError(f"{self._settings.model} has no usable chat template: {_first_line(error)}") from error

    def _identity(self, base: canary.Reading, adapters: dict[str, canary.Reading]) -> ModelIdentity:
        model = self._engine.vllm_config.model_config
        folder = _weights_folder(self._model, self._args.get("revision"))
        return ModelIdentity(
            served_name=self._settings.served_name,
            engine="vllm",
            engine_version=vllm.__version__,
            model=self._settings.model,
            engine_args={key: value for key, value in self._args.items() if key != "model"},
            revision="" if Path(self._model).is_dir() else folder.name,  # a hub's cache names its folders by commit
            weights=fingerprint_folder(folder),
            adapters={name: fingerprint_folder(folder) for name, folder in self._adapter_folders().items()},
            chat_template=hashlib.sha256(repr(self._apply_chat_template(_HELLO)).encode()).hexdigest()[:16],
            dtype=str(model.dtype).removeprefix("torch."),
            quantization=str(model.quantization or ""),
            max_model_len=self._max_model_len,
            enforces_format=self._enforces_format,
            canary=base.reply,
            adapter_canaries={name: reading.reply for name, reading in adapters.items()},
            versions={"torch": torch.__version__, "transformers": transformers.__version__, "device": str(current_platform.device_type)},
        )


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
    return compiled_once(Path(vllm.envs.VLLM_CACHE_ROOT), vllm.__version__, torch.__version__, args)


def _gpus() -> list[str]:
    return [gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]


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


def _as_engine_error(error: Exception) -> EngineError:
    """Say what an exception out of vLLM means for the row. The one place that knows its exceptions, old and new."""
    if isinstance(error, EngineError):
        return error
    if isinstance(error, EngineDeadError):
        return EngineDead(_first_line(error))
    client_error = getattr(getattr(vllm, "exceptions", None), "VLLMClientError", ValueError)
    if isinstance(error, (ValueError, client_error)):
        return Rejected(f"vLLM refuses the row: {_first_line(error)}")
    return Failed(f"{type(error).__name__}: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # pydantic's first line only counts its errors
    if len(lines) > 2 and "validation error" in lines[0]:
        return lines[2]
    return lines[0] if lines else type(error).__name__


def _can_bound_tokens() -> bool:
    try:
        from xgrammar.structural_tag import AnyTextFormat
    except ImportError:
        return False
    return "max_tokens" in AnyTextFormat.model_fields


def _resolve_model(model: str) -> str:
    if model == DEMO:
        model = str(demo_model_path())
    path = Path(model).expanduser()
    if path.is_dir():
        if not (path / "config.json").exists():
            raise UserError(f"{model} holds no model: there is no config.json in it")
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # everything is here; nothing is looked up elsewhere
        return str(path)
    if path.is_absolute() or model.startswith((".", "~")) or model.count("/") != 1:
        raise UserError(f"no model at {model}: give the folder of a model, or its name on a hub (organisation/name)")
    return model


def _weights_folder(model: str, revision: str | None) -> Path:
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(model, revision=revision, local_files_only=True))


def _lora_requests(adapters: dict[str, str]) -> dict[str, LoRARequest]:
    return {name: LoRARequest(name, number, str(Path(path).expanduser())) for number, (name, path) in enumerate(adapters.items(), start=1)}
