"""Writes a LoRA adapter for the tiny chat model: a second model to ask for, which changes nothing.

Usage: python adapter.py CHAT_MODEL_DIR OUT_DIR
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

RANK = 8


def main() -> None:
    """Writes it."""
    parser = argparse.ArgumentParser(description="Writes a LoRA adapter for the tiny chat model.")
    parser.add_argument("base", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    config = json.loads((options.base / "config.json").read_text(encoding="utf-8"))
    width = config["hidden_size"]
    weights = {}
    for layer in range(config["num_hidden_layers"]):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        weights[f"{name}.lora_A.weight"] = torch.zeros(RANK, width)
        weights[f"{name}.lora_B.weight"] = torch.zeros(config["num_attention_heads"] * config["head_dim"], RANK)
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": options.base.name,
        "r": RANK,
        "lora_alpha": RANK,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": ["q_proj"],
    }
    options.out.mkdir(parents=True, exist_ok=True)
    save_file(weights, options.out / "adapter_model.safetensors")
    (options.out / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")


if __name__ == "__main__":
    main()
