"""Which of vLLM's two model runners serves a model. The second one gives each row a seed of its own without a kernel for each.

With 1,024 rows in the batch those kernels were 14 % of all time (docs/benchmarks.md). vLLM takes the second runner for more models
from version to version, and for all of them by 0.32.
"""

import os
from collections.abc import Collection
from importlib.metadata import entry_points
from typing import Any

import vllm.config.vllm
from transformers import AutoConfig
from vllm.platforms import current_platform
from vllm.triton_utils import HAS_TRITON
from vllm.utils.platform_utils import is_uva_available

from workers.contract.hardware import gpu_memory, visible_gpus

#: Which runner vLLM takes, ``0`` or ``1``; unset, it chooses.
VARIABLE = "VLLM_USE_V2_MODEL_RUNNER"
#: What vLLM itself serves with its code for Llama.
_LLAMA, _ITS_CHILDREN = "LlamaForCausalLM", {"Phi3ForCausalLM"}
#: Engine arguments for things that the second runner may not have. Asked for by name it refuses them, where vLLM would take the first.
_NOT_YET = {
    *("speculative_config", "logits_processors", "enable_prompt_embeds", "logprobs_mode", "enable_dbo", "kv_sharing_fast_prefill"),
    *("ec_transfer_config", "prefill_context_parallel_size", "distributed_executor_backend", "compilation_config"),
    *("reasoning_config", "reasoning_parser"),
}
#: GiB that a GPU must have beside vLLM's share: in 0.24 the second runner does not count its CUDA graphs (2 GiB on an H100).
_BESIDE = 4.0


def choose_model_runner(model: str, args: dict[str, Any], default_utilization: float) -> None:
    """Have vLLM take its second runner where it is as good for a model and not the default yet, unless the user has chosen."""
    if not current_platform.is_cuda() or VARIABLE in os.environ:
        return
    by_default: Collection[str] = getattr(vllm.config.vllm, "DEFAULT_V2_MODEL_RUNNER_ARCHITECTURES", ())
    utilization = float(args.get("gpu_memory_utilization", default_utilization))
    if gains_by_second_runner(model, args, by_default) and _can_run_it(utilization):
        os.environ[VARIABLE] = "1"


def gains_by_second_runner(model: str, args: dict[str, Any], by_default: Collection[str]) -> bool:
    """Say whether a model is served by the code of one that has the second runner by default, and has not itself."""
    if _LLAMA not in by_default or _NOT_YET & args.keys():
        return False
    try:
        config = AutoConfig.from_pretrained(model, revision=args.get("revision"))
    except Exception:  # of many kinds; vLLM will say what is wrong, if something is
        return False
    return bool(_ITS_CHILDREN.intersection(config.architectures or ()) - set(by_default))


def _can_run_it(utilization: float) -> bool:
    """Say whether this host has what the second runner takes for granted."""
    memory = gpu_memory()
    roomy = all(memory[gpu].total * (1 - utilization) >= _BESIDE for gpu in visible_gpus() if gpu in memory)
    return bool(roomy and HAS_TRITON and is_uva_available() and not entry_points(group="vllm.logits_processors"))
