"""What vLLM is asked for a row, and what its exceptions mean; shared by the engines that run on it. Spans vLLM 0.24 to 0.33."""

import itertools
import re
from collections.abc import Collection
from typing import Any

import vllm
from vllm import SamplingParams
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
from vllm.v1.engine.exceptions import EngineDeadError

from workers.contract.errors import EngineDead, EngineError, Failed, Rejected
from workers.contract.messages import Sampling

from . import GIVEN_UP, Sample
from .structural_tag import structural_tag
from .vllm_messages import Loaded, Reply

#: A special token as nobody writes a word: some tokenizers fill up with one, say "!".
_MARK = re.compile(r"[<\[].+[>\]]")


def sampling_params(sampling: Sampling, max_tokens: int, ends: Collection[str], *, detokenize: bool) -> SamplingParams:
    """Return vLLM's own parameters of a row; ``ends`` is what ``ends_of`` says. Raises Rejected where a format cannot be enforced."""
    return SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        max_tokens=max_tokens,
        min_tokens=min(sampling.min_tokens, max_tokens),
        n=sampling.n,
        seed=_seed(sampling),
        stop=list(sampling.stop),
        repetition_penalty=sampling.repetition_penalty,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        ignore_eos=sampling.ignore_eos,
        # Of a model that was tuned on the format a tag may be a special token, which vLLM would leave out of the text.
        skip_special_tokens=sampling.enforce_format is None,
        detokenize=detokenize,
        structured_outputs=_structured_outputs(sampling, max_tokens, ends),
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _seed(sampling: Sampling) -> int | None:
    """Return the seed of a row. Greedy needs none, and one costs time; vLLM counts up from it for each further sample, in 63 bits."""
    return None if sampling.temperature == 0 else min(sampling.seed, 2**63 - sampling.n)


def loaded(tokenizer: Any, config: Any) -> Loaded:
    """Return what Kotae wants to know of a ``VllmConfig``."""
    model = config.model_config
    return Loaded(
        tokenizer,
        max_model_len=model.max_model_len,
        dtype=str(model.dtype).removeprefix("torch."),
        quantization=str(model.quantization or ""),
        max_num_seqs=config.scheduler_config.max_num_seqs,
        generation_config=model.try_get_generation_config(),
        model_runner="V2" if getattr(config, "use_v2_model_runner", False) else "V1",
    )


def ends_of(tokenizer: Any, generation_config: dict[str, Any]) -> frozenset[str]:
    """Return the texts of the tokens that end a reply, of which a model may have several, and of those that begin or fill up one.

    Few, and not all special tokens, of which some tokenizers have a thousand: xgrammar would compile for seconds.
    """
    ends = generation_config.get("eos_token_id")
    others = [getattr(tokenizer, f"{kind}_token_id", None) for kind in ("bos", "eos", "pad", "unk")]
    marks = filter(_MARK.fullmatch, _texts(tokenizer, others))
    return frozenset([*_texts(tokenizer, ends if isinstance(ends, list) else [ends]), *marks])


def _texts(tokenizer: Any, ids: Collection[int | None]) -> list[str]:
    """Return the texts of those tokens that there are."""
    known = sorted({number for number in ids if isinstance(number, int) and 0 <= number < len(tokenizer)})
    return [text for text in tokenizer.convert_ids_to_tokens(known) if text]


def reply_of(output: RequestOutput) -> Reply:
    """Return what a finished request came to."""
    samples = (Sample(one.text, tuple(one.token_ids), str(one.finish_reason)) for one in output.outputs)
    said = (next(iter(token.values())).logprob for token in output.prompt_logprobs or () if token)
    return Reply(tuple(samples), tuple(said))


def check_is_whole(reply: Reply) -> None:
    """Raise Failed if vLLM gave a reply up: what there is of it would read like a model's own bad reply.

    It does so where its guided decoding and its sampler disagree (``error``), and where somebody aborts the request (``abort``).
    """
    if given_up := {sample.finish_reason for sample in reply.samples} & GIVEN_UP:
        raise Failed(f"vLLM gave the reply up before its end (finish reason {', '.join(sorted(given_up))})")


def can_enforce_formats() -> bool:
    """Say whether the xgrammar beside this vLLM can bound the parts of a reply in tokens."""
    try:
        from xgrammar.structural_tag import AnyTextFormat
    except ImportError:
        return False
    return "max_tokens" in AnyTextFormat.model_fields


def as_engine_error(error: Exception) -> EngineError:
    """Say what an exception out of vLLM means for the row. The one place that knows its exceptions, old and new."""
    if isinstance(error, EngineError):
        return error
    if isinstance(error, EngineDeadError):
        return EngineDead(first_line(error))
    client_error = getattr(getattr(vllm, "exceptions", None), "VLLMClientError", ValueError)
    if isinstance(error, (ValueError, client_error)):
        return Rejected(f"vLLM refuses the row: {first_line(error)}")
    return Failed(f"vLLM failed on this row ({type(error).__name__}: {first_line(error)})")


def first_line(error: Exception) -> str:
    """Return what an exception says, on one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and "validation error" in lines[0]:
        # pydantic counts its errors, names a field where one is to blame, says what is wrong, and where to read on.
        *_, told = itertools.takewhile(lambda line: not line.startswith("For further information"), lines)
        return re.sub(r" \[type=.*", "", told).removeprefix("Value error, ")
    return lines[0] if lines else type(error).__name__


def _structured_outputs(sampling: Sampling, max_tokens: int, ends: Collection[str]) -> StructuredOutputsParams | None:
    if sampling.enforce_format is None or (tag := structural_tag(sampling.enforce_format, max_tokens, ends)) is None:
        return None
    if not can_enforce_formats():
        raise Rejected("this worker's vLLM cannot bound the parts of a reply: --enforce-format needs xgrammar 0.2.8 or newer")
    return StructuredOutputsParams(structural_tag=tag)
