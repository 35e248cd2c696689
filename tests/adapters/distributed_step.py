"""One step of a weighted `Trainer` over all processes that run this.

Its arguments are the denominator and a folder with `model` and `rows.json`; the first process writes loss and gradient
norm there, to `found.json`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from datasets import Dataset
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from policy_engine.adapters.collate import PaddingCollator
from policy_engine.adapters.weights import weighted_trainer

denominator, folder = sys.argv[1], Path(sys.argv[2])
rows = json.loads((folder / "rows.json").read_text())
processes = int(os.environ.get("WORLD_SIZE", "1"))
trainer = weighted_trainer(Trainer, denominator=denominator)(
    model=AutoModelForCausalLM.from_pretrained(folder / "model"),
    args=TrainingArguments(
        output_dir=str(folder / "out"),
        per_device_train_batch_size=1,
        gradient_accumulation_steps=len(rows) // processes,
        max_steps=1,
        learning_rate=0.0,
        max_grad_norm=1e9,
        report_to=[],
        logging_steps=1,
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
        ddp_backend="gloo" if processes > 1 else None,
    ),
    train_dataset=Dataset.from_list(rows),
    data_collator=PaddingCollator(pad_token_id=0),
)
trainer.train()
if trainer.is_world_process_zero():
    logged = next(entry for entry in trainer.state.log_history if "loss" in entry)
    (folder / "found.json").write_text(json.dumps({name: float(logged[name]) for name in ("loss", "grad_norm")}))
