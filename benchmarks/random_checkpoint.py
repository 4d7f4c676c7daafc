"""A checkpoint with random weights in bf16, of the shape that a folder's config says: right for speed, meaningless for text.

python -m benchmarks.random_checkpoint SHAPE FOLDER                     # as it is: Phi-4's takes 28 GB
python -m benchmarks.random_checkpoint SHAPE FOLDER --layers 8 --llama  # fewer layers; of Llama's kind, as merged checkpoints often are
"""

import argparse
import shutil
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

#: What makes a Llama of the same size from another model's config.
_SIZES = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size"),
    *("max_position_embeddings", "rope_parameters", "rms_norm_eps", "tie_word_embeddings"),
    *("bos_token_id", "eos_token_id", "pad_token_id"),
)


def main() -> None:
    """Make the checkpoint, on a GPU if there is one, and say how large it is."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("shape", type=Path, help="folder with config.json and a tokenizer")
    options.add_argument("folder", type=Path)
    options.add_argument("--layers", type=int)
    options.add_argument("--llama", action="store_true")
    given = options.parse_args()
    config = AutoConfig.from_pretrained(given.shape)
    if given.layers:
        config.num_hidden_layers = given.layers
    if given.llama:
        config = LlamaConfig(**{name: getattr(config, name) for name in _SIZES})
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(config)
    given.folder.mkdir(parents=True, exist_ok=True)
    for file in given.shape.iterdir():
        if file.suffix in (".json", ".jinja") and file.name != "config.json" and not file.name.endswith(".index.json"):
            shutil.copy(file, given.folder)
    model.save_pretrained(given.folder)
    print(f"{model.num_parameters() / 1e9:.2f} billion weights of the kind {config.model_type} in {given.folder}")


if __name__ == "__main__":
    main()
