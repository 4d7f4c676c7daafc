"""Token ids become text once a reply is whole, those that end together together: the text that vLLM makes token by token.

That costs Python some 5 µs a token, 3 ms of each step of 512 rows, in the thread that a fast GPU waits for. A whole reply costs a tenth,
on whichever cores are free. The two differ where a reply begins with bytes that are no character: then more of it may be kept here.
"""

import asyncio
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel, DecodeStream

from workers.contract.messages import Sampling

from . import Sample
from .together import Together

#: Replies that are decoded at once at most, and tokens of one that is decoded token by token: the event loop has others to serve.
_TOGETHER, _AT_ONCE = 32, 64
#: What is decoded before each reply, as a prompt is: some tokenizers drop a space at the beginning of a text.
_BEFORE = "a"
#: What bytes become that are no character, or not all of one.
_NO_CHARACTER = "\N{REPLACEMENT CHARACTER}"
#: Tokens at the end of a reply by which it is seen where its last whole character ends, and those that may come after it.
_END, _MOST_CUT = 16, 4
#: What is decoded both ways at the start, to see that they agree.
_SAMPLE = " Hello, world!  <b>2</b>\n\tüß 数字 🎉 'tis"


class Detokenizer:
    """Makes the text of replies, used on one event loop."""

    def __init__(self, tokenizer: Any) -> None:
        self._decoders: dict[bool, _Decoder] = {}
        if isinstance(backend := getattr(tokenizer, "backend_tokenizer", None), Tokenizer):
            with suppress(BaseException):  # of some the library says that it cannot decode them, over others it panics: no Exception
                decoders = {skip: _Decoder(tokenizer, backend, skip) for skip in (False, True)}
                self._decoders = decoders if all(decoder.agrees() for decoder in decoders.values()) else {}

    def serves(self, sampling: Sampling) -> bool:
        """Say whether a row can do without vLLM's own text: that is needed to see a text that ends a reply, and for some tokenizers."""
        return bool(self._decoders) and not sampling.stop

    async def read(self, samples: Sequence[Sample], *, skip_special_tokens: bool) -> tuple[Sample, ...]:
        """Return samples with their text."""
        decoder = self._decoders[skip_special_tokens]
        asked = [decoder.whole.ask(_said(sample)) for sample in samples]  # all of them before one is waited for
        return tuple([sample._replace(text=await decoder.text(_said(sample), whole)) for sample, whole in zip(samples, asked, strict=True)])


class _Decoder:
    """Decodes with or without special tokens."""

    def __init__(self, tokenizer: Any, backend: Tokenizer, skip_special_tokens: bool) -> None:
        self._encode, self._backend, self._skip = partial(tokenizer.encode, add_special_tokens=False), backend, skip_special_tokens
        self._before: list[int] = self._encode(_BEFORE)
        self._start = len(self._decode(self._before))
        # Others give up the characters around bytes that are none.
        self._has_byte_level = isinstance(backend.decoder, ByteLevel)
        #: Decodes replies at once; None comes of those that must be decoded token by token.
        self.whole = Together(self._decoded, _TOGETHER)

    async def text(self, ids: Sequence[int], whole: Awaitable[str | None]) -> str:
        """Return the text of a reply; ``whole`` is what decoding it at once came to."""
        text = await whole
        if text is not None:
            return text
        pieces = []
        for place, piece in enumerate(self._pieces(ids), 1):
            pieces.append(piece)
            if place % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return "".join(pieces)

    def agrees(self) -> bool:
        """Say whether whole and token by token come out alike. Raises what the library raises."""
        ids = self._encode(_SAMPLE)
        return self._decoded([ids]) == ["".join(self._pieces(ids))]

    def _decoded(self, replies: Sequence[Sequence[int]]) -> list[str | None]:
        """Return the texts of replies; None where only token by token will do."""
        try:
            texts = self._backend.decode_batch([[*self._before, *ids] for ids in replies], skip_special_tokens=self._skip)
        except Exception:  # one of them has a number that is no token's: which?
            return [None] * len(replies)
        return [self._uncut(ids, text) for ids, text in zip(replies, texts, strict=True)]

    def _uncut(self, ids: Sequence[int], text: str) -> str | None:
        """Return the reply in a decoded text, without a character that lacks bytes at its end and the token that it begins in."""
        if _NO_CHARACTER in text and not self._has_byte_level:
            return None
        if not text.endswith(_NO_CHARACTER):
            return text[self._start :]
        for kept in range(len(ids) - 1, len(ids) - 1 - min(_MOST_CUT, len(ids)), -1):
            end = self._decode(ids[max(0, kept - _END) : kept])
            if kept == 0 or (end and not end.endswith(_NO_CHARACTER)):
                return self._decode([*self._before, *ids[:kept]])[self._start :]
        return None

    def _pieces(self, ids: Sequence[int]) -> Iterator[str]:
        """Decode token by token, as vLLM does.

        That keeps what there was before bytes that are no character, however many tokens they are.
        """
        stream = DecodeStream(ids=self._before, skip_special_tokens=self._skip)
        for number in ids:
            try:
                piece = stream.step(self._backend, number)
            except (OverflowError, TypeError):  # no token has this number
                piece = ""
            except BaseException as error:
                if not str(error).startswith("Invalid prefix"):
                    raise RuntimeError(f"the reply cannot be decoded: {error}") from error  # a panic is no Exception
                stream = DecodeStream(skip_special_tokens=self._skip)
                piece = stream.step(self._backend, number)
            yield piece or ""

    def _decode(self, ids: Sequence[int]) -> str:
        return self._backend.decode(ids, skip_special_tokens=self._skip)


def _said(sample: Sample) -> Sequence[int]:
    """Return the tokens of a reply's text: the one that ended it is none of them."""
    return sample.token_ids[:-1] if sample.finish_reason == "stop" else sample.token_ids
