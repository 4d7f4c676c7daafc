"""Conversations become token ids by the chat template of the model's own tokenizer; those that come together, together."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from workers.contract.errors import Rejected, UserError
from workers.contract.messages import ChatMessage

from .together import Together
from .vllm_requests import first_line

#: Conversations that are rendered at once at most: long ones must not keep the event loop for long.
_TOGETHER = 32
_HELLO = [{"role": "user", "content": "Hello"}]
#: Longer than the other one, which must not be filled up to its length.
_GREETING = [{"role": "user", "content": "Good evening to everybody who has come here tonight!"}]


class ChatTemplate:
    """The chat template of a tokenizer, used on one event loop. Raises UserError if ``model`` has none that works."""

    def __init__(self, tokenizer: Any, model: str) -> None:
        self._tokenizer = tokenizer
        try:
            #: Token ids of a short conversation, which tell one template from another.
            self.hello = tuple(self._apply(_HELLO))
        except Exception as error:
            raise UserError(f"{model} has no usable chat template: {first_line(error)}") from error
        self._rendering = Together(self._rendered, _TOGETHER if self._takes_several() else 1)

    def render(self, messages: Sequence[ChatMessage]) -> list[int]:
        """Return the prompt's token ids. Raises Rejected."""
        try:
            return list(self._apply(_dumped(messages)))
        except Exception as error:  # templates raise what they like, jinja2.TemplateError among it
            raise Rejected(f"the model's chat template refuses this conversation: {first_line(error)}") from error

    async def render_soon(self, messages: Sequence[ChatMessage]) -> list[int]:
        """Return the prompt's token ids, with whatever else waits by then. Raises Rejected.

        One call for several costs Python a fifth for each, and the tokenizer shares them out among the cores.
        """
        return await self._rendering.ask(messages)

    def _rendered(self, conversations: Sequence[Sequence[ChatMessage]]) -> Sequence[list[int] | Exception]:
        if len(conversations) > 1:
            with suppress(Exception):  # one of them is refused: which?
                prompts: list[list[int]] = self._apply([_dumped(messages) for messages in conversations])
                if len(prompts) == len(conversations):
                    return [list(prompt) for prompt in prompts]
        return [self._rendered_alone(messages) for messages in conversations]

    def _rendered_alone(self, messages: Sequence[ChatMessage]) -> list[int] | Exception:
        try:
            return self.render(messages)
        except Rejected as error:
            return error

    def _takes_several(self) -> bool:
        """Say whether several at once come out as one by one: some models bring a tokenizer that has its own way of rendering."""
        try:
            return [tuple(ids) for ids in self._apply([_HELLO, _GREETING])] == [self.hello, tuple(self._apply(_GREETING))]
        except Exception:
            return False

    def _apply(self, conversations: Any) -> Any:
        """Return the ids of one conversation, or those of each of several."""
        return self._tokenizer.apply_chat_template(conversations, tokenize=True, add_generation_prompt=True, return_dict=False)


def _dumped(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    return [message.model_dump() for message in messages]
