"""Reading a reply: raw text -> reasoning, answer, outcome. Pure, and the only place that knows the tags.

``reasoning-answer`` reads to the letter as the reference program does, placeholders included: people compare our
workbooks with theirs. ``think`` and ``plain`` follow the same spirit.
"""

import re
from typing import NamedTuple, assert_never

from .messages import BlankLines, Outcome, ReplyFormat

NO_REASONING_TAG = "UNKNOWN"
UNCLOSED_REASONING = "REASONING not found"
UNCLOSED_ANSWER = "ANSWER not found"

#: The system prompt the reference model was tuned on, to the byte.
REASONING_ANSWER_PROMPT = "\nRespond in the following format:\n<reasoning>\n...\n</reasoning>\n<answer>\n...\n</answer>\n"


#: Any tag of a format.
_TAG = re.compile(r"<(/?(?:reasoning|answer|think))>")


class Reading(NamedTuple):
    """How a reply reads; the raw text stays with the completion."""

    reasoning: str
    answer: str
    outcome: Outcome


class Layout(NamedTuple):
    """A format as fixed strings around two free parts, for engines that can hold a reply to it."""

    opening: str
    between: str
    closing: str


def read_reply(
    text: str,
    finish_reason: str = "stop",
    reply_format: ReplyFormat = ReplyFormat.REASONING_ANSWER,
    blank_lines: BlankLines = BlankLines.COLLAPSE,
) -> Reading:
    """Read a reply. Never raises: a reply that breaks its format is a value with the outcome ``malformed``."""
    if blank_lines is BlankLines.COLLAPSE:
        text = text.replace("\n\n", "\n")  # one left-to-right pass: three line breaks leave two
    match reply_format:
        case ReplyFormat.REASONING_ANSWER:
            reasoning, answer, kept = _reasoning_answer(text)
        case ReplyFormat.THINK:
            reasoning, answer, kept = _think(text)
        case ReplyFormat.PLAIN:
            reasoning, answer, kept = "", text, True
        case _:
            assert_never(reply_format)
    if finish_reason == "length":
        return Reading(reasoning, answer, Outcome.TRUNCATED)
    return Reading(reasoning, answer, Outcome.ANSWERED if kept else Outcome.MALFORMED)


def faults(text: str, reply_format: ReplyFormat) -> tuple[str, ...]:
    """Say in which ways a raw reply departs from its format; the last ones, from "text outside the tags" on, are not held against it."""
    match reply_format:
        case ReplyFormat.REASONING_ANSWER:
            found = [*_tag_faults(text, "reasoning"), *_tag_faults(text, "answer")]
            bare = re.sub(r"<(reasoning|answer)>.*?</\1>", "", text, flags=re.DOTALL)
            if not found and bare.strip():
                found.append("text outside the tags")
            if not found and text.find("<answer>") < text.find("<reasoning>"):
                found.append("answer before reasoning")
            found += [f"{tag} twice" for tag in ("reasoning", "answer") if text.count(f"<{tag}>") > 1]
            return tuple(found)
        case ReplyFormat.THINK:
            if "</think>" in text:
                return ()
            return ("unclosed reasoning",) if "<think>" in text else ("no reasoning tag",)
        case ReplyFormat.PLAIN:
            return ()
        case _:
            assert_never(reply_format)


def written(text: str, reply_format: ReplyFormat) -> tuple[str, str]:
    """Return what a raw reply has of reasoning and of answer, as far as it got: without placeholders, and what is not closed too."""
    match reply_format:
        case ReplyFormat.REASONING_ANSWER:
            reasoning, answer = _begun(text, "reasoning"), _begun(text, "answer")
            if "<answer>" not in text:  # what stands behind the reasoning is the answer, though not marked as one
                answer = text.rpartition("</reasoning>")[2].strip() if "</reasoning>" in text or not reasoning else ""
            return reasoning, answer
        case ReplyFormat.THINK:
            before, closed, after = text.partition("</think>")
            reasoning = before.partition("<think>")[2] if "<think>" in before else before if closed else ""
            return reasoning.strip(), after.strip() if closed or reasoning else text
        case ReplyFormat.PLAIN:
            return "", text
        case _:
            assert_never(reply_format)


def joined(reasoning: str, text: str, reply_format: ReplyFormat) -> str:
    """Return as one raw reply what an engine gives in two parts: what the model thought, and what it said.

    It reads in the format as both parts deserve: the model has kept them apart itself. A text that brings its own reasoning keeps it,
    and what was thought stands before it as ``<think>``. Tags within what was thought are not to be taken for those of the reply.
    """
    if not reasoning or reply_format is ReplyFormat.PLAIN:
        return text
    reasoning = _TAG.sub(lambda tag: f"‹{tag[1]}›", reasoning.strip())
    if reply_format is ReplyFormat.THINK or "<reasoning>" in text:
        return f"<think>\n{reasoning}\n</think>\n\n{text}" if text else f"<think>\n{reasoning}"  # cut off before it spoke
    if not text:
        text = "<answer>"
    elif "<answer>" not in text:
        text = f"<answer>\n{text}\n</answer>\n"
    return f"<reasoning>\n{reasoning}\n</reasoning>\n{text}"


def default_system_prompt(reply_format: ReplyFormat) -> str:
    """Return the system prompt that goes with a format; empty where the model knows the format by itself."""
    match reply_format:
        case ReplyFormat.REASONING_ANSWER:
            return REASONING_ANSWER_PROMPT
        case ReplyFormat.THINK | ReplyFormat.PLAIN:
            return ""
        case _:
            assert_never(reply_format)


def layout(reply_format: ReplyFormat) -> Layout | None:
    """Return what a reply in this format must look like, or None for ``plain``, which anything keeps."""
    match reply_format:
        case ReplyFormat.REASONING_ANSWER:
            return Layout("<reasoning>\n", "\n</reasoning>\n<answer>\n", "\n</answer>\n")
        case ReplyFormat.THINK:
            return Layout("<think>\n", "\n</think>\n\n", "")
        case ReplyFormat.PLAIN:
            return None
        case _:
            assert_never(reply_format)


def _reasoning_answer(text: str) -> tuple[str, str, bool]:
    reasoning = _between(text, "<reasoning>", "</reasoning>", missing=NO_REASONING_TAG, unclosed=UNCLOSED_REASONING)
    answer = _between(text, "<answer>", "</answer>", missing=text, unclosed=UNCLOSED_ANSWER)
    return reasoning.text, answer.text, reasoning.found and answer.found


def _think(text: str) -> tuple[str, str, bool]:
    """Read ``<think>...</think>answer``; many chat templates open the tag in the prompt, so it may be missing."""
    before, closed, after = text.partition("</think>")
    if closed:
        return before.strip().removeprefix("<think>").strip(), after.strip(), True
    if "<think>" in text:
        return text.partition("<think>")[2].strip(), UNCLOSED_ANSWER, False
    return NO_REASONING_TAG, text, False


def _tag_faults(text: str, tag: str) -> list[str]:
    if f"<{tag}>" not in text:
        return [f"no {tag} tag"]
    inside, closed, _ = text.partition(f"<{tag}>")[2].partition(f"</{tag}>")
    return ([] if inside.strip() else [f"empty {tag}"]) if closed else [f"unclosed {tag}"]


def _begun(text: str, tag: str) -> str:
    """Return what follows a tag, up to its end or to the next tag of ours."""
    return re.split(r"</?(?:reasoning|answer)>", text.partition(f"<{tag}>")[2])[0].strip()


class _Part(NamedTuple):
    text: str
    found: bool


def _between(text: str, opening: str, closing: str, *, missing: str, unclosed: str) -> _Part:
    _, opened, rest = text.partition(opening)
    if not opened:
        return _Part(missing, False)
    inside, closed, _ = rest.partition(closing)
    return _Part(inside.strip(), True) if closed else _Part(unclosed, False)
