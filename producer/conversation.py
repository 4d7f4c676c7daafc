"""Several turns in one cell: a JSON list of ``{"role": ..., "content": ...}``, as OpenAI's chat API takes them."""

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from workers.contract.messages import ChatMessage

from .sampling import in_words

_MESSAGES = TypeAdapter(tuple[ChatMessage, ...])
#: What pydantic says in the words of Python, by its type of error.
_WORDS = {
    "tuple_type": "it must be a list",
    "model_type": "must be an object",
    "missing": "is missing",
    "extra_forbidden": "is not known",
    "string_type": "must be a text",
}


def read_conversation(text: str) -> tuple[ChatMessage, ...]:
    """Return the messages of a cell, the user's last. Raises ValueError that says, as the rest of a sentence, what is wrong with it."""
    try:
        turns = _MESSAGES.validate_json(text)
    except ValidationError as error:
        raise ValueError(f"is no list of messages: {_said(error.errors()[0])}") from error
    if not turns:
        raise ValueError("holds no message; leave the cell empty, or write at least one of the user")
    if turns[-1].role != "user":
        raise ValueError(f"ends with a message of the {turns[-1].role}; the last one must be the user's, for the model to answer")
    return turns


def _said(error: ErrorDetails) -> str:
    words = _WORDS.get(error["type"], in_words(error))
    match error["loc"]:
        case (int(number), field):
            return f"'{field}' of message {number + 1} {words}"
        case (int(number),):
            return f"message {number + 1} {words}"
        case _:
            return words
