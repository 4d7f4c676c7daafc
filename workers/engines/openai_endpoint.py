"""What an endpoint says of itself: its models, and where it is vLLM its version, its longest prompt and how it counts tokens."""

import difflib
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import openai

from workers.contract.errors import UserError
from workers.contract.messages import ChatMessage

#: Seconds for each look.
_PATIENCE = 15.0
#: Most models that a message lists.
_MOST_LISTED = 8


class Endpoint:
    """One endpoint, looked at with the client that also asks the questions."""

    def __init__(self, client: openai.AsyncOpenAI, base_url: str) -> None:
        self._client, self._base_url = client.with_options(timeout=_PATIENCE), base_url
        self.is_vllm = False
        #: Of vLLM; empty elsewhere.
        self.version = ""
        self.max_model_len: int | None = None

    async def look(self, model: str, adapters: Sequence[str]) -> None:
        """See whether the models are there. An endpoint that does not list them is taken at its word when it is asked.

        Raises UserError if one is missing, and what the client raises if nobody answers or we are not let in.
        """
        try:
            cards = [card async for card in self._client.models.list()]
        except (openai.NotFoundError, openai.APIResponseValidationError, ValueError, AttributeError, TypeError):
            return  # none of OpenAI's, or one that does not list its models
        except openai.APIStatusError as error:
            if error.status_code in (401, 403, 429):
                raise
            return
        by_name = {card.id: card for card in cards if isinstance(getattr(card, "id", None), str)}
        for wanted in (model, *adapters):
            if by_name and wanted not in by_name:
                raise UserError(f"no model {wanted} at {self._base_url}; {_listed(wanted, list(by_name))}")
        card = by_name.get(model)
        self.is_vllm = getattr(card, "owned_by", "") == "vllm"
        length = getattr(card, "max_model_len", None)
        self.max_model_len = length if isinstance(length, int) and length > 0 else None
        if self.is_vllm:
            said = await self._at_root("GET", "/version")
            self.version = str(said.get("version", ""))

    async def count_tokens(self, model: str, messages: Sequence[ChatMessage]) -> int | None:
        """Return the tokens of a prompt as vLLM's own tokenizer and template make them; None where nobody tells."""
        if not self.is_vllm:
            return None
        said = await self._at_root("POST", "/tokenize", {"model": model, "messages": [message.model_dump() for message in messages]})
        counted = said.get("count")
        return counted if isinstance(counted, int) else None

    async def _at_root(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask what vLLM serves beside OpenAI's paths; empty if it does not."""
        parts = urlsplit(self._base_url)
        url = urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/").removesuffix("/v1") + path, "", ""))
        try:
            said = await (self._client.get(url, cast_to=object) if method == "GET" else self._client.post(url, cast_to=object, body=body))
        except (openai.APIError, ValueError):
            return {}
        return said if isinstance(said, dict) else {}


def _listed(wanted: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(wanted, names, n=3)
    if near:
        return f"did you mean {', '.join(near)}?"
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return f"it has: {', '.join(sorted(names)[:_MOST_LISTED])}{more}"
