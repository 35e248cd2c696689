"""One step as verl's SFT trainer takes it: its dataset class, its collator and its loss."""

from __future__ import annotations

import json
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.doctor.steps import TakenStep, Task, flat_settings, parts_of, tiny_model

SETTINGS: Final = ("data.max_length", "data.truncation", "data.pad_mode")
"""Keys of its configuration that matter to a batch and its loss, with their parents."""


def run_verl(task: Task) -> TakenStep:
    """The loss of verl's `sft_loss` over rows that `PolicySFTDataset` reads.

    verl's engines are not run: the tiny model takes the batch as they do, documents end to end, told apart by
    positions.
    """
    import torch

    parts = parts_of(
        "verl",
        "utils.dataset.dataset_utils.SFTTensorCollator",
        "utils.import_utils.load_extern_object",
        "utils.tensordict_utils.assign_non_tensor",
        "utils.torch_functional.logprobs_from_logits",
        "workers.utils.losses.sft_loss",
    )
    given = flat_settings(task.settings)
    taken: dict[str, Any] = {name: given[name] for name in SETTINGS if name in given}
    config = {**_defaults(), **{name.removeprefix("data."): value for name, value in taken.items()}}
    file = Path(task.folder) / "rows.jsonl"
    kept = ("input_ids", task.sample.mask_column, "loss_weights", "position_ids")
    rows = [{name: row[name] for name in kept if row.get(name) is not None} for row in task.rows]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    dataset_class = parts.load_extern_object("pkg://policy_engine.adapters.verl", "PolicySFTDataset")
    dataset = dataset_class(parquet_files=str(file), tokenizer=task.vocabulary.tokenizer(), config=config)
    batch = parts.SFTTensorCollator(config["pad_mode"])([dataset[i] for i in range(len(dataset))])
    ids, weights, positions = (batch[name].values() for name in ("input_ids", "loss_mask", "position_ids"))
    model = tiny_model(len(task.vocabulary), task.vocabulary.pad)
    with torch.no_grad():
        logits = model(input_ids=ids[None], position_ids=positions[None], use_cache=False).logits[0]
        # Rolled over the whole batch: the last token of a document gets the next one's first, which its mask leaves
        # out.
        logs = parts.logprobs_from_logits(logits, torch.roll(ids, -1))
    data = import_module("tensordict").TensorDict({"loss_mask": batch["loss_mask"]}, batch_size=[len(dataset)])
    # What verl's workers sum over all processes before the loss; here there is one.
    parts.assign_non_tensor(data, dp_size=1, batch_num_tokens=float(weights.sum()))
    nested = torch.nested.nested_tensor_from_jagged(logs, batch["input_ids"].offsets())
    loss, _ = parts.sft_loss(None, {"log_probs": nested}, data)
    seen = {
        "input_ids": ids[None],
        "labels": torch.where(weights != 0, ids, IGNORE_INDEX)[None],
        "position_ids": positions[None],
    }
    if task.sample.weighted:
        seen["loss_weights"] = weights[None]
    return TakenStep(
        version=version("verl"),
        batch=seen,
        loss=float(loss),
        model=model,
        settings=taken,
        left_out=tuple(sorted(set(given) - set(taken))),
    )


def _defaults() -> dict[str, Any]:
    """Settings of verl's own configuration for its data."""
    import yaml

    folder = import_module("verl.trainer").__path__[0]
    text = (Path(folder) / "config" / "sft_trainer_engine.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)["data"]
    return {name: found[name] for name in ("max_length", "truncation", "pad_mode") if name in found}
