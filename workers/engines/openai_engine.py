"""Any OpenAI-compatible endpoint as an engine: an API, or a ``vllm serve`` elsewhere; the model to compare with.

Replies are not streamed: one is whole, or it is asked for again. To cancel a row closes its connection, at which vLLM aborts it.
"""

import asyncio
import time
from collections.abc import Sequence
from itertools import count

import openai

from workers.contract.errors import EngineError, Rejected, UserError
from workers.contract.messages import ChatMessage, ModelIdentity, ReplyFormat, Sampling
from workers.contract.replies import read_reply
from workers.settings import WorkerSettings

from . import Generation, Sample, canary
from .openai_endpoint import Endpoint
from .openai_errors import TROUBLE, NoReply, at_start, names_max_tokens, passes, retry_after, wants_quiet
from .openai_patience import DELAYS, Patience
from .openai_replies import Reply, reply_of
from .openai_requests import endpoint_args, host_of, request_of

#: How often the first question is asked again, and seconds for each time: a large model that is far away takes long.
_START_TRIES, _START_SECONDS = 4, 120.0
#: Tokens of the canary where an endpoint may spend the first ones on reasoning that it does not show.
_CANARY_TOKENS = 64


class OpenAIEngine:
    """Answers with a model behind an endpoint. An adapter is a model of its own there, as in ``vllm serve --lora-modules``."""

    kv_cache_usage = None

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._args = endpoint_args(settings.engine_args)
        self._host = host_of(self._args.base_url)
        self._key = settings.openai_key()
        self._adapters = settings.adapters
        self.max_in_flight = self._args.max_num_seqs
        self._patience = Patience(self._host, self._args.max_num_seqs)
        self._max_tokens = "max_tokens"
        self._enforces = False
        self._numbers = count()

    @property
    def steps(self) -> int:
        """Count milliseconds: how far an endpoint is with a reply, nobody knows."""
        return time.monotonic_ns() // 1_000_000

    @property
    def waiting(self) -> int:
        return self._patience.waiting

    def check(self) -> None:
        pass  # an endpoint that is away may come back: each row waits for that within its own time

    async def start(self) -> ModelIdentity:
        timeout = openai.Timeout(None, connect=10.0)  # --row-timeout bounds a reply
        self._client = openai.AsyncOpenAI(
            api_key=self._key or "none", base_url=self._args.base_url.rstrip("/"), max_retries=0, timeout=timeout
        )
        try:
            return await self._look_around()
        except BaseException as error:
            await self._client.close()
            if isinstance(error, EngineError):
                raise UserError(str(error)) from error
            raise

    async def generate(self, request_id: str, messages: Sequence[ChatMessage], sampling: Sampling, adapter: str | None) -> Generation:
        if adapter is not None and adapter not in self._adapters:
            raise Rejected(f"no adapter {adapter!r} here; this worker has: {', '.join(self._adapters) or 'none'}")
        if sampling.enforce_format is not None and not self._enforces:
            raise Rejected(f"{self._host} cannot hold replies to a format: leave --enforce-format out")
        model = self._adapters[adapter] if adapter is not None else self._settings.model
        samples: list[Sample] = []
        prompt_tokens = 0
        while len(samples) < sampling.n:  # some endpoints give one reply however many are asked for
            rest = {"n": sampling.n - len(samples), "seed": (sampling.seed + len(samples)) % 2**63}
            reply = await self._ask(request_id, model, messages, sampling.model_copy(update=rest))
            samples += reply.samples[: rest["n"]]
            prompt_tokens = prompt_tokens or reply.prompt_tokens
        return Generation(tuple(range(prompt_tokens)), tuple(samples))

    async def close(self) -> None:
        await self._client.close()

    async def _ask(self, request_id: str, model: str, messages: Sequence[ChatMessage], sampling: Sampling) -> Reply:
        """Ask one question, for as many tokens as the prompt leaves room for: some vLLMs refuse more, others cut it silently."""
        room = await self._room(model, messages) if sampling.enforce_format is not None else None  # its tags must close in time
        asked = _bounded(sampling, room)
        try:
            return await self._patience.persist(lambda: self._post(request_id, model, messages, asked))
        except Rejected:
            room = await self._room(model, messages)
            if room is None or room >= asked.max_tokens:
                raise
        return await self._patience.persist(lambda: self._post(request_id, model, messages, _bounded(sampling, room)))

    async def _room(self, model: str, messages: Sequence[ChatMessage]) -> int | None:
        """Return the tokens that a prompt leaves for a reply; None where nobody tells. Raises Rejected if there are none."""
        if self._endpoint.max_model_len is None or (prompt := await self._endpoint.count_tokens(model, messages)) is None:
            return None
        if prompt >= self._endpoint.max_model_len:
            raise Rejected(f"the prompt has {prompt} tokens; the model takes fewer than {self._endpoint.max_model_len}")
        return self._endpoint.max_model_len - prompt

    async def _post(self, request_id: str, model: str, messages: Sequence[ChatMessage], sampling: Sampling) -> Reply:
        """Make one request. Raises what the client raises, or NoReply."""
        request = request_of(messages, sampling, self._args, speaks_vllm=self._speaks_vllm)
        if "max_tokens" in request:
            request[self._max_tokens] = request.pop("max_tokens")
        # vLLM logs a row under this name, and wants one of its own for each time that it is asked
        headers = {"X-Request-Id": f"{request_id}-{next(self._numbers)}"}
        response = await self._client.chat.completions.with_raw_response.create(model=model, extra_headers=headers, **request)
        try:
            return reply_of(response.http_response.content)
        except NoReply as error:
            error.request = response.http_request
            raise

    async def _look_around(self) -> ModelIdentity:
        """Find out what answers, and whether it does. Raises UserError."""
        self._endpoint = Endpoint(self._client, self._args.base_url)
        try:
            await self._endpoint.look(self._settings.model, list(self._adapters.values()))
        except TROUBLE as error:
            raise self._start_error(error) from error
        self._speaks_vllm = self._endpoint.is_vllm if self._args.vllm is None else self._args.vllm
        base = await self._read_canary(self._settings.model)
        heard = {name: await self._read_canary(model) for name, model in self._adapters.items()}
        self._enforces = await self._can_enforce() if self._speaks_vllm else False
        return ModelIdentity(
            served_name=self._settings.served_name,
            engine="openai",
            engine_version=self._endpoint.version,
            model=f"{self._settings.model}@{self._host}",
            engine_args=self._settings.engine_args,
            adapters=dict(self._adapters),
            max_model_len=self._endpoint.max_model_len,
            enforces_format=self._enforces,
            canary=base,
            adapter_canaries=heard,
            versions={"openai": openai.__version__},
        )

    async def _read_canary(self, model: str) -> str:
        """Return the first words of the reply to the fixed question; where fields may be refused, with all that rows send by default."""
        sampling = Sampling(temperature=0, max_tokens=canary.TOKENS) if self._speaks_vllm else Sampling(max_tokens=_CANARY_TOKENS)
        for tries in count():
            try:
                async with asyncio.timeout(_START_SECONDS):
                    reply = await self._post("canary", model, canary.QUESTION, sampling)
                return reply.samples[0].text[:80]
            except TROUBLE as error:
                if names_max_tokens(error) and self._max_tokens == "max_tokens":
                    self._max_tokens = "max_completion_tokens"
                elif tries >= _START_TRIES or isinstance(error, openai.APIConnectionError) or not (wants_quiet(error) or passes(error)):
                    raise self._start_error(error) from error
                else:
                    await asyncio.sleep(min(retry_after(error) or DELAYS[0] * 2**tries, DELAYS[1]))
            except TimeoutError as error:
                raise UserError(f"{self._args.base_url} gave no reply to a first question within {_START_SECONDS:g} s") from error
        raise AssertionError("counting never ends")

    async def _can_enforce(self) -> bool:
        """Try whether the vLLM there can bound the parts of a reply, which its xgrammar decides."""
        held = Sampling(temperature=0, max_tokens=96, enforce_format=ReplyFormat.REASONING_ANSWER)
        try:
            async with asyncio.timeout(_START_SECONDS):
                reply = await self._post("canary", self._settings.model, canary.QUESTION, held)
        except (*TROUBLE, TimeoutError):
            return False
        text = reply.samples[0].text
        return text.endswith("</answer>\n") and read_reply(text).reasoning != "UNKNOWN"

    def _start_error(self, error: Exception) -> UserError:
        return at_start(error, self._args.base_url, self._settings.model, bool(self._key))


def _bounded(sampling: Sampling, room: int | None) -> Sampling:
    most = sampling.max_tokens if room is None else min(sampling.max_tokens, room)
    return sampling.model_copy(update={"max_tokens": most, "min_tokens": min(sampling.min_tokens, most)})
