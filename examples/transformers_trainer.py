"""transformers' `Trainer` on labels that a policy made.

python examples/transformers_trainer.py [--model MODEL] [--data FILE.jsonl] [--policy FILE.policy]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from datasets import load_dataset
from small import model_and_tokenizer
from transformers import Trainer, TrainingArguments

from policy_engine import Masker, load_policy
from policy_engine.adapters.collate import PaddingCollator

HERE = Path(__file__).parent
parser = argparse.ArgumentParser()
parser.add_argument("--model")
parser.add_argument("--data", default=str(HERE / "chats.jsonl"))
parser.add_argument("--policy", default=str(HERE / "chat.policy"))
asked = parser.parse_args()

model, tokenizer = model_and_tokenizer(asked.model)
masker = Masker(load_policy(asked.policy), tokenizer)
rows = load_dataset("json", data_files=asked.data, split="train")
rows = rows.map(masker.batch, batched=True, remove_columns=rows.column_names)

trainer = Trainer(
    model=model,
    args=TrainingArguments(output_dir="out", max_steps=5, logging_steps=1, save_strategy="no", report_to=[]),
    train_dataset=rows,
    data_collator=PaddingCollator(pad_token_id=tokenizer.pad_token_id),
)
trainer.train()
