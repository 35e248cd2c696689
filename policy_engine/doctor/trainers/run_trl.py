"""One step of TRL's `SFTTrainer`."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import Any

from policy_engine.adapters.collate import PaddingCollator
from policy_engine.adapters.weights import WeightCodes, weighted_trainer
from policy_engine.doctor.steps import TakenStep, Task
from policy_engine.doctor.trainers.run_transformers import run_trainer


def run_trl(task: Task) -> TakenStep:
    """A step of `trl.SFTTrainer`.

    It prepares the dataset, packs it if its settings say so, and collates by itself. Where it packs or leaves out
    padding, weights ride on the labels, which is all that it carries along.
    """
    trl: Any = import_module("trl")
    tokenizer = task.vocabulary.tokenizer()
    ride = task.denominator is not None and (task.settings.get("packing") or task.settings.get("padding_free"))
    codes = WeightCodes.of([row["loss_weights"] for row in task.rows]) if ride else None

    def make(model: Any, args: Any, dataset: Any) -> Any:
        given = {"model": model, "args": args, "train_dataset": dataset, "processing_class": tokenizer}
        if task.denominator is None:
            return trl.SFTTrainer(**given)
        if codes is None:
            given["data_collator"] = PaddingCollator(pad_token_id=tokenizer.pad_token_id)
        return weighted_trainer(trl.SFTTrainer, denominator=task.denominator, codes=codes)(**given)

    if codes is None:
        return run_trainer(task, trl.SFTConfig, make, version=trl.__version__)
    rows = [{**row, "labels": codes.encode(row["labels"], row["loss_weights"])} for row in task.rows]
    rows = [{name: column for name, column in row.items() if name != "loss_weights"} for row in rows]
    step = run_trainer(replace(task, rows=rows), trl.SFTConfig, make, version=trl.__version__)
    # Back from codes, so that batch and data are compared in one form.
    labels, weights = codes.decode(step.batch["labels"])
    return replace(step, batch={**step.batch, "labels": labels, "loss_weights": weights})
