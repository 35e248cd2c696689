"""One step as torchtune's recipes take it: its transform, packing, collators and loss."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final

from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.data.prepared import mask_of
from policy_engine.doctor.steps import TakenStep, Task, flat_settings, parts_of, tiny_model

SETTINGS: Final = ("dataset.packed", "dataset.split_across_pack", "tokenizer.max_seq_len", "loss.num_output_chunks")
"""Settings of torchtune that change the batch or its loss, as dotted paths."""


def run_torchtune(task: Task) -> TakenStep:
    """The loss of a recipe's `_loss_step`.

    torchtune's own models are not run: the tiny one takes its batch.
    """
    import torch

    parts = parts_of(
        "torchtune",
        "data.padded_collate_sft",
        "data.padded_collate_packed",
        "datasets.PackedDataset",
        "datasets._sft.SFTTransform",
        "modules.loss.CEWithChunkedOutputLoss",
    )
    given = flat_settings(task.settings)
    taken: dict[str, Any] = {name: given[name] for name in SETTINGS if name in given}
    transform = parts.SFTTransform(model_transform=_as_tokens)
    samples = [transform(row) for row in task.rows]
    pad = task.vocabulary.pad
    batch: dict[str, Any]
    if taken.get("dataset.packed"):
        packed = parts.PackedDataset(
            samples,
            max_seq_len=taken.get("tokenizer.max_seq_len"),
            padding_idx=pad,
            split_across_pack=bool(taken.get("dataset.split_across_pack", False)),
        )
        batch = parts.padded_collate_packed([packed[i] for i in range(len(packed))])
        lengths = [packed[i]["seq_lens"].tolist() for i in range(len(packed))]
        # Documents numbered from 1, as `stretches` reads masks: torchtune itself has lengths.
        counted = [[n for n, size in enumerate(row, 1) for _ in range(size)] for row in lengths]
        seen = {"attention_mask": torch.tensor(counted), "position_ids": batch["input_pos"]}
        # True where a token may look, as torchtune's attention takes it; transformers' takes it for all heads at once.
        extra = {"attention_mask": batch["mask"][:, None], "position_ids": batch["input_pos"]}
    else:
        batch = parts.padded_collate_sft(samples, padding_idx=pad, ignore_idx=IGNORE_INDEX)
        sizes, longest = [len(sample["tokens"]) for sample in samples], batch["tokens"].shape[1]
        seen = {"attention_mask": torch.tensor([[1] * size + [0] * (longest - size) for size in sizes])}
        extra = {}  # its recipes give no mask here: padding is behind every token that counts
    model = tiny_model(len(task.vocabulary), pad)
    # As its recipes do: labels shifted behind the collator, logits in chunks.
    chunks = int(taken.get("loss.num_output_chunks", 8))
    ahead = torch.full_like(batch["labels"][:, :1], IGNORE_INDEX)
    labels = torch.hstack((batch["labels"][:, 1:], ahead))
    with torch.no_grad():
        logits = model(input_ids=batch["tokens"], **extra).logits
        loss = parts.CEWithChunkedOutputLoss(num_output_chunks=chunks, ignore_index=IGNORE_INDEX)(
            list(logits.chunk(chunks, dim=1)), labels
        )
    return TakenStep(
        version=version("torchtune"),
        batch={"input_ids": batch["tokens"], "labels": batch["labels"], **seen},
        loss=float(loss),
        model=model,
        settings=taken,
        left_out=tuple(sorted(set(given) - set(taken))),
    )


def _as_tokens(row: Mapping[str, Any]) -> dict[str, Any]:
    """A masked row as a model transform gives it.

    torchtune's mask is True where there is no loss.

    >>> _as_tokens({"input_ids": [5, 6], "labels": [-100, 6]})
    {'tokens': [5, 6], 'mask': [True, False]}
    """
    ids, _, trained, _ = mask_of(row, 1)
    return {"tokens": list(ids), "mask": [not flag for flag in trained]}
