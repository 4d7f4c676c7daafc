"""How replies read. The reference program's users compare workbooks, so its reading is held to the letter."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.contract.messages import BlankLines, Outcome, ReplyFormat
from workers.contract.replies import REASONING_ANSWER_PROMPT, layout, read_reply

R, A = "<reasoning>", "<answer>"


def reference_reading(reply: str) -> tuple[str, str]:
    """State the reference's rules again, by other means: with regular expressions instead of partitions."""
    reply = re.sub("\n\n", "\n", reply)
    if "<reasoning>" not in reply:
        reasoning = "UNKNOWN"
    else:
        found = re.search(r"<reasoning>(.*?)</reasoning>", reply, re.DOTALL)
        reasoning = found.group(1).strip() if found else "REASONING not found"
    if "<answer>" not in reply:
        answer = reply
    else:
        found = re.search(r"<answer>(.*?)</answer>", reply, re.DOTALL)
        answer = found.group(1).strip() if found else "ANSWER not found"
    return reasoning, answer


@pytest.mark.parametrize(
    ("reply", "reasoning", "answer", "outcome"),
    [
        ("<reasoning>\nwhy\n</reasoning>\n<answer>\n42\n</answer>\n", "why", "42", Outcome.ANSWERED),
        ("<answer>42</answer><reasoning>why</reasoning>", "why", "42", Outcome.ANSWERED),
        ("<reasoning></reasoning><answer></answer>", "", "", Outcome.ANSWERED),
        ("  just words \n", "UNKNOWN", "  just words \n", Outcome.MALFORMED),
        ("", "UNKNOWN", "", Outcome.MALFORMED),
        ("<reasoning>why</reasoning> 42", "why", "<reasoning>why</reasoning> 42", Outcome.MALFORMED),
        ("<reasoning>why <answer>42</answer>", "REASONING not found", "42", Outcome.MALFORMED),
        ("<reasoning>why</reasoning><answer>42", "why", "ANSWER not found", Outcome.MALFORMED),
        ("</reasoning><reasoning>why", "REASONING not found", "</reasoning><reasoning>why", Outcome.MALFORMED),
        ("</answer>1<answer>2</answer>3</answer>", "UNKNOWN", "2", Outcome.MALFORMED),
        ("<answer>1</answer><answer>2</answer>", "UNKNOWN", "1", Outcome.MALFORMED),
        ("<reasoning>a<reasoning>b</reasoning><answer>c</answer>", "a<reasoning>b", "c", Outcome.ANSWERED),
        ("<REASONING>why</REASONING><answer>42</answer>", "UNKNOWN", "42", Outcome.MALFORMED),
        ("<answer>a\n\nb\n\n\nc</answer>", "UNKNOWN", "a\nb\n\nc", Outcome.MALFORMED),
        ("one\n\n\n\ntwo", "UNKNOWN", "one\n\ntwo", Outcome.MALFORMED),
        ("<reasoning>　全角　</reasoning><answer>　答え　</answer>", "全角", "答え", Outcome.ANSWERED),
    ],
)
def test_a_reply_reads_as_the_reference_reads_it(reply: str, reasoning: str, answer: str, outcome: Outcome) -> None:
    """The table that people check by eye; the placeholders are the reference's own."""
    reading = read_reply(reply)

    assert reading == (reasoning, answer, outcome)
    assert reading[:2] == reference_reading(reply)


pieces = st.lists(st.sampled_from([R, A, "</reasoning>", "</answer>", "\n", "\n\n", "\n\n\n", " ", "x", "答え", "<", "</"]), max_size=14)


@given(pieces.map("".join) | st.text())
def test_any_mixture_of_tags_reads_as_the_restated_rules_say(reply: str) -> None:
    """Nobody writes down the combinations that a model finds."""
    assert read_reply(reply)[:2] == reference_reading(reply)


@given(
    st.text(alphabet=st.characters(codec=None))
    | pieces.map("".join)
    | st.lists(st.sampled_from(["<think>", "</think>", "\n\n", "x"])).map("".join),
    st.sampled_from(ReplyFormat),
    st.sampled_from(BlankLines),
    st.sampled_from(["stop", "length", "abort", ""]),
)
def test_no_reply_however_odd_raises(reply: str, reply_format: ReplyFormat, blank_lines: BlankLines, finish_reason: str) -> None:
    """One broken reply must not cost a run."""
    before = str(reply)

    reading = read_reply(reply, finish_reason, reply_format, blank_lines)

    assert reply == before
    assert isinstance(reading.reasoning, str)
    assert isinstance(reading.answer, str)
    assert (reading.outcome is Outcome.TRUNCATED) == (finish_reason == "length")


@pytest.mark.parametrize("reply", ["<reasoning>why</reasoning><answer>42</answer>", "<reasoning>why", ""])
def test_a_reply_that_ran_out_of_tokens_is_truncated_whatever_it_looks_like(reply: str) -> None:
    """A whole-looking answer may still lack its end."""
    assert read_reply(reply, "length").outcome is Outcome.TRUNCATED


def test_blank_lines_can_be_kept() -> None:
    """Markdown needs its paragraphs; the reference's users do not want them."""
    reply = "<reasoning>a</reasoning><answer>b\n\nc</answer>"

    assert read_reply(reply).answer == "b\nc"
    assert read_reply(reply, blank_lines=BlankLines.KEEP).answer == "b\n\nc"


@pytest.mark.parametrize(
    ("reply", "reasoning", "answer", "outcome"),
    [
        ("<think>\nwhy\n</think>\n\n42", "why", "42", Outcome.ANSWERED),
        ("why\n</think>\n42", "why", "42", Outcome.ANSWERED),  # the chat template has opened the tag in the prompt
        ("<think>why", "why", "ANSWER not found", Outcome.MALFORMED),
        ("42", "UNKNOWN", "42", Outcome.MALFORMED),
    ],
)
def test_thinking_models_are_read_by_their_own_tags(reply: str, reasoning: str, answer: str, outcome: Outcome) -> None:
    """Half of the stronger models to compare with think in these tags."""
    assert read_reply(reply, reply_format=ReplyFormat.THINK) == (reasoning, answer, outcome)


def test_a_plain_reply_is_its_own_answer() -> None:
    """A model without a format cannot break one."""
    assert read_reply("<answer>as it is</answer> ", reply_format=ReplyFormat.PLAIN) == ("", "<answer>as it is</answer> ", Outcome.ANSWERED)


def test_the_system_prompt_is_the_references_to_the_byte() -> None:
    """The model was tuned on exactly these bytes, line breaks at both ends included."""
    expected = "\nRespond in the following format:\n<reasoning>\n...\n</reasoning>\n<answer>\n...\n</answer>\n"

    assert expected == REASONING_ANSWER_PROMPT


@pytest.mark.parametrize("reply_format", [ReplyFormat.REASONING_ANSWER, ReplyFormat.THINK])
def test_a_reply_laid_out_as_enforced_keeps_its_format(reply_format: ReplyFormat) -> None:
    """What the engine is held to and what we read are two statements of one format."""
    shape = layout(reply_format)
    assert shape is not None

    reading = read_reply(f"{shape.opening}why{shape.between}42{shape.closing}", reply_format=reply_format)

    assert reading == ("why", "42", Outcome.ANSWERED)
