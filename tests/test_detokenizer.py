"""The text of a reply is the one that vLLM would have made of it token by token."""

import asyncio
import itertools
import random
from typing import Any

import pytest

from workers.contract.messages import Sampling

# vLLM is imported here, which warns of itself.
pytestmark = pytest.mark.filterwarnings("ignore")


def byte_level() -> Any:
    """Return the demo model's tokenizer, as GPT-2, Llama 3 and Qwen have it."""
    from transformers import AutoTokenizer

    from workers.engines.demo_model import demo_model_path

    return AutoTokenizer.from_pretrained(demo_model_path())


def sentence_piece() -> Any:
    """Return a tokenizer of the kind that Llama 2 and Phi-3 have: words begin with a mark, which a text's first word loses again."""
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    special = ["<unk>", "<s>", "</s>", "<|end|>"]
    pieces = special + [f"<0x{byte:02X}>" for byte in range(256)] + ["▁", "▁the", "▁Tag", "ing", "!", *"abcdefghijklmnopqrstuvwxyzHtü数"]
    tokenizer = Tokenizer(models.Unigram([(piece, -float(place)) for place, piece in enumerate(pieces)], unk_id=0, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(content=" ", left=1)]
    )
    tokenizer.add_special_tokens(special)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


@pytest.fixture(params=[byte_level, sentence_piece])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return request.param()


def texts(tokenizer: Any, replies: list[tuple[tuple[int, ...], str]], *, skip_special_tokens: bool = True) -> list[str]:
    """Have replies decoded, all at the same moment: token ids and finish reason of each."""
    from workers.engines import Sample
    from workers.engines.detokenizer import Detokenizer

    detokenizer = Detokenizer(tokenizer)
    assert detokenizer.serves(Sampling())

    async def read() -> list[str]:
        samples = [Sample("", ids, reason) for ids, reason in replies]
        read = await asyncio.gather(*(detokenizer.read([one], skip_special_tokens=skip_special_tokens) for one in samples))
        return [one.text for (one,) in read]

    return asyncio.run(read())


def text_of_vllm(tokenizer: Any, ids: tuple[int, ...], reason: str, *, skip_special_tokens: bool = True) -> str:
    """Return what vLLM itself makes of a reply, one token after the other, behind a prompt."""
    from vllm import SamplingParams
    from vllm.v1.engine import EngineCoreRequest
    from vllm.v1.engine.detokenizer import IncrementalDetokenizer

    request = EngineCoreRequest(
        request_id="row",
        prompt_token_ids=tokenizer.encode("Say the thing!"),
        mm_features=None,
        sampling_params=SamplingParams(skip_special_tokens=skip_special_tokens),
        pooling_params=None,
        arrival_time=0.0,
        lora_request=None,
        cache_salt=None,
        data_parallel_rank=None,
    )
    detokenizer = IncrementalDetokenizer.from_new_request(tokenizer, request)
    for place, number in enumerate(ids):
        detokenizer.update([number], place == len(ids) - 1 and reason == "stop")
    return detokenizer.get_next_output_text(finished=True, delta=False)


@pytest.mark.parametrize("skip_special_tokens", [True, False])
def test_any_tokens_become_the_text_that_vllm_makes_of_them(tokenizer: Any, skip_special_tokens: bool) -> None:
    """Special tokens in the middle, half a character, bytes that are no text; of any length, and whatever ended it."""
    dice = random.Random(1)
    characters = [tokenizer.encode(character, add_special_tokens=False) for character in "🎉ß数\n"]
    parts = [[number] for number in range(min(len(tokenizer), 40_000))] + 50 * characters
    replies = [
        (tuple(itertools.chain(*dice.choices(parts, k=length)))[:length], reason)
        for length in (0, 1, 2, 3, 8, 64)
        for reason in ("stop", "length")
        for _ in range(40)
    ]

    found = texts(tokenizer, replies, skip_special_tokens=skip_special_tokens)

    assert found == [text_of_vllm(tokenizer, ids, reason, skip_special_tokens=skip_special_tokens) for ids, reason in replies]


@pytest.mark.parametrize("text", ["the Tag", " the Tag", "数字 ü", "the tag: 🎉", "\n\n  the\ttag  "])
def test_a_text_that_is_cut_anywhere_reads_as_vllm_has_it(tokenizer: Any, text: str) -> None:
    """A reply that reached its limit may end in the middle of a character."""
    ids = tuple(tokenizer.encode(text, add_special_tokens=False))
    replies = [(ids[:length], "length") for length in range(len(ids) + 1)]

    assert texts(tokenizer, replies) == [text_of_vllm(tokenizer, *reply) for reply in replies]


def test_a_reply_that_falls_apart_reads_as_vllm_has_it(tokenizer: Any) -> None:
    """Bytes without end that are no text, and a number that is no token's: those beside it have their text."""
    byte = tokenizer.encode("🎉", add_special_tokens=False)[-1]
    good = tuple(tokenizer.encode("the tag", add_special_tokens=False))
    replies = [(good, "length"), ((*good, *[byte] * 300), "length"), ((*good, -1, *good), "length"), ((*[byte] * 70, *good), "stop")]

    assert texts(tokenizer, replies) == [text_of_vllm(tokenizer, *reply) for reply in replies]


def test_stray_bytes_cost_nothing_where_tokens_are_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model with random weights, as benchmarks have it, says hardly anything else."""
    tokenizer = byte_level()
    lone = tokenizer.encode("🎉", add_special_tokens=False)[:-1]
    reply = ((*tokenizer.encode("the"), *lone, *tokenizer.encode(" tag"), *lone), "length")
    expected = text_of_vllm(tokenizer, *reply)
    assert "\N{REPLACEMENT CHARACTER}" in expected

    from workers.engines import Sample
    from workers.engines.detokenizer import Detokenizer

    detokenizer = Detokenizer(tokenizer)
    monkeypatch.setattr("workers.engines.detokenizer.DecodeStream", None)  # token by token cannot be had
    (read,) = asyncio.run(detokenizer.read([Sample("", *reply)], skip_special_tokens=True))

    assert read.text == expected


def test_a_long_reply_that_is_no_text_keeps_nobody_waiting() -> None:
    """The event loop has hundreds of other rows."""
    from workers.engines import Sample
    from workers.engines.detokenizer import Detokenizer

    tokenizer = byte_level()
    detokenizer = Detokenizer(tokenizer)
    byte = tokenizer.encode("🎉", add_special_tokens=False)[-1]

    async def turns_of_others() -> int:
        reading = asyncio.ensure_future(detokenizer.read([Sample("", (byte,) * 1000, "length")], skip_special_tokens=True))
        turns = 0
        while not reading.done():
            await asyncio.sleep(0)
            turns += 1
        return turns

    assert asyncio.run(turns_of_others()) > 10


def test_it_is_ready_on_an_event_loop() -> None:
    """Where an engine starts."""
    from workers.engines.detokenizer import Detokenizer

    async def ready() -> bool:
        return Detokenizer(byte_level()).serves(Sampling())

    assert asyncio.run(ready())


def test_the_token_that_ends_a_reply_is_none_of_its_text() -> None:
    """Of a model that was tuned on tags, whose special tokens are text."""
    tokenizer = byte_level()
    ids = (*tokenizer.encode("It is so.", add_special_tokens=False), tokenizer.eos_token_id)

    assert texts(tokenizer, [(ids, "stop"), (ids, "length")], skip_special_tokens=False) == ["It is so.", "It is so.<|im_end|>"]


def test_vllm_keeps_what_only_it_can_do() -> None:
    """It sees texts that end a reply, and knows tokenizers of other makes."""
    from workers.engines.detokenizer import Detokenizer

    assert not Detokenizer(byte_level()).serves(Sampling(stop=("\n",)))
    assert not Detokenizer(object()).serves(Sampling())


def test_a_tokenizer_whose_words_depend_on_those_that_follow_is_left_to_vllm() -> None:
    """Whole and token by token would differ; and some decoders only panic."""
    from tokenizers import decoders

    from workers.engines.detokenizer import Detokenizer

    depends = decoders.Sequence([decoders.ByteLevel(), decoders.Replace(", world", " and all")])
    panics = decoders.Sequence([decoders.Replace("▁", " "), decoders.Strip(content=" ", left=1, right=1)])
    for tokenizer, decoder in ((byte_level(), depends), (sentence_piece(), panics)):
        tokenizer.backend_tokenizer.decoder = decoder

        assert not Detokenizer(tokenizer).serves(Sampling())
