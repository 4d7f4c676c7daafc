"""Which GPUs this host offers, without torch."""

import os
import subprocess
from typing import NamedTuple


class GPUMemory(NamedTuple):
    """Memory of one GPU, in GiB."""

    free: float
    total: float


def visible_gpus() -> list[str]:
    """Return the ids of the GPUs that work here may use, as ``CUDA_VISIBLE_DEVICES`` writes them; empty without any."""
    present = [line.strip() for line in _nvidia_smi("index")]
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is None:
        return present
    return [gpu.strip() for gpu in allowed.split(",") if gpu.strip() and gpu.strip() != "-1"] if present else []


def gpu_memory() -> dict[str, GPUMemory]:
    """Return what every GPU of this host has, by its index and by its UUID."""
    memory = {}
    for line in _nvidia_smi("index,uuid,memory.free,memory.total"):
        index, uuid, free, total, *_ = (part.strip() for part in f"{line},,,".split(","))
        if free.isdigit() and total.isdigit():  # some virtual GPUs do not say
            memory[index] = memory[uuid] = GPUMemory(int(free) / 1024, int(total) / 1024)
    return memory


def _nvidia_smi(query: str) -> list[str]:
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return []
