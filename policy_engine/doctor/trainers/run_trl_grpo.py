"""One step of TRL's `GRPOTrainer` over rollouts that are given."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any, Final
from zlib import crc32

from policy_engine.adapters.rollouts import rollout_of, trl_rollouts
from policy_engine.core.errors import ConfigError
from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.doctor.samples import Document
from policy_engine.doctor.steps import TakenStep, Task, behind, log_probabilities
from policy_engine.doctor.trainers.hooks import watched
from policy_engine.doctor.trainers.run_transformers import run_trainer

LOSSES: Final = ("grpo", "bnpo", "dr_grpo", "dapo", "cispo")
"""Kinds of loss (`loss_type`) that are computed by hand."""
_NOT_HERE: Final = frozenset(
    {"num_generations", "num_generations_eval", "generation_batch_size", "steps_per_generation", "num_iterations",
     "use_vllm", "max_prompt_length", "shuffle_dataset"}
)  # fmt: skip
"""Settings of sampling: here the rows are what was sampled, all of them in one step."""


def run_trl_grpo(task: Task) -> TakenStep:
    """A step of `trl.GRPOTrainer` whose `rollout_func` gives the rows.

    All rows are one group. Their rewards are made up from their ids, so that the advantages differ.
    """
    trl: Any = import_module("trl")
    if "rollout_func" not in inspect.signature(trl.GRPOTrainer.__init__).parameters:
        raise ConfigError(
            f"trl {trl.__version__} has a GRPOTrainer that takes no `rollout_func`", help="install a later trl"
        )
    if len(task.rows) < 2:
        raise ConfigError(
            "GRPO compares completions with each other, and there is one row", help="give it two rows or more"
        )
    given = {name: value for name, value in task.settings.items() if name not in _NOT_HERE}
    kind = given.get("loss_type", "dapo")
    if kind not in LOSSES:
        raise ConfigError(
            f"the loss of `loss_type` `{kind}` is not computed by hand here", help=f"known are {', '.join(LOSSES)}"
        )
    made: dict[str, Any] = {}

    def make(model: Any, args: Any, dataset: Any) -> Any:
        made["args"] = args
        return trl.GRPOTrainer(
            model=model,
            args=args,
            train_dataset=type(dataset).from_dict({"prompt": ["rollout"] * len(task.rows)}),
            processing_class=task.vocabulary.tokenizer(),
            reward_funcs=_rewards,
            rollout_func=lambda prompts, trainer: trl_rollouts(task.rows),
        )

    step = run_trainer(
        replace(task, settings={**given, "loss_type": kind}),
        trl.GRPOConfig,
        make,
        version=trl.__version__,
        always={"num_generations": len(task.rows), "steps_per_generation": 1},
        watch=partial(watched, method="_compute_loss"),
    )
    batch = _whole(step.batch, rollout_of(task.rows[0]).logprobs_name)
    advantages = _advantages(step.batch)
    return replace(
        step,
        batch=batch,
        by_hand=lambda documents: _loss(step.model, documents, advantages, made["args"]),
        left_out=(*step.left_out, *sorted(_NOT_HERE & task.settings.keys())),
    )


def _rewards(completion_ids: Sequence[Sequence[int]], **rest: Any) -> list[float]:
    return [crc32(bytes(str(list(ids)), "ascii")) / 2**32 for ids in completion_ids]


def _whole(batch: Mapping[str, Any], logprobs: str | None) -> dict[str, Any]:
    """Prompts and completions as sequences, with labels where TRL's loss is."""
    import torch

    prompts, completions = batch["prompt_ids"], batch["completion_ids"]
    mask = batch["completion_mask"]
    if "tool_mask" in batch:
        mask = mask * batch["tool_mask"]
    whole = {
        "input_ids": torch.cat([prompts, completions], dim=1),
        "attention_mask": torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1),
        "labels": behind(prompts, torch.where(mask != 0, completions, IGNORE_INDEX), IGNORE_INDEX),
    }
    if logprobs is not None and "sampling_per_token_logps" in batch:
        whole[logprobs] = behind(prompts, batch["sampling_per_token_logps"], 0.0)
    return whole


def _advantages(batch: Mapping[str, Any]) -> dict[tuple[int, ...], float]:
    """The advantage that TRL computed for each sequence, by its ids."""
    found = {}
    for at, advantage in enumerate(batch["advantages"].tolist()):
        ids = [
            *batch["prompt_ids"][at][batch["prompt_mask"][at] != 0].tolist(),
            *batch["completion_ids"][at][batch["completion_mask"][at] != 0].tolist(),
        ]
        found[tuple(ids)] = advantage
    return found


def _loss(model: Any, documents: Sequence[Document], advantages: Mapping[tuple[int, ...], float], args: Any) -> float:
    """GRPO's loss of a first step.

    The model is still the one that sampled, so every ratio is 1.
    """
    sums, counts = [], []
    for document in documents:
        advantage = advantages.get(tuple(document.ids), 0.0)
        logs = log_probabilities(model, document, temperature=args.temperature)
        if args.loss_type == "cispo":
            high = args.epsilon if args.epsilon_high is None else args.epsilon_high
            each = [-min(1.0, high) * advantage * log for log in logs]
        else:
            each = [-advantage] * len(logs)
        sums.append(sum(each))
        counts.append(len(each))
    return _AVERAGES[args.loss_type](sums, counts, args)


def _by_row(sums: list[float], counts: list[int], args: Any) -> float:
    return sum(total / max(count, 1) for total, count in zip(sums, counts, strict=True)) / max(len(sums), 1)


def _by_token(sums: list[float], counts: list[int], args: Any) -> float:
    return sum(sums) / max(sum(counts), 1)


def _by_length(sums: list[float], counts: list[int], args: Any) -> float:
    return sum(sums) / (max(len(sums), 1) * int(args.max_completion_length))


_AVERAGES: Final[dict[str, Callable[[list[float], list[int], Any], float]]] = {
    "grpo": _by_row, "bnpo": _by_token, "dapo": _by_token, "cispo": _by_token, "dr_grpo": _by_length,
}  # fmt: skip
