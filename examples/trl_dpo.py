"""TRL's `DPOTrainer` on pairs of answers that a policy masked.

Users and tools in an answer carry no loss.

python examples/trl_dpo.py [--model MODEL] [--data FILE.jsonl] [--policy FILE.policy]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from datasets import load_dataset
from small import model_and_tokenizer
from trl import DPOConfig, DPOTrainer

from policy_engine import Masker, load_policy
from policy_engine.adapters.preference import masked

HERE = Path(__file__).parent
parser = argparse.ArgumentParser()
parser.add_argument("--model")
parser.add_argument("--data", default=str(HERE / "pairs.jsonl"))
parser.add_argument("--policy", default=str(HERE / "chat.policy"))
asked = parser.parse_args()

model, tokenizer = model_and_tokenizer(asked.model)
reference, _ = model_and_tokenizer(asked.model)
masker = Masker(load_policy(asked.policy), tokenizer)
rows = load_dataset("json", data_files=asked.data, split="train")
rows = rows.map(masker.batch, batched=True, remove_columns=rows.column_names)

trainer = masked(DPOTrainer)(
    model=model,
    ref_model=reference,
    args=DPOConfig(
        output_dir="out",
        max_steps=5,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        max_length=None,
        use_cpu=not torch.cuda.is_available(),
        bf16=torch.cuda.is_available(),
    ),
    train_dataset=rows,
    processing_class=tokenizer,
)
trainer.train()
