"""Which of vLLM's two model runners serves a model. The second one gives each row a seed of its own at no cost.

The first makes the noise of a seeded row in a kernel of its own: with 1,000 rows in the batch that was 17 % of all time. vLLM has the
second one for more models from version to version, and for all of them by 0.32.
"""

import os
from collections.abc import Collection
from typing import Any

import vllm.config.vllm
from transformers import AutoConfig
from vllm.platforms import current_platform

_VARIABLE = "VLLM_USE_V2_MODEL_RUNNER"
#: What vLLM itself serves with its code for Llama.
_LLAMA, _ITS_CHILDREN = "LlamaForCausalLM", {"Phi3ForCausalLM"}
#: Engine arguments for things that the second runner has not, in one version or another.
_NOT_YET = {
    *("speculative_config", "logits_processors", "enable_prompt_embeds", "logprobs_mode", "enable_dbo", "kv_sharing_fast_prefill"),
    *("ec_transfer_config", "prefill_context_parallel_size", "distributed_executor_backend", "reasoning_config", "reasoning_parser"),
}


def choose_model_runner(model: str, args: dict[str, Any]) -> None:
    """Have vLLM take its second runner where it is as good for a model and not the default yet, unless the user has chosen."""
    by_default: Collection[str] = getattr(vllm.config.vllm, "DEFAULT_V2_MODEL_RUNNER_ARCHITECTURES", ())
    if current_platform.is_cuda() and _VARIABLE not in os.environ and gains_by_second_runner(model, args, by_default):
        os.environ[_VARIABLE] = "1"


def gains_by_second_runner(model: str, args: dict[str, Any], by_default: Collection[str]) -> bool:
    """Say whether a model is served by the code of one that has the second runner by default, and has not itself."""
    if _LLAMA not in by_default or _NOT_YET & args.keys():
        return False
    try:
        config = AutoConfig.from_pretrained(model, revision=args.get("revision"))
    except (OSError, ValueError):  # vLLM will say what is wrong, if something is
        return False
    return bool(_ITS_CHILDREN.intersection(config.architectures or ()) - set(by_default))
