"""One step of TRL's `SFTTrainer`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from policy_engine.adapters.collate import PaddingCollator
from policy_engine.adapters.doctor.run_transformers import run_trainer
from policy_engine.adapters.doctor.steps import Step, Task
from policy_engine.adapters.weights import weighted_trainer


def run_trl(task: Task) -> Step:
    """A step of `trl.SFTTrainer`, which prepares the dataset, packs it if told so, and collates by itself."""
    trl: Any = import_module("trl")
    tokenizer = task.vocabulary.tokenizer()

    def make(model: Any, args: Any, dataset: Any) -> Any:
        given = {"model": model, "args": args, "train_dataset": dataset, "processing_class": tokenizer}
        if task.denominator is None:
            return trl.SFTTrainer(**given)
        collator = PaddingCollator(pad_token_id=tokenizer.pad_token_id)
        return weighted_trainer(trl.SFTTrainer, denominator=task.denominator)(**given, data_collator=collator)

    return run_trainer(task, trl.SFTConfig, make, version=trl.__version__)
