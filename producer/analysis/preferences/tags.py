"""A reply as a model is to write it: its raw text, or its parts between the tags of the format again."""

from producer.analysis.replies import Reply
from workers.contract.messages import Outcome, ReplyFormat
from workers.contract.replies import layout

_THINK, _THOUGHT = "<think>", "</think>"


def in_tags(reply: Reply, own: ReplyFormat, wanted: ReplyFormat) -> str | None:
    """Return a reply in the format ``wanted``; None if it cannot be written so.

    ``own`` is the format that it was read in. A raw reply in that format stays as it is. A malformed reply cannot be put together
    again from its parts, nor a reply without reasoning where the format has a place for one.
    """
    if reply.outcome is not Outcome.ANSWERED:
        return reply.text or None
    tags = layout(wanted)
    if tags is not None and not reply.reasoning.strip():
        return None
    if reply.text and own is wanted:
        return _opened(reply.text) if wanted is ReplyFormat.THINK else reply.text
    if tags is None:
        return reply.answer
    return f"{tags.opening}{reply.reasoning}{tags.between}{reply.answer}{tags.closing}"


def _opened(text: str) -> str:
    """Give a reply its first tag, which many chat templates put into the prompt: the same templates take it from there again."""
    before, closed, _ = text.partition(_THOUGHT)
    return f"{_THINK}\n{text.lstrip()}" if closed and _THINK not in before else text
