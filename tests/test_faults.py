"""In which ways a reply breaks its format, and how far it got."""

import pytest

from workers.contract.messages import Outcome, ReplyFormat
from workers.contract.replies import faults, read_reply, written

FULL = "<reasoning>\nwhy\n</reasoning>\n<answer>\n42\n</answer>\n"


@pytest.mark.parametrize(
    ("text", "found", "got"),
    [
        (FULL, (), ("why", "42")),
        ("42", ("no reasoning tag", "no answer tag"), ("", "42")),
        ("<answer>42</answer>", ("no reasoning tag",), ("", "42")),
        ("<reasoning>why</reasoning> 42", ("no answer tag",), ("why", "42")),
        ("<reasoning>why", ("unclosed reasoning", "no answer tag"), ("why", "")),
        ("<reasoning>why</reasoning><answer>42", ("unclosed answer",), ("why", "42")),
        ("<reasoning>why<answer>42</answer>", ("unclosed reasoning",), ("why", "42")),
        (f"Sure! {FULL}", ("text outside the tags",), ("why", "42")),
        ("<answer>42</answer><reasoning>why</reasoning>", ("answer before reasoning",), ("why", "42")),
        (f"{FULL}{FULL}", ("reasoning twice", "answer twice"), ("why", "42")),
        ("<reasoning></reasoning><answer> </answer>", ("empty reasoning", "empty answer"), ("", "")),
        ("", ("no reasoning tag", "no answer tag"), ("", "")),
    ],
)
def test_every_fault_has_a_name(text: str, found: tuple[str, ...], got: tuple[str, str]) -> None:
    """And what the model wrote before is still read, for what is to be measured."""
    assert faults(text, ReplyFormat.REASONING_ANSWER) == found
    assert written(text, ReplyFormat.REASONING_ANSWER) == got


@pytest.mark.parametrize("text", [FULL, "42", "<answer>42</answer>", "<reasoning>a</reasoning>b", "<reasoning>why", f"{FULL}<answer>"])
def test_what_breaks_the_format_has_a_fault_of_it(text: str) -> None:
    """A malformed reply is never without a reason."""
    broken = [fault for fault in faults(text, ReplyFormat.REASONING_ANSWER) if fault.startswith(("no ", "unclosed"))]

    assert bool(broken) == (read_reply(text).outcome is Outcome.MALFORMED)


def test_thinking_replies_have_faults_too() -> None:
    """In the format of models that think between tags of their own."""
    assert faults("<think>why</think>42", ReplyFormat.THINK) == ()
    assert faults("<think>why", ReplyFormat.THINK) == ("unclosed reasoning",)
    assert faults("42", ReplyFormat.THINK) == ("no reasoning tag",)
    assert written("<think>why</think>42", ReplyFormat.THINK) == ("why", "42")
    assert written("why</think>42", ReplyFormat.THINK) == ("why", "42")
    assert written("<think>why", ReplyFormat.THINK) == ("why", "")
    assert faults("42", ReplyFormat.PLAIN) == ()
    assert written("42", ReplyFormat.PLAIN) == ("", "42")
