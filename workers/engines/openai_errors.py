"""What the exceptions of OpenAI's client mean: whose mistake it is, whether asking again helps, and when."""

import math
import time
from email.utils import parsedate_to_datetime
from typing import Any

import openai

from workers.contract.errors import EngineError, Failed, Rejected, UserError

#: What may go wrong with a request. ValueError: a reply that is no JSON.
TROUBLE = (openai.APIError, ValueError)
#: Statuses that pass although they are the client's by their number.
_PASSING = (408, 409, 425)
#: Characters of what an endpoint says that are repeated.
_MOST_SAID = 300


class NoReply(ValueError):
    """Raised for a reply that came well, and is none."""

    #: What it is the reply to, as the client knows it.
    request: Any = None


class GivenUp(NoReply):
    """Raised for a reply that the endpoint gave up before its end. It may have been written nearly in full, and is charged then."""


def wants_quiet(error: Exception) -> bool:
    """Say whether the endpoint has too many requests, which passes by itself; a quota that is used up does not."""
    return isinstance(error, openai.RateLimitError) and error.code != "insufficient_quota"


def passes(error: Exception) -> bool:
    """Say whether the same request may go well some time later."""
    status = _status(error)
    return status is None or status >= 500 or status in _PASSING


def retry_after(error: Exception) -> float | None:
    """Return after how many seconds the endpoint wants to be asked again; None if it does not say. By RFC 9110, or in milliseconds."""
    if not isinstance(error, openai.APIStatusError):
        return None
    headers = error.response.headers
    text, unit = (ms, 0.001) if (ms := headers.get("retry-after-ms")) else (headers.get("retry-after", ""), 1.0)
    try:
        seconds = float(text) * unit
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except ValueError:
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def said(error: Exception) -> str:
    """Return what the endpoint says, or why nothing came, on one line. Our key is not in it, should the endpoint have repeated it."""
    line = " ".join(_said(error).split())
    request = getattr(error, "request", None)
    key = request.headers.get("authorization", "").removeprefix("Bearer ") if request is not None else ""
    line = line.replace(key, "***") if key else line
    return line if len(line) <= _MOST_SAID else f"{line[:_MOST_SAID]}…"


def _said(error: Exception) -> str:
    if isinstance(error, openai.APIStatusError):
        body = error.body
        if isinstance(body, dict):
            text = str(body.get("message") or body.get("detail") or error.message)
        else:  # a page of HTML is nothing to repeat
            text = body if isinstance(body, str) and body and not body.lstrip().startswith("<") else error.message
        return f"{error.status_code}: {text}"
    if isinstance(error, openai.APITimeoutError):
        return "no reply in time"
    if isinstance(error, openai.APIConnectionError):
        return f"no connection ({str(error.__cause__ or error) or type(error.__cause__).__name__})"
    return str(error) if isinstance(error, NoReply) else f"its reply is no JSON ({type(error).__name__})"


def as_engine_error(error: Exception, host: str) -> EngineError:
    """Say what trouble that does not pass means for a row."""
    if isinstance(error, (openai.AuthenticationError, openai.PermissionDeniedError)):
        return Failed(f"{host} does not let us in ({said(error)})")
    if isinstance(error, openai.RateLimitError):
        return Failed(f"our quota at {host} is used up ({said(error)}); kotae retry asks these rows again once there is a new one")
    if isinstance(error, openai.APIStatusError) and error.code == "context_length_exceeded":
        return Rejected(f"the prompt is too long for the model at {host} ({said(error)})")
    return Rejected(f"{host} refuses the row ({said(error)})")


def at_start(error: Exception, base_url: str, model: str, has_key: bool) -> UserError:
    """Say what trouble with the first requests means: most of it is a setting that somebody can mend."""
    what = said(error)
    if isinstance(error, (openai.AuthenticationError, openai.PermissionDeniedError)):
        key = "it is refused: set the right key in" if has_key else "it wants a key: set"
        return UserError(f"{base_url} does not let us in, {key} OPENAI_API_KEY or OPENAI_API_KEY_FILE ({what})")
    if isinstance(error, openai.NotFoundError):
        return UserError(f"{base_url} has no model {model}, or is no OpenAI-compatible endpoint: is --base-url right up to /v1? ({what})")
    if isinstance(error, openai.RateLimitError):
        return UserError(f"{base_url} takes no request from us at the moment: look at its limits and at your quota ({what})")
    if isinstance(error, openai.APIConnectionError):
        return UserError(f"nobody answers at {base_url} ({what}): start the endpoint, or mend --base-url")
    if isinstance(error, openai.APIStatusError) and not passes(error):
        return UserError(
            f"{base_url} refuses a question to {model} ({what}): leave a field out with --engine-arg omit=temperature,top_p or name"
            " another --model"
        )
    return UserError(f"what answers at {base_url} does not answer as an OpenAI-compatible endpoint would ({what})")


def names_max_tokens(error: Exception) -> bool:
    """Say whether the endpoint wants ``max_completion_tokens`` instead, as OpenAI's own does of its reasoning models."""
    return isinstance(error, openai.BadRequestError) and error.param == "max_tokens" and error.code == "unsupported_parameter"


def _status(error: Exception) -> int | None:
    return error.status_code if isinstance(error, openai.APIStatusError) else None
