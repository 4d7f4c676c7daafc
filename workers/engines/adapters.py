"""Whether LoRA adapters fit the model, told before it is loaded: vLLM takes one of a narrower model, and uses a part of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from workers.contract.errors import UserError

#: The ranks that vLLM has kernels for.
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
#: Weights of other types are packed: their shapes are not those of the layer.
_PLAIN = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")


def max_lora_rank(adapters: dict[str, Path]) -> int:
    """Return the smallest rank vLLM offers that holds every adapter (name -> folder). Raises UserError."""
    needed = max((_rank(name, folder) for name, folder in adapters.items()), default=0)
    for rank in _RANKS:
        if needed <= rank:
            return rank
    raise UserError(f"an adapter has rank {needed}; vLLM takes at most {_RANKS[-1]}")


def check_adapter(name: str, adapter: Path, model: Path) -> None:
    """Raise UserError if a layer of the adapter has another shape than that layer of the model.

    Looks at the headers of safetensors files only; layers that it finds no plain weight for are passed over.
    """
    layers = _plain_weights(model)
    for layer, part, (rows, columns) in _lora_weights(name, adapter):
        if layer not in layers:
            continue
        outputs, inputs = layers[layer]
        if (columns != inputs) if part == "lora_A" else (rows != outputs):
            raise UserError(
                f"adapter {name} is for another model: {part} of {layer} is {rows} x {columns}, and that layer of the model takes {inputs}"
                f" numbers and gives {outputs}"
            )


def _rank(name: str, folder: Path) -> int:
    if not folder.is_dir():
        raise UserError(f"adapter {name}: there is no folder {folder}")
    config = folder / "adapter_config.json"
    try:
        said: dict[str, Any] = json.loads(config.read_text())
        rank, patterns = int(said["r"]), said.get("rank_pattern") or {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"adapter {name}: {config} does not describe a LoRA adapter") from error
    for layer, part, (rows, _) in _lora_weights(name, folder):
        if part == "lora_A" and rows != rank and not patterns:
            raise UserError(f"adapter {name}: {config} says rank {rank}, and {layer} has rank {rows}; save the adapter again")
    return max(rank, *patterns.values()) if patterns else rank


def _lora_weights(name: str, folder: Path) -> Iterator[tuple[str, str, tuple[int, int]]]:
    """Yield layer, ``lora_A`` or ``lora_B``, and shape (rows, columns) of all weights of an adapter."""
    file = folder / "adapter_model.safetensors"
    if not file.exists():
        return
    try:
        with safe_open(file, framework="numpy") as weights:
            for key in weights.keys():  # noqa: SIM118  # no dict
                layer, _, part = key.removesuffix(".weight").removeprefix("base_model.model.").rpartition(".")
                shape = weights.get_slice(key).get_shape()
                if part in ("lora_A", "lora_B") and len(shape) == 2:
                    yield layer, part, (shape[0], shape[1])
    except (OSError, SafetensorError) as error:
        raise UserError(f"adapter {name}: {file} cannot be read: {error}") from error


def _plain_weights(model: Path) -> dict[str, tuple[int, int]]:
    """Return outputs and inputs of the model's linear layers, as far as its files show them."""
    found = {}
    for file in model.glob("*.safetensors"):
        with safe_open(file, framework="numpy") as weights:
            for key in weights.keys():  # noqa: SIM118
                part = weights.get_slice(key)
                if key.endswith(".weight") and len(part.get_shape()) == 2 and part.get_dtype() in _PLAIN:
                    found[key.removesuffix(".weight")] = tuple(part.get_shape())
    return found
