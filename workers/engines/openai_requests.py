"""What an OpenAI-compatible endpoint is asked for a row. Pure: the client stays in ``openai_engine``."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from workers.contract.errors import Rejected, UserError
from workers.contract.messages import ChatMessage, Sampling

from .structural_tag import WELL_KNOWN_ENDS, structural_tag

#: Fields of Sampling that OpenAI's API has not, as vLLM calls them, with the values that change nothing.
_VLLM_ONLY = {"top_k": (0, -1), "min_p": (0.0,), "min_tokens": (0,), "repetition_penalty": (1.0,), "ignore_eos": (False,)}
#: Fields that every endpoint takes, sent only where they say something: some endpoints refuse what they do not know.
_IF_SET = {"presence_penalty": 0.0, "frequency_penalty": 0.0, "n": 1, "stop": ()}
#: Fields that ``omit`` may name.
_OMITTABLE = frozenset({"temperature", "top_p", "seed", "max_tokens"})


def _omittable(names: tuple[str, ...]) -> tuple[str, ...]:
    if unknown := sorted(set(names) - _OMITTABLE):
        raise ValueError(f"{', '.join(unknown)} cannot be left out (only {', '.join(sorted(_OMITTABLE))})")
    return names


class EndpointArgs(BaseModel):
    """The engine arguments of ``openai``."""

    model_config = ConfigDict(extra="forbid")

    #: Up to and without ``/chat/completions``; it nearly always ends in ``/v1``.
    base_url: str = ""
    #: Requests under way at most, as vLLM calls it.
    max_num_seqs: int = Field(default=128, ge=1)
    #: In any currency, per million tokens of prompts and of replies.
    price_in: float | None = Field(default=None, ge=0)
    price_out: float | None = Field(default=None, ge=0)
    #: Whether the endpoint takes vLLM's own fields (top_k, min_p, ...); by default whether it says that it is vLLM.
    vllm: bool | None = None
    #: Fields that the endpoint refuses; its own defaults hold then.
    omit: Annotated[tuple[str, ...], AfterValidator(_omittable)] = ()
    #: Sent with every request as it is: ``{"reasoning_effort": "high"}``.
    extra_body: dict[str, Any] = Field(default_factory=dict)


def endpoint_args(given: Mapping[str, Any]) -> EndpointArgs:
    """Read the engine arguments. Raises UserError."""
    omit = given.get("omit")
    try:
        args = EndpointArgs.model_validate({**given, **({"omit": omit.split(",")} if isinstance(omit, str) else {})})
    except ValidationError as error:
        first = error.errors()[0]
        known = ", ".join(EndpointArgs.model_fields)
        raise UserError(f"engine argument {'.'.join(map(str, first['loc']))}: {first['msg']} (openai knows {known})") from error
    if not args.base_url:
        raise UserError("name the endpoint with --base-url, such as https://host/v1 (the key goes into OPENAI_API_KEY)")
    host_of(args.base_url)
    return args


def host_of(base_url: str) -> str:
    """Return host and port of an endpoint. Raises UserError for what is no address of one, without showing what may be a secret."""
    try:
        parts = urlsplit(base_url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        fits = False
    if not fits:
        raise UserError("--base-url must be an address such as https://host/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UserError("--base-url must be an address without a key or password in it: put the key into OPENAI_API_KEY")
    return parts.netloc


def request_of(messages: Sequence[ChatMessage], sampling: Sampling, args: EndpointArgs, *, speaks_vllm: bool) -> dict[str, Any]:
    """Return the fields of a request, those that OpenAI has not under ``extra_body``. Raises Rejected for what cannot be asked here.

    vLLM is told every field: what is left out it would take from the model's ``generation_config.json``.
    """
    fields: dict[str, Any] = {"messages": [message.model_dump() for message in messages], "max_tokens": sampling.max_tokens}
    fields |= {"temperature": sampling.temperature, "top_p": sampling.top_p}
    if sampling.temperature > 0:
        fields["seed"] = sampling.seed
    fields |= {name: getattr(sampling, name) for name, idle in _IF_SET.items() if speaks_vllm or getattr(sampling, name) != idle}
    fields["stop"] = list(sampling.stop) or None
    extra: dict[str, Any] = {}
    for name, idle in _VLLM_ONLY.items():
        value = getattr(sampling, name)
        if speaks_vllm:
            extra[name] = value
        elif value not in idle:
            raise Rejected(f"this endpoint takes no {name}: leave it out, or say --engine-arg vllm=true if it does")
    if (
        sampling.enforce_format is not None
        and (tag := structural_tag(sampling.enforce_format, sampling.max_tokens, WELL_KNOWN_ENDS)) is not None
    ):
        extra |= {"structured_outputs": {"structural_tag": tag}, "skip_special_tokens": False}  # a tag may be one
    if speaks_vllm and sampling.n > 1:
        extra["return_token_ids"] = True  # the count of each sample; the usage has only that of all
    extra |= args.extra_body
    fields = {name: value for name, value in fields.items() if value is not None and name not in args.omit}
    return fields | ({"extra_body": extra} if extra else {})
