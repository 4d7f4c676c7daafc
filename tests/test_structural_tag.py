"""What an enforced format lets a model write, by xgrammar itself and the demo model's tokenizer."""

import copy
from collections.abc import Collection
from typing import Any

import pytest

from workers.contract.messages import ReplyFormat
from workers.engines.structural_tag import WELL_KNOWN_ENDS, structural_tag

# xgrammar and transformers are imported here, which warn of themselves.
pytestmark = pytest.mark.filterwarnings("ignore")

#: What the demo model ends a turn with, and what it begins one and a text with.
END, START, TEXT = "<|im_end|>", "<|im_start|>", "<|endoftext|>"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """The demo model's."""
    from transformers import AutoTokenizer

    from workers.engines.demo_model import demo_model_path

    return AutoTokenizer.from_pretrained(demo_model_path())


def allowed(tokenizer: Any, reply: str, tokens: Collection[str], *, stop: str, ends: Collection[str]) -> set[str]:
    """Return which of some tokens may follow a beginning of a reply, where xgrammar takes ``stop`` for the only one that ends it."""
    import xgrammar

    info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, stop_token_ids=[tokenizer.convert_tokens_to_ids(stop)])
    tag = structural_tag(ReplyFormat.REASONING_ANSWER, 128, ends)
    assert tag is not None
    matcher = xgrammar.GrammarMatcher(xgrammar.GrammarCompiler(info).compile_structural_tag(tag))
    for token in tokenizer.encode(reply, add_special_tokens=False):
        assert matcher.accept_token(token), tokenizer.decode([token])
    mask = xgrammar.allocate_token_bitmask(1, info.vocab_size)
    matcher.fill_next_token_bitmask(mask)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in tokens}
    return {token for token, number in ids.items() if int(mask[0][number // 32]) >> number % 32 & 1}


INSIDE = ["<reasoning>\n", "<reasoning>\nThe Nile.", "<reasoning>\nr\n</reasoning>\n<answer>\n42"]
WHOLE = "<reasoning>\nr\n</reasoning>\n<answer>\na\n</answer>\n"


@pytest.mark.parametrize("stop", [END, START], ids=["the model's own", "another"])
@pytest.mark.parametrize("reply", INSIDE)
@pytest.mark.parametrize("ends", [(END, START, TEXT), WELL_KNOWN_ENDS], ids=["of the tokenizer", "well known"])
def test_no_token_that_ends_a_reply_passes_for_text(tokenizer: Any, reply: str, stop: str, ends: tuple[str, ...]) -> None:
    """A model with several tokens that end a reply would end it within a part by those that xgrammar does not know."""
    assert not allowed(tokenizer, reply, (END, START, TEXT), stop=stop, ends=ends)


def test_without_them_a_token_that_ends_the_reply_would(tokenizer: Any) -> None:
    """Else the test above could not fail."""
    assert END in allowed(tokenizer, INSIDE[1], (END,), stop=START, ends=())


@pytest.mark.parametrize("stop", [END, START])
def test_a_whole_reply_is_ended_by_the_token_that_xgrammar_knows(tokenizer: Any, stop: str) -> None:
    """Nothing else may follow it."""
    assert allowed(tokenizer, WHOLE, (END, START, TEXT, "a"), stop=stop, ends=(END, START, TEXT)) == {stop}


def test_tags_may_be_tokens_of_their_own(tokenizer: Any) -> None:
    """Whoever tunes a model on the format may have made them."""
    tuned = copy.deepcopy(tokenizer)
    tuned.add_special_tokens({"additional_special_tokens": ["<reasoning>", "</reasoning>", "<answer>", "</answer>"]})
    assert len(tuned.encode(WHOLE)) < len(tokenizer.encode(WHOLE))

    assert allowed(tuned, WHOLE, (END, "a"), stop=END, ends=(END, "</answer>")) == {END}
