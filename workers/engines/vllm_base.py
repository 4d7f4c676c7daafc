"""What all engines on vLLM have in common, whichever way its batch is driven: prompts, rows, adapters, who the model is."""

import abc
import asyncio
import difflib
import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
import vllm
from vllm import SamplingParams
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind

from workers.contract.errors import EngineDead, Rejected, UserError
from workers.contract.fingerprint import fingerprint_folder
from workers.contract.messages import ChatMessage, EngineName, ModelIdentity, Sampling
from workers.settings import WorkerSettings

from . import Generation, canary
from .adapters import check_adapter
from .chat_template import ChatTemplate
from .demo_model import DEMO, demo_model_path
from .detokenizer import Detokenizer
from .vllm_messages import Loaded, Reply
from .vllm_requests import as_engine_error, can_enforce_formats, check_is_whole, ends_of, first_line, sampling_params


class VLLMFamily(abc.ABC):
    """An engine whose rows vLLM answers. Who inherits it says how the model is loaded, and how a request is made."""

    #: As settings and the sheet ``Run`` name it.
    engine_name: EngineName
    max_in_flight: int

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._model = _resolve_model(settings.model)
        self._adapters = {name: Path(folder).expanduser() for name, folder in settings.adapters.items()}
        for name, folder in self._adapters.items():
            check_adapter(name, folder, Path(self._model))
        #: What the engine is given.
        self._args: dict[str, Any] = {}

    @abc.abstractmethod
    async def _open(self) -> Loaded:
        """Load the model. Raises UserError or EngineDead."""

    @abc.abstractmethod
    async def _request(self, prompt: list[int], params: SamplingParams, request_id: str, adapter: str | None) -> Reply:
        """Have one request answered; cancelling the call aborts it. Raises what vLLM raises, or an EngineError."""

    @abc.abstractmethod
    async def _load_adapter(self, name: str) -> None:
        """Load an adapter. Raises what vLLM raises, or an EngineError."""

    async def start(self) -> ModelIdentity:
        self._loaded = await self._open()
        self._tokenizer, self._max_model_len = self._loaded.tokenizer, self._loaded.max_model_len
        self._ends = ends_of(self._tokenizer, self._loaded.generation_config)
        self.chat_template = ChatTemplate(self._tokenizer, self._settings.model)
        self._detokenizer = Detokenizer(self._tokenizer)
        base = [await self._read_canary(f"canary-{number}", None) for number in range(2)]
        heard = {name: await self._add_adapter(name, base) for name in self._adapters}
        return await asyncio.to_thread(self._identity, base[0], heard)

    async def generate(self, request_id: str, messages: Sequence[ChatMessage], sampling: Sampling, adapter: str | None) -> Generation:
        if adapter is not None and adapter not in self._adapters:
            raise Rejected(f"no adapter {adapter!r} here; this worker has: {', '.join(self._adapters) or 'none'}")
        prompt = await self.chat_template.render_soon(messages)
        room = self._max_model_len - len(prompt)
        if room <= 0:
            raise Rejected(f"the prompt has {len(prompt)} tokens; the model takes fewer than {self._max_model_len}")
        detokenize = not self._detokenizer.serves(sampling)
        params = sampling_params(sampling, min(sampling.max_tokens, room), self._ends, detokenize=detokenize)
        try:
            reply = await self._request(prompt, params, request_id, adapter)
        except Exception as error:
            raise as_engine_error(error) from error
        check_is_whole(reply)
        if detokenize:
            return Generation(tuple(prompt), reply.samples)
        return Generation(tuple(prompt), await self._detokenizer.read(reply.samples, skip_special_tokens=params.skip_special_tokens))

    async def _add_adapter(self, name: str, base: Sequence[canary.Reading]) -> canary.Reading:
        """Load an adapter and see that it is heard. One that is bad would kill the engine if generate() were the first to get it."""
        try:
            await self._load_adapter(name)
        except Exception as error:
            if isinstance(as_engine_error(error), EngineDead):
                raise EngineDead(first_line(error)) from error
            raise UserError(f"adapter {name} cannot be loaded: {first_line(error)}") from error
        reading = await self._read_canary(f"canary-{name}", name)
        canary.check_is_heard(name, reading, base)
        return reading

    async def _read_canary(self, request_id: str, adapter: str | None) -> canary.Reading:
        params = SamplingParams(temperature=0, max_tokens=canary.TOKENS, prompt_logprobs=0, output_kind=RequestOutputKind.FINAL_ONLY)
        try:
            async with asyncio.timeout(canary.PATIENCE):
                reply = await self._request(self.chat_template.render(canary.QUESTION), params, request_id, adapter)
        except TimeoutError as error:
            raise EngineDead(f"the canary was not answered within {canary.PATIENCE:g} s") from error
        except Exception as error:
            raise EngineDead(f"the canary was not answered: {first_line(error)}") from error
        return canary.Reading(reply.samples[0].text, reply.prompt_logprobs)

    def _adapter_number(self, name: str) -> int:
        """Return vLLM's number of an adapter, from 1."""
        return list(self._adapters).index(name) + 1

    def _identity(self, base: canary.Reading, adapters: dict[str, canary.Reading]) -> ModelIdentity:
        folder = _weights_folder(self._model, self._args.get("revision"))
        return ModelIdentity(
            served_name=self._settings.served_name,
            engine=self.engine_name,
            engine_version=vllm.__version__,
            model=self._settings.model,
            engine_args={key: value for key, value in self._args.items() if key != "model"},
            revision="" if Path(self._model).is_dir() else folder.name,  # a hub's cache names its folders by commit
            weights=fingerprint_folder(folder),
            adapters={name: fingerprint_folder(folder) for name, folder in self._adapters.items()},
            chat_template=hashlib.sha256(repr(list(self.chat_template.hello)).encode()).hexdigest()[:16],
            dtype=self._loaded.dtype,
            quantization=self._loaded.quantization,
            max_model_len=self._max_model_len,
            enforces_format=can_enforce_formats(),
            canary=base.reply,
            adapter_canaries={name: reading.reply for name, reading in adapters.items()},
            versions=self._versions(),
        )

    def _versions(self) -> dict[str, str]:
        libraries = {"torch": torch.__version__, "transformers": transformers.__version__}
        return libraries | {"device": str(current_platform.device_type), "model_runner": self._loaded.model_runner}


def check_engine_args(given: dict[str, Any], known: Collection[str], whose: str) -> None:
    """Raise UserError for an argument that the library ``whose`` has not, or a batch that is no number of rows."""
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=3)
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise UserError(f"engine argument {key}: {whose} has none of this name{hint}")
    rows, share = given.get("max_num_seqs", 1), given.get("gpu_memory_utilization", 1)
    if not isinstance(rows, int) or rows < 1:
        raise UserError(f"engine argument max_num_seqs: {rows} is not a number of rows")
    if not isinstance(share, (int, float)) or not 0 < share <= 1:
        raise UserError(f"engine argument gpu_memory_utilization: {share} is not a share of the memory, from 0 to 1")


def _resolve_model(model: str) -> str:
    if model == DEMO:
        model = str(demo_model_path())
    path = Path(model).expanduser()
    if path.is_dir():
        if not (path / "config.json").exists():
            raise UserError(f"{model} holds no model: there is no config.json in it")
        return str(path)
    if path.is_absolute() or model.startswith((".", "~")) or model.count("/") != 1:
        raise UserError(f"no model at {model}: give the folder of a model, or its name on a hub (organisation/name)")
    return model


def _weights_folder(model: str, revision: str | None) -> Path:
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(model, revision=revision, local_files_only=True))
