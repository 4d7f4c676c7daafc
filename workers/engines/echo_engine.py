"""The engine without a model: answers with the question's own text after a delay; for load and fault tests."""

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workers.contract.errors import EngineDead, Rejected, UserError
from workers.contract.messages import ChatMessage, ModelIdentity, Sampling
from workers.settings import WorkerSettings

from . import Generation, Sample


class EchoArgs(BaseModel):
    """The engine arguments of ``echo``."""

    model_config = ConfigDict(extra="forbid")

    #: Seconds a row takes, and how far a row may be from that, evenly spread.
    delay: float = Field(default=0.0, ge=0)
    delay_spread: float = Field(default=0.0, ge=0)
    #: Rows at once, as in vLLM.
    max_num_seqs: int = Field(default=256, ge=1)
    #: Give as the reasoning what arrived, as JSON: messages, sampling.
    tell: bool = False
    #: Faults: a question that holds this text makes the engine die, the whole process crash, or the engine hang.
    die: str = ""
    crash: str = ""
    hang: str = ""


class EchoEngine:
    """Answers ``<answer>`` with the last message's text. A token is one word here."""

    kv_cache_usage = None

    def __init__(self, settings: WorkerSettings) -> None:
        try:
            self._args = EchoArgs.model_validate(settings.engine_args)
        except ValidationError as error:
            first = error.errors()[0]
            known = ", ".join(EchoArgs.model_fields)
            raise UserError(f"engine argument {'.'.join(map(str, first['loc']))}: {first['msg']} (echo knows {known})") from error
        self._settings = settings
        self.max_in_flight = self._args.max_num_seqs
        self._places = asyncio.Semaphore(self._args.max_num_seqs)
        self.waiting = 0
        self._running = self._last_step = 0
        self._dead = self._hangs = False

    @property
    def steps(self) -> int:
        """Count milliseconds in which rows run: without a model there is nothing else to count."""
        if self._running and not self._hangs:
            self._last_step = time.monotonic_ns() // 1_000_000
        return self._last_step

    def check(self) -> None:
        if self._dead:
            raise EngineDead("the echo engine died, as it was told")

    async def start(self) -> ModelIdentity:
        return ModelIdentity(
            served_name=self._settings.served_name, engine="echo", engine_version="1", model="echo", engine_args=self._settings.engine_args
        )

    async def generate(self, request_id: str, messages: Sequence[ChatMessage], sampling: Sampling, adapter: str | None) -> Generation:
        if adapter is not None:
            raise Rejected(f"no adapter {adapter!r} here: the echo engine has none")
        if sampling.enforce_format is not None:
            raise Rejected("the echo engine cannot enforce a reply format")
        question = messages[-1].content
        await self._take_time()
        self._fail_as_told(question)
        self.check()
        while self._hangs:
            await asyncio.sleep(1)
        reasoning = _as_json(messages, sampling) if self._args.tell else request_id
        text = f"<reasoning>\n{reasoning}\n</reasoning>\n<answer>\n{question}\n</answer>\n"
        words = tuple(range(len(question.split())))
        return Generation(words, (Sample(text, words, "stop"),) * sampling.n)

    async def close(self) -> None:
        pass

    async def _take_time(self) -> None:
        spread = self._args.delay_spread
        self.waiting += 1
        try:
            await self._places.acquire()
        finally:
            self.waiting -= 1
        self._running += 1
        try:
            await asyncio.sleep(max(0.0, self._args.delay + random.uniform(-spread, spread)))
        finally:
            self._running -= 1
            self._places.release()

    def _fail_as_told(self, question: str) -> None:
        if self._args.crash and self._args.crash in question:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._args.hang and self._args.hang in question:
            self._hangs = True
        self._dead = self._dead or bool(self._args.die and self._args.die in question)


def _as_json(messages: Sequence[ChatMessage], sampling: Sampling) -> str:
    arrived = {"messages": [message.model_dump() for message in messages], "sampling": sampling.model_dump(mode="json")}
    return json.dumps(arrived, ensure_ascii=False).replace("<", "\\u003c")  # a tag in a message is none of the reply
