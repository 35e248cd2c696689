"""The batch that verl makes of rollouts, and the loss of its actor."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any, Final

from policy_engine.adapters.rollouts import Rollout, rollouts_of, verl_outputs
from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.doctor.samples import Document
from policy_engine.doctor.steps import TakenStep, Task, behind, flat_settings, log_probabilities, parts_of, tiny_model

_ROLLOUT: Final = "actor_rollout_ref.rollout."
_ACTOR: Final = "actor_rollout_ref.actor."
SETTINGS: Final = (
    f"{_ROLLOUT}prompt_length", f"{_ROLLOUT}response_length", f"{_ACTOR}loss_agg_mode", f"{_ACTOR}clip_ratio",
    f"{_ACTOR}clip_ratio_low", f"{_ACTOR}clip_ratio_high", f"{_ACTOR}clip_ratio_c",
)  # fmt: skip
"""Keys of its configuration that matter to the batch and its loss, with their parents."""


def run_verl_ppo(task: Task) -> TakenStep:
    """The loss of verl's `ppo_loss` over the batch that its `AgentLoopWorker` makes.

    Workers, engines and Ray are not started: the tiny model takes the batch as they do, documents end to end, kept
    apart by positions. Log-probabilities of the rows are those of the old policy, else the model's own; rows without
    `advantages` get one number each.
    """
    import torch

    parts = parts_of(
        "verl",
        "experimental.agent_loop.agent_loop.AgentLoopWorker",
        "utils.tensordict_utils.assign_non_tensor",
        "utils.torch_functional.logprobs_from_logits",
        "workers.config.ActorConfig",
        "workers.utils.losses.ppo_loss",
        "workers.utils.padding.left_right_2_no_padding",
        "workers.utils.padding.no_padding_2_padding",
    )
    given = flat_settings(task.settings)
    taken = {name: given[name] for name in SETTINGS if name in given}
    rollouts = rollouts_of(task.rows)
    advantages = [_advantages(rollout, at) for at, rollout in enumerate(rollouts)]
    limits = {
        "prompt_length": taken.get(f"{_ROLLOUT}prompt_length", max(len(r.prompt_ids) for r in rollouts)),
        "response_length": taken.get(f"{_ROLLOUT}response_length", max(len(r.completion_ids) for r in rollouts)),
    }
    actor = {name.removeprefix(_ACTOR): value for name, value in taken.items() if name.startswith(_ACTOR)}
    config = parts.ActorConfig(
        strategy="fsdp", rollout_n=1, ppo_micro_batch_size_per_gpu=len(task.rows), use_torch_compile=False, **actor
    )
    batch = _batch(parts.AgentLoopWorker, task, limits)
    padded = {name: batch[name].clone() for name in batch.keys()}  # noqa: SIM118 - a TensorDict
    data = parts.left_right_2_no_padding(batch)
    model = tiny_model(len(task.vocabulary), task.vocabulary.pad)
    with torch.no_grad():
        ids, positions = data["input_ids"].values(), data["position_ids"].values()
        logits = model(input_ids=ids[None], position_ids=positions[None], use_cache=False).logits[0]
        logs = parts.logprobs_from_logits(logits, torch.roll(ids, -1))
    nested = torch.nested.nested_tensor_from_jagged(logs, data["input_ids"].offsets())
    data["old_log_probs"] = padded.get("rollout_log_probs", parts.no_padding_2_padding(nested, data))
    data["advantages"] = _columns(advantages, padded["response_mask"])
    seen = _seen(padded, data["advantages"], rollouts[0])
    parts.assign_non_tensor(data, dp_size=1, batch_num_tokens=None, global_batch_size=None)
    loss, _ = parts.ppo_loss(config, {"log_probs": nested}, data)
    sampled = {tuple(r.prompt_ids + r.completion_ids): (r, own) for r, own in zip(rollouts, advantages, strict=True)}
    return TakenStep(
        version=version("verl"),
        batch=seen,
        loss=float(loss),
        model=model,
        settings=taken,
        left_out=tuple(sorted(set(given) - set(taken))),
        by_hand=lambda documents: _loss(model, documents, sampled, config, limits["response_length"]),
    )


def _batch(worker_class: Any, task: Task, limits: Mapping[str, int]) -> Any:
    """The rows as verl's worker pads and stacks them, without what starts servers."""
    worker = worker_class.__new__(worker_class)
    worker.rollout_config = SimpleNamespace(**limits)
    worker.tokenizer = task.vocabulary.tokenizer()
    worker.processor, worker.mm_processor_kwargs = None, {}
    worker.reward_loop_worker_handles, worker.distillation_enabled = None, False

    async def padded() -> list[Any]:
        return [
            await worker._agent_loop_postprocess(output, validate=False, raw_prompt=[])
            for output in verl_outputs(task.rows)
        ]

    return worker._postprocess(asyncio.run(padded())).batch


def _advantages(rollout: Rollout, at: int) -> list[float]:
    """The row's own numbers, or one for all of its tokens that no other row has."""
    own = rollout.columns.get("advantages")
    return list(own) if own is not None else [(-1) ** at * (1 + at / 8)] * len(rollout.completion_ids)


def _columns(rows: Sequence[Sequence[float]], like_BT: Any) -> Any:
    import torch

    size = like_BT.shape[1]
    return torch.tensor([[*row, *[0.0] * (size - len(row))] for row in rows], dtype=torch.float32)


def _seen(padded: Mapping[str, Any], advantages_BT: Any, first: Rollout) -> dict[str, Any]:
    """Prompts and responses as sequences, with labels where verl's loss is."""
    import torch

    prompts = padded["prompts"]
    labels = torch.where(padded["response_mask"] != 0, padded["responses"], IGNORE_INDEX)
    made = {
        "input_ids": padded["input_ids"],
        "attention_mask": padded["attention_mask"],
        "labels": behind(prompts, labels, IGNORE_INDEX),
    }
    logprobs = first.logprobs_name
    if logprobs is not None and "rollout_log_probs" in padded:
        made[logprobs] = behind(prompts, padded["rollout_log_probs"], 0.0)
    if "advantages" in first.columns:
        made["advantages"] = behind(prompts, advantages_BT, 0.0)
    return made


def _loss(
    model: Any,
    documents: Sequence[Document],
    sampled: Mapping[tuple[int, ...], tuple[Rollout, Sequence[float]]],
    config: Any,
    longest: int,
) -> float:
    """PPO's clipped loss, token by token."""
    sums, counts = [], []
    for document in documents:
        rollout, advantages = sampled.get(tuple(document.ids), (None, ()))
        if rollout is None:
            continue
        logs = log_probabilities(model, document)
        start = len(rollout.prompt_ids)
        places = [at - start for at, label in enumerate(document.labels) if label != IGNORE_INDEX]
        old = rollout.logprobs
        each = [
            _clipped(log, log if old is None else old[at], advantages[at], config)
            for log, at in zip(logs, places, strict=True)
            if at >= 0
        ]
        sums.append(sum(each))
        counts.append(len(each))
    trained = [(total, count) for total, count in zip(sums, counts, strict=True) if count]
    rows = max(len(trained), 1)
    by_mode: dict[str, float] = {
        "token-mean": sum(sums) / max(sum(counts), 1),
        "token-sum": sum(sums),
        "seq-mean-token-sum": sum(sums) / rows,
        "seq-mean-token-sum-norm": sum(sums) / rows / longest,
        "seq-mean-token-mean": sum(total / count for total, count in trained) / rows,
    }
    return float(by_mode[config.loss_agg_mode])


def _clipped(log: float, old: float, advantage: float, config: Any) -> float:
    ratio: float = math.exp(min(20.0, max(-20.0, log - old)))
    low, high = config.clip_ratio_low, config.clip_ratio_high
    low, high = (config.clip_ratio if bound is None else bound for bound in (low, high))
    loss: float = max(-advantage * ratio, -advantage * min(1 + high, max(1 - low, ratio)))
    return min(loss, -advantage * float(config.clip_ratio_c)) if advantage < 0 else loss
