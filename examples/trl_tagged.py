"""TRL's `SFTTrainer` with `assistant_only_loss` and a chat template that a policy tagged.

python examples/trl_tagged.py [--model MODEL] [--data FILE.jsonl] [--policy FILE.policy]

The rows stay messages: TRL renders and masks them itself. `policy-engine tag` does the same on the command line.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from datasets import load_dataset
from small import model_and_tokenizer
from trl import SFTConfig, SFTTrainer

from policy_engine import ChatTokenizer, load_policy
from policy_engine.tagging import tag_template

HERE = Path(__file__).parent
parser = argparse.ArgumentParser()
parser.add_argument("--model")
parser.add_argument("--data", default=str(HERE / "chats.jsonl"))
parser.add_argument("--policy", default=str(HERE / "chat.policy"))
asked = parser.parse_args()

model, tokenizer = model_and_tokenizer(asked.model)
template = ChatTokenizer.from_transformers(tokenizer).template
tokenizer.chat_template = tag_template(template, load_policy(asked.policy)).source

trainer = SFTTrainer(
    model=model,
    args=SFTConfig(
        output_dir="out",
        assistant_only_loss=True,
        max_steps=5,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=not torch.cuda.is_available(),
        bf16=torch.cuda.is_available(),
    ),
    train_dataset=load_dataset("json", data_files=asked.data, split="train"),
    processing_class=tokenizer,
)
trainer.train()
