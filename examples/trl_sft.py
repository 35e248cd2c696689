"""TRL's `SFTTrainer` on labels that a policy made, with its packing.

python examples/trl_sft.py [--model MODEL] [--data FILE.jsonl] [--policy FILE.policy]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from datasets import load_dataset
from small import model_and_tokenizer
from trl import SFTConfig, SFTTrainer

from policy_engine import Masker, load_policy

HERE = Path(__file__).parent
parser = argparse.ArgumentParser()
parser.add_argument("--model")
parser.add_argument("--data", default=str(HERE / "chats.jsonl"))
parser.add_argument("--policy", default=str(HERE / "chat.policy"))
asked = parser.parse_args()

model, tokenizer = model_and_tokenizer(asked.model)
masker = Masker(load_policy(asked.policy), tokenizer)
rows = load_dataset("json", data_files=asked.data, split="train")
# TRL takes rows with `input_ids` as prepared, and `labels` as they are.
rows = rows.map(masker.batch, batched=True, remove_columns=rows.column_names)

trainer = SFTTrainer(
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
