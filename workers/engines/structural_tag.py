"""How vLLM is told to hold a reply to its format: a structural tag for xgrammar, whose parts are bounded in tokens."""

import json
import re
from collections.abc import Collection

from workers.contract.errors import Rejected
from workers.contract.messages import ReplyFormat
from workers.contract.replies import layout

#: An enforced reply must leave room for some words between its tags.
_MIN_FREE_TOKENS = 16
#: Texts of tokens that end a turn in well-known models, for whoever cannot ask the tokenizer. (``</s>`` begins like our tags.)
WELL_KNOWN_ENDS = (
    *("<|im_end|>", "<|im_start|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|end|>", "<|return|>", "<|call|>"),
    *("<|user|>", "<|observation|>", "<end_of_turn>", "<eos>", "<｜end▁of▁sentence｜>"),
)


def structural_tag(reply_format: ReplyFormat, max_tokens: int, ends: Collection[str]) -> str | None:
    """Return the tag, as JSON, or None for a format that anything keeps. Both parts are bounded, so that the tags always close.

    ``ends`` are texts of tokens that end a reply, or that no reply should have. vLLM 0.24 tells xgrammar of one token that ends a reply;
    any other of the model's would be let in as text, and end the reply within a part. Raises Rejected where ``max_tokens`` leaves no
    room between the tags.
    """
    if (shape := layout(reply_format)) is None:
        return None
    tags = "".join(shape)
    # At worst every byte of a tag is a token of its own; one more for the end of the reply.
    free = max_tokens - len(tags.encode()) - 1
    if free < _MIN_FREE_TOKENS:
        raise Rejected(
            f"--enforce-format leaves {max(free, 0)} of {max_tokens} tokens between the tags; raise --max-tokens, or shorten the prompt"
        )
    reasoning = free * 3 // 5
    # A tag inside a part would end it, or begin another, for whoever reads the reply.
    excludes = list(dict.fromkeys(["</", *re.findall(r"<\w+>", tags), *sorted(ends)]))
    elements = [
        {"type": "const_string", "value": shape.opening},
        {"type": "any_text", "excludes": excludes, "max_tokens": reasoning},
        {"type": "const_string", "value": shape.between},
        {"type": "any_text", "excludes": excludes, "max_tokens": free - reasoning},
    ]
    if shape.closing:
        elements.append({"type": "const_string", "value": shape.closing})
    return json.dumps({"type": "structural_tag", "format": {"type": "sequence", "elements": elements}})
