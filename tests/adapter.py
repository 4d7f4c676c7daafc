"""LoRA adapters of random numbers: one that changes what the demo model says, spoilt ones, and what the merged model would say."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from workers.engines.demo_model import demo_model_path

LAYERS, HIDDEN, RANK, ALPHA = 30, 576, 8, 16
OUTPUTS = {"q_proj": 576, "v_proj": 192}


def make_adapter(folder: Path, strength: float = 0.3, inside: str = "model.layers", hidden: int = HIDDEN, rank: int = RANK) -> Path:
    """Write an adapter for the demo model; other values than the defaults spoil it."""
    folder.mkdir(exist_ok=True)
    random = torch.Generator().manual_seed(0)
    weights = {}
    for layer in range(LAYERS):
        for module, outputs in OUTPUTS.items():
            name = f"base_model.model.{inside}.{layer}.self_attn.{module}"
            weights[f"{name}.lora_A.weight"] = torch.randn(rank, hidden, generator=random) / 80
            weights[f"{name}.lora_B.weight"] = torch.randn(outputs, rank, generator=random) * strength
    save_file(weights, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": list(OUTPUTS), "task_type": "CAUSAL_LM"}
    (folder / "adapter_config.json").write_text(json.dumps(config | {"bias": "none", "base_model_name_or_path": "demo"}))
    return folder


def merged_reply(adapter: Path, question: str, tokens: int) -> str:
    """Return the greedy reply of the demo model with the adapter added to its weights, by transformers alone."""
    path = str(demo_model_path())
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    parameters, weights = dict(model.named_parameters()), load_file(adapter / "adapter_model.safetensors")
    for name, lora_a in weights.items():
        if ".lora_A." in name:
            target = parameters[name.removeprefix("base_model.model.").replace(".lora_A", "")]
            target.data += ALPHA / RANK * weights[name.replace("lora_A", "lora_B")] @ lora_a
    conversation = [{"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(conversation, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    reply = model.generate(**prompt, max_new_tokens=tokens, do_sample=False)[0][prompt["input_ids"].shape[1] :]
    return str(tokenizer.decode(reply, skip_special_tokens=True))
