"""Which GPUs this host offers, without torch."""

import os
import subprocess


def visible_gpus() -> list[str]:
    """Return the ids of the GPUs that work here may use, as ``CUDA_VISIBLE_DEVICES`` writes them; empty without any."""
    try:
        listing = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True, timeout=30, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    present = listing.split()
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is None:
        return present
    return [gpu.strip() for gpu in allowed.split(",") if gpu.strip() and gpu.strip() != "-1"] if present else []
