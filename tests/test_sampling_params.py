"""What vLLM is asked for a row."""

from typing import Any, Self

import pytest
from pydantic import BaseModel, ValidationError, model_validator

from workers.contract.messages import ReplyFormat, Sampling

# vLLM is imported here, which warns of itself.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(
    ("sampling", "seed"),
    [
        pytest.param(Sampling(temperature=0.5, seed=7, n=4), 7, id="as it stands"),
        pytest.param(Sampling(temperature=0, seed=7), None, id="greedy needs none"),
        pytest.param(Sampling(temperature=0.5, seed=2**63 - 1), 2**63 - 1, id="the largest"),
        pytest.param(Sampling(temperature=0.5, seed=2**63 - 1, n=4), 2**63 - 4, id="the largest, with room for its samples"),
    ],
)
def test_a_seed_and_those_of_further_samples_fit_into_63_bits(sampling: Sampling, seed: int | None) -> None:
    """vLLM counts up from it, and its second model runner stores 64 bits with a sign."""
    from workers.engines.vllm_requests import sampling_params

    assert sampling_params(sampling, 16, ends=(), detokenize=True).seed == seed


def test_an_enforced_format_keeps_tags_that_are_special_tokens() -> None:
    """A model that was tuned on the format may have made tokens of its tags, which vLLM leaves out of a text otherwise."""
    from workers.engines.vllm_requests import sampling_params

    assert sampling_params(Sampling(), 64, ends=(), detokenize=True).skip_special_tokens
    assert not sampling_params(Sampling(enforce_format=ReplyFormat.REASONING_ANSWER), 64, ends=(), detokenize=True).skip_special_tokens


class _Limits(BaseModel):
    rows: int = 1

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.rows > 5:
            raise ValueError("5 rows at most")
        return self


@pytest.mark.parametrize(("rows", "says"), [("a", "Input should be a valid integer"), (6, "5 rows at most")])
def test_what_a_library_refuses_by_pydantic_is_told_without_its_frame(rows: object, says: str) -> None:
    """Of a field, or of all of them together."""
    from workers.engines.vllm_requests import first_line

    with pytest.raises(ValidationError) as refused:
        _Limits.model_validate({"rows": rows})

    assert first_line(refused.value).startswith(says)
    assert "type=" not in first_line(refused.value)


#: Of the demo model: what ends a text, what begins and what ends a turn; and a word.
TEXT, START, END, WORD = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "!"


@pytest.fixture
def tokenizer() -> Any:
    """One that takes what begins a turn for what ends one, as some that are made from GGUF do, and fills up with a word."""
    from transformers import AutoTokenizer

    from workers.engines.demo_model import demo_model_path

    return AutoTokenizer.from_pretrained(demo_model_path(), eos_token=START, bos_token=START, pad_token=WORD, unk_token=START)


@pytest.mark.parametrize(
    ("generation_config", "ends"),
    [
        pytest.param({"eos_token_id": 2}, {END}, id="one"),
        pytest.param({"eos_token_id": [2, 0]}, {END, TEXT}, id="several"),
        pytest.param({"eos_token_id": 0}, {TEXT}, id="the first of the vocabulary"),
        pytest.param({"eos_token_id": [2, None, 10**9, -1]}, {END}, id="some that there are not"),
        pytest.param({"eos_token_id": None}, set(), id="none"),
        pytest.param({}, set(), id="not said"),
    ],
)
def test_what_ends_a_reply_is_what_the_model_says_and_the_tokenizer(
    tokenizer: Any, generation_config: dict[str, Any], ends: set[str]
) -> None:
    """An enforced format keeps these out of its parts; a word that fills up a batch may be written there."""
    from workers.engines.vllm_requests import ends_of

    assert ends_of(tokenizer, generation_config) == {START} | ends


def test_the_end_of_a_reply_may_look_like_anything(tokenizer: Any) -> None:
    """What the model ends by ends the reply, mark or word."""
    from workers.engines.vllm_requests import ends_of

    word = tokenizer.convert_tokens_to_ids(WORD)

    assert WORD in ends_of(tokenizer, {"eos_token_id": [word]})
