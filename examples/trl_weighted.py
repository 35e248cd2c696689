"""Weights of a policy in TRL's `SFTTrainer`: they ride on the labels through its packing.

python examples/trl_weighted.py [--model MODEL] [--data FILE.jsonl] [--policy FILE.policy]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from datasets import load_dataset
from small import model_and_tokenizer
from trl import SFTConfig, SFTTrainer

from policy_engine import Masker, load_policy
from policy_engine.adapters.weights import WeightCodes, weighted_trainer

HERE = Path(__file__).parent
parser = argparse.ArgumentParser()
parser.add_argument("--model")
parser.add_argument("--data", default=str(HERE / "chats.jsonl"))
parser.add_argument("--policy", default=str(HERE / "weighted.policy"))
asked = parser.parse_args()

model, tokenizer = model_and_tokenizer(asked.model)
masker = Masker(load_policy(asked.policy), tokenizer)
rows = load_dataset("json", data_files=asked.data, split="train")
rows = rows.map(masker.batch, batched=True, remove_columns=rows.column_names)
codes = WeightCodes.of(rows["loss_weights"])
rows = rows.map(
    lambda row: {"labels": codes.encode(row["labels"], row["loss_weights"])}, remove_columns=["loss_weights"]
)

# "weights": the sum of weight times loss, over the sum of the weights of the whole step.
WeightedTrainer = weighted_trainer(SFTTrainer, denominator="weights", codes=codes)
trainer = WeightedTrainer(
    model=model,
    args=SFTConfig(
        output_dir="out",
        max_steps=5,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        packing=True,
        max_length=512,
        use_cpu=not torch.cuda.is_available(),
        bf16=torch.cuda.is_available(),
    ),
    train_dataset=rows,
    processing_class=tokenizer,
)
trainer.train()
