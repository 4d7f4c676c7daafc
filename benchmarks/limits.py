"""The arithmetic of the limit: what a step must move and compute, against what the GPU can, and how many tokens/s that allows.

A step gives every row in flight one token. It reads all weights and the rows' keys and values once, and multiplies every row with
every weight; and while rows end, the prompts of those that follow are read too. Either the memory or the arithmetic decides.

    python -m benchmarks.limits --model FOLDER --memory-gib 140.4 --bandwidth 4.8e12 --flops 7.9e14 --measured 9204
"""

import argparse
import json
import math
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from .arguments import at_least_one

_SIGMA = 0.7  # of the lognormal lengths in workload.py


@dataclass(frozen=True)
class Shape:
    """What of a model's shape decides its speed."""

    #: Weights that every token is multiplied with (all but the table of input embeddings), and all weights; in numbers.
    multiplied: int
    weights: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int

    def kv_bytes(self) -> int:
        """Return the bytes of keys and values per token, in 16 bits."""
        return 2 * 2 * self.layers * self.kv_heads * self.head_dim


@dataclass(frozen=True)
class Limit:
    """The least a step can take."""

    rows_in_flight: int
    bytes_per_step: float
    operations_per_step: float
    memory_seconds: float
    arithmetic_seconds: float

    @property
    def tokens_per_s(self) -> float:
        """Return what is possible when moving and computing overlap without loss."""
        return self.rows_in_flight / max(self.memory_seconds, self.arithmetic_seconds)


def shape_of(model: str) -> Shape:
    """Read the shape of a model from its config, without its weights."""
    config: Any = AutoConfig.from_pretrained(model)
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(config)
    weights = sum(parameter.numel() for parameter in skeleton.parameters())
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    table = config.vocab_size * config.hidden_size
    multiplied = weights if config.tie_word_embeddings else weights - table
    return Shape(multiplied, weights, config.num_hidden_layers, heads, getattr(config, "num_key_value_heads", heads), head_dim)


def limit(shape: Shape, kv_cache_bytes: float, most_rows: int, prompt: int, reply: int, bandwidth: float, flops: float) -> Limit:
    """Return the limit of a steady state; ``prompt`` and ``reply`` are mean tokens, the replies' lengths lognormal.

    A row that is looked at while it runs is longer than the mean: rows of twice the length are there twice as long.
    """
    context = prompt + reply * math.exp(_SIGMA**2) / 2
    rows = min(most_rows, int(kv_cache_bytes / (context * shape.kv_bytes())))
    moved = 2 * shape.weights + rows * context * shape.kv_bytes()
    tokens = rows * (1 + prompt / reply)
    attention = 4 * shape.layers * shape.heads * shape.head_dim * context * rows
    computed = 2 * shape.multiplied * tokens + attention
    return Limit(rows, moved, computed, moved / bandwidth, computed / flops)


def main() -> None:
    """Print one JSON object."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", required=True)
    options.add_argument("--memory-gib", type=float, required=True, help="of the GPU, or the part of it that vLLM may take")
    options.add_argument("--bandwidth", type=float, default=4.8e12, help="bytes/s of the GPU's memory")
    options.add_argument("--flops", type=float, default=7.9e14, help="16-bit operations/s")
    options.add_argument("--utilization", type=float, default=0.92)
    options.add_argument("--max-num-seqs", type=at_least_one, default=1024)
    options.add_argument("--prompt-tokens", type=at_least_one, default=110)
    options.add_argument("--mean-tokens", type=at_least_one, default=250)
    options.add_argument("--measured", type=float, help="tokens/s, to be held against the limit")
    given = options.parse_args()
    shape = shape_of(given.model)
    room = given.memory_gib * 2**30 * given.utilization - 2 * shape.weights
    least = limit(shape, room, given.max_num_seqs, given.prompt_tokens, given.mean_tokens, given.bandwidth, given.flops)
    told = {
        "benchmark": "limits",
        "rows_in_flight": least.rows_in_flight,
        "gb_per_step": round(least.bytes_per_step / 1e9, 1),
        "tflop_per_step": round(least.operations_per_step / 1e12, 2),
        "memory_ms": round(1000 * least.memory_seconds, 1),
        "arithmetic_ms": round(1000 * least.arithmetic_seconds, 1),
        "tokens_per_s": round(least.tokens_per_s),
    }
    if given.measured:
        told |= {"measured": given.measured, "share_of_the_limit": round(given.measured / least.tokens_per_s, 3)}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
