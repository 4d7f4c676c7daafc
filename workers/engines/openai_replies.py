"""How the reply of an OpenAI-compatible endpoint reads. Pure.

An endpoint may send anything. What a reply cannot do without is refused; what merely tells of it, such as a count, is passed over where
it is not what it should be: the reply is paid for.
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BaseModel, Field, ValidationError, WrapValidator

from . import GIVEN_UP, Sample
from .openai_errors import GivenUp, NoReply

#: More tokens than this no model reads or writes.
_MOST_TOKENS = 10_000_000


class Reply(NamedTuple):
    """What a request came to."""

    samples: tuple[Sample, ...]
    prompt_tokens: int


def _or_none(value: Any, check: Callable[[Any], Any]) -> Any:
    try:
        return check(value)
    except ValidationError:
        return None


def _text(value: Any) -> str:
    """Return a text, or those among its parts; half a pair of surrogates, which cannot be sent on, becomes a question mark in a diamond."""
    if isinstance(value, list):
        return "".join(_text(part.get("text")) for part in value if isinstance(part, dict))
    return re.sub("[\ud800-\udfff]", "\ufffd", value) if isinstance(value, str) else ""


_Text = Annotated[Any, AfterValidator(_text)]
_Count = Annotated[int | None, Field(ge=0, le=_MOST_TOKENS), WrapValidator(_or_none)]


class _Message(BaseModel):
    content: _Text = ""
    refusal: _Text = ""
    #: What the endpoint gives apart from the reply: ``reasoning_content``, or ``reasoning`` as vLLM and others call it by now.
    reasoning_content: _Text = ""
    reasoning: _Text = ""


class _Choice(BaseModel):
    index: _Count = None
    message: _Message
    finish_reason: Annotated[str | None, WrapValidator(_or_none)] = None
    #: Of vLLM, if it was asked for them.
    token_ids: Annotated[list[int] | None, WrapValidator(_or_none)] = None


class _Usage(BaseModel):
    prompt_tokens: _Count = None
    completion_tokens: _Count = None


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: Annotated[_Usage | None, WrapValidator(_or_none)] = None


def reply_of(content: bytes) -> Reply:
    """Read a completion. Tokens are as the endpoint counts them, of its reasoning too. Raises NoReply; ValueError for what is no JSON."""
    body: Any = None
    try:
        body = json.loads(content)
        completion = _Completion.model_validate(body)
    except (ValidationError, RecursionError) as error:
        problem = body.get("error") if isinstance(body, dict) else None
        raise NoReply(f"a reply without choices{f': {problem}' if problem else ''}") from error
    if given_up := {str(choice.finish_reason) for choice in completion.choices} & GIVEN_UP:
        raise GivenUp(f"a reply that was given up before its end (finish reason {', '.join(sorted(given_up))})")
    choices = sorted(completion.choices, key=lambda choice: choice.index or 0)
    parts = [(one.message.reasoning_content or one.message.reasoning, one.message.content or one.message.refusal) for one in choices]
    counts = [len(choice.token_ids or ()) for choice in choices]
    usage = completion.usage or _Usage()
    if not all(counts):
        counts = _shared_out(usage.completion_tokens or 0, [len(reasoning) + len(text) for reasoning, text in parts])
    samples = tuple(
        Sample(text, tuple(range(count)), choice.finish_reason or "stop", reasoning)
        for choice, (reasoning, text), count in zip(choices, parts, counts, strict=True)
    )
    return Reply(samples, usage.prompt_tokens or 0)


def _shared_out(tokens: int, lengths: Sequence[int]) -> list[int]:
    """Share tokens out over texts by their lengths; the sum stays exact."""
    whole, shares, given = sum(lengths) or 1, [], 0
    for k in range(1, len(lengths) + 1):
        until = tokens if k == len(lengths) else tokens * sum(lengths[:k]) // whole
        shares.append(until - given)
        given = until
    return shares
