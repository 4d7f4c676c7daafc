"""One step of TRL's ORPO on the demo model, on the CPU; run as a program, since it loads torch.

``python -m tests.training_step PAIRS`` prints what the batch was made of, and what came of the step, as one JSON object.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from workers.engines.demo_model import demo_model_path


def main(path: Path) -> dict[str, Any]:
    """Train on a batch of all pairs of a file, as its owner would."""
    kind = {".jsonl": "json", ".parquet": "parquet"}[path.suffix]
    with tempfile.TemporaryDirectory() as folder:
        pairs = datasets.load_dataset(kind, data_files=str(path), split="train", cache_dir=folder)
        tokenizer = AutoTokenizer.from_pretrained(demo_model_path())
        model = AutoModelForCausalLM.from_pretrained(demo_model_path(), dtype=torch.float32)
        config = ORPOConfig(
            output_dir=folder,
            max_steps=1,
            per_device_train_batch_size=len(pairs),
            max_length=256,
            learning_rate=1e-3,
            logging_steps=1,
            optim="sgd",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            save_strategy="no",
            report_to=[],
            remove_unused_columns=False,
        )
        trainer = ORPOTrainer(model=model, args=config, train_dataset=pairs, processing_class=tokenizer)
        weights = model.model.layers[0].mlp.up_proj.weight.detach().clone()
        loss = trainer.train().training_loss
        moved = (model.model.layers[0].mlp.up_proj.weight - weights).abs().max().item()
        batch = trainer.data_collator(list(trainer.train_dataset))
    return {
        "columns": pairs.column_names,
        "loss": loss,
        "moved": moved,
        "pairs": [{side: _side(batch, tokenizer, number, side) for side in ("chosen", "rejected")} for number in range(len(pairs))],
    }


def _side(batch: dict[str, Any], tokenizer: Any, number: int, side: str) -> dict[str, str]:
    """Return what of an example is read only, and what is learned."""
    ids, labels, mask = (batch[f"{side}_{name}"][number] for name in ("input_ids", "labels", "attention_mask"))
    there, learned = mask.bool(), labels != -100
    assert not (learned & ~there).any(), "padding is learned"
    return {"read": tokenizer.decode(ids[there & ~learned]), "learned": tokenizer.decode(ids[learned])}


if __name__ == "__main__":
    print("STEP", json.dumps(main(Path(sys.argv[1]))))
