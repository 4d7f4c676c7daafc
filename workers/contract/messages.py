"""What travels between producer and worker: a Question out, an Answer back; frozen, JSON, unknown fields refused."""

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

#: The engines there are.
EngineName = Literal["vllm", "unsloth", "openai", "echo"]

#: Shown in Flower and in logs instead of a whole text.
_FIRST_WORDS = 48


class Message(BaseModel):
    """A frozen value that travels as JSON and refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def to_wire(self) -> dict[str, Any]:
        """Return the message as JSON types, without the fields that hold their default."""
        return self.model_dump(mode="json", exclude_defaults=True)


class Outcome(StrEnum):
    """What became of a row. Declared from best to worst: a row with several samples takes the best of theirs."""

    ANSWERED = "answered"
    #: The reply does not keep the format.
    MALFORMED = "malformed"
    #: The reply ran into ``max_tokens``; wins over malformed, whatever its text looks like.
    TRUNCATED = "truncated"
    #: The question is empty; nothing was asked.
    SKIPPED = "skipped"
    #: Can never work: prompt too long, unknown adapter.
    REJECTED = "rejected"
    TIMED_OUT = "timed_out"
    FAILED = "failed"
    CANCELLED = "cancelled"


#: Outcomes of rows that have no completion although they were asked.
UNANSWERED = frozenset({Outcome.REJECTED, Outcome.TIMED_OUT, Outcome.FAILED})


class ReplyFormat(StrEnum):
    """How a reply is read; ``replies.py`` knows the tags."""

    REASONING_ANSWER = "reasoning-answer"
    THINK = "think"
    PLAIN = "plain"


class BlankLines(StrEnum):
    """Whether a doubled line break in a reply becomes a single one before it is read."""

    COLLAPSE = "collapse"
    KEEP = "keep"


class ChatMessage(Message):
    """One turn of a conversation, as in OpenAI's and vLLM's chat API."""

    role: Literal["system", "user", "assistant"]
    content: str


class Sampling(Message):
    """How the engine samples; names, ranges and meanings are those of vLLM's ``SamplingParams``.

    In a run ``seed`` is the run's seed; in a Question it is the seed of that row.
    """

    temperature: Annotated[float, Field(ge=0, le=2)] = 0.5
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    top_k: Annotated[int, Field(ge=-1)] = 0  # 0 and -1: all tokens
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    max_tokens: Annotated[int, Field(ge=1)] = 2048
    min_tokens: Annotated[int, Field(ge=0)] = 0
    n: Annotated[int, Field(ge=1, le=1024)] = 1
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    ignore_eos: bool = False
    #: Hold every reply to this format by the engine's structured output.
    enforce_format: ReplyFormat | None = None

    @model_validator(mode="after")
    def _combinations_work(self) -> Self:
        if self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens {self.min_tokens} is more than max_tokens {self.max_tokens}; lower the one or raise the other")
        if self.n > 1 and self.temperature == 0:
            raise ValueError(f"{self.n} samples at temperature 0 would be {self.n} times the same reply; raise the temperature")
        return self


class Question(Message):
    """One row on its way to a worker."""

    run_id: str
    row: Annotated[int, Field(ge=0)]
    generation: Annotated[int, Field(ge=0)] = 0
    messages: tuple[ChatMessage, ...]
    sampling: Sampling = Sampling()
    adapter: str | None = None
    reply_format: ReplyFormat = ReplyFormat.REASONING_ANSWER
    blank_lines: BlankLines = BlankLines.COLLAPSE
    #: Seconds from the moment the engine takes the row.
    row_timeout: Annotated[float, Field(gt=0)] = 1800.0

    def __repr__(self) -> str:
        return f"run {self.run_id} row {self.row}: {first_words(self.messages[-1].content)}"


class Completion(Message):
    """One sampled reply: the raw text, and how it reads in the question's reply format."""

    text: str
    reasoning: str
    answer: str
    outcome: Outcome
    #: As the engine says it: ``stop``, ``length``, ...
    finish_reason: str
    output_tokens: int


class Answer(Message):
    """What became of one row; a failure is a value here, never an exception through Celery."""

    run_id: str
    row: int
    generation: int = 0
    outcome: Outcome
    completions: tuple[Completion, ...] = ()
    #: One line in plain words; None where there is a completion.
    error: str | None = None
    prompt_tokens: int | None = None
    worker: str = ""
    #: Fingerprint of the model that answered; its identity is kept under that name in Redis and in the run store.
    fingerprint: str = ""
    #: Seconds from the engine's taking the row to its reply.
    seconds: float = 0.0
    #: The row's share of the GPUs' time: each moment is shared evenly by the rows that the engine has then.
    gpu_seconds: float = 0.0

    def __json__(self) -> dict[str, Any]:
        """Encode for kombu, so that a task returns the value itself and Flower shows its short repr."""
        return self.to_wire()

    def __repr__(self) -> str:
        words = first_words(self.completions[0].answer) if self.completions else (self.error or "")
        return f"run {self.run_id} row {self.row} {self.outcome}: {words}"


class ModelIdentity(Message):
    """Which model answers: what a worker publishes of its engine, and what the sheet ``Run`` shows."""

    served_name: str
    engine: str
    engine_version: str
    model: str
    #: What the engine was given, as far as it was not left to its defaults.
    engine_args: dict[str, Any] = Field(default_factory=dict)
    #: The commit of a model from a hub.
    revision: str = ""
    #: Hash of the weights' files (see ``fingerprint.py``); empty for an engine without weights.
    weights: str = ""
    #: Adapter name -> hash of its files.
    adapters: dict[str, str] = Field(default_factory=dict)
    chat_template: str = ""
    dtype: str = ""
    quantization: str = ""
    max_model_len: int | None = None
    enforces_format: bool = False
    #: The first words of the reply to a fixed question, by the model alone and by it with each adapter.
    canary: str = ""
    adapter_canaries: dict[str, str] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)


class Presence(Message):
    """What a living worker says of itself every few seconds.

    It is read across contract versions, so fields that are not known are passed over, and a new one has a default.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    #: The contract version that it speaks, and the version of its Kotae.
    contract: int = 1
    kotae: str = ""
    worker: str
    #: The worker's name and what tells this process from an earlier one of that name; rows are claimed by it.
    incarnation: str
    served_name: str
    fingerprint: str
    host: str
    pid: int
    gpu: str
    in_flight: int
    max_in_flight: int
    #: Rows that its engine has, by run.
    runs: dict[str, int] = Field(default_factory=dict)
    #: Of the last half minute.
    rows_per_second: float = 0.0
    tokens_per_second: float = 0.0
    #: Seconds by which its clock is ahead of that of Redis.
    clock_skew: float = 0.0
    #: It was told to stop and takes no more rows.
    leaving: bool = False


def task_id(run_id: str, row: int, generation: int) -> str:
    """Name the task of one row: the same row of the same generation of a run always has the same name."""
    return f"{run_id}:{row}:{generation}"


def parse_task_id(name: str) -> tuple[str, int, int]:
    """Return run id, row and generation of a task's name."""
    run_id, row, generation = name.rsplit(":", 2)
    return run_id, int(row), int(generation)


def first_words(text: str) -> str:
    """Return the beginning of a text on one line, for people who look at many rows."""
    line = " ".join(text[: 4 * _FIRST_WORDS].split())
    return line if len(line) <= _FIRST_WORDS else line[: _FIRST_WORDS - 1] + "…"
