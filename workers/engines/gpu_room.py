"""Whether a model can fit on its GPUs, told before minutes of loading end in an error of CUDA."""

import contextlib
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from workers.contract.errors import UserError
from workers.contract.hardware import GPUMemory, gpu_memory, visible_gpus


def check_gpu_room(model: str, args: dict[str, Any], default_utilization: float) -> None:
    """Raise UserError if a GPU that this process will use is busy, or too small for its part of the weights.

    GPUs of which nothing is known are passed over.
    """
    utilization = float(args.get("gpu_memory_utilization", default_utilization))
    share = max(1, int(args.get("tensor_parallel_size", 1)))
    memory = gpu_memory()
    weights = _weights(model, args) / share
    for gpu in visible_gpus()[:share]:
        if gpu in memory:
            _check(gpu, memory[gpu], utilization, weights)


def _check(gpu: str, memory: GPUMemory, utilization: float, weights: float) -> None:
    taken = utilization * memory.total
    if memory.free < taken:
        raise UserError(
            f"GPU {gpu} is busy: {memory.free:.1f} of {memory.total:.1f} GiB are free, and vLLM is to take {taken:.1f}"
            f" (gpu_memory_utilization {utilization:g}); end what runs there (nvidia-smi shows it), choose other --gpus,"
            " or lower --engine-arg gpu_memory_utilization"
        )
    if weights > taken:
        raise UserError(
            f"the model is too large for GPU {gpu}: its weights take {weights:.1f} GiB, and vLLM may take {taken:.1f} of"
            f" {memory.total:.1f} (gpu_memory_utilization {utilization:g}); spread it over more GPUs with --tensor-parallel-size,"
            " or make it smaller with --quantization"
        )


def _weights(model: str, args: dict[str, Any]) -> float:
    """Return the GiB of the model's weights as vLLM loads them; 0 where that cannot be told beforehand."""
    with contextlib.suppress(Exception):  # a model that only vLLM knows; it will say what is wrong, if something is
        config = AutoConfig.from_pretrained(model, revision=args.get("revision"))
        if args.get("quantization") or getattr(config, "quantization_config", None):
            return 0.0
        with torch.device("meta"):
            skeleton = AutoModelForCausalLM.from_config(config)
        return float(sum(parameter.numel() for parameter in skeleton.parameters()) * (4 if args.get("dtype") == "float32" else 2) / 2**30)
    return 0.0
