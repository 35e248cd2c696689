"""Masked rows as rollouts for reinforcement learning: TRL's GRPO and verl's PPO.

    {"input_ids": [1, 2, 3, 4, 5], "labels": [-100, -100, 3, -100, 5], "logprobs": [0, 0, -0.1, 0, -0.2]}
    prompt 1 2, completion 3 4 5, loss mask 1 0 1, log-probabilities -0.1 0 -0.2

Nothing is tokenized, and the mask is the policy's: a tool's result inside a completion carries no loss.

    GRPOTrainer(…, rollout_func=lambda prompts, trainer: trl_rollouts(rows_of(prompts)))
    outputs = verl_outputs(rows)  # what an agent loop of verl returns
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final

from policy_engine.core.errors import RowError
from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.data.prepared import check_lengths, is_per_token
from policy_engine.data.token_columns import NAMES

LOGPROBS: Final = (
    "logprobs", "rollout_log_probs", "response_logprobs", "completion_logprobs", "sampling_per_token_logps",
)  # fmt: skip
"""Names of a column with the log-probabilities of the sampled tokens; the first that a row has is taken."""
_NOT_NUMBERS: Final = frozenset(
    {"input_ids", "labels", "attention_mask", "loss_weights", "position_ids", "seq_lengths", *NAMES["sampled"]}
)


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """A masked row, cut into the prompt and what follows.

    `loss_mask` has 1 for each token of the completion that is trained, else 0. `columns` are the row's further columns
    with a number for each token, those of the completion.
    """

    prompt_ids: list[int]
    completion_ids: list[int]
    loss_mask: list[int]
    columns: Mapping[str, list[float]] = field(default_factory=dict)

    @property
    def logprobs(self) -> list[float] | None:
        """The completion's log-probabilities, from a column of `LOGPROBS`; None without one."""
        return next((self.columns[name] for name in LOGPROBS if name in self.columns), None)


def rollout_of(row: Mapping[str, Any], *, number: int | None = None) -> Rollout:
    """A masked row of one conversation as prompt, completion and loss mask.

    The completion begins with the first token that was sampled, if the row carries the marks (`carry:
    [completion_mask]` in the dataset file); else with the first that is trained. Of a row that trains nothing it is the
    last token. Either way the same tokens have loss. `number` names the row in errors.

    Raises RowError for a row that is not masked, is packed, has weights (neither trainer takes them), or is one token.

    >>> rollout_of({"input_ids": [1, 2, 3, 4], "labels": [-100, -100, 3, -100]}).loss_mask
    [1, 0]
    """
    place = "the row" if number is None else f"row {number}"
    ids, labels = _list(row.get("input_ids")), _list(row.get("labels"))
    if not ids or row.get("labels") is None:
        raise RowError(f"{place} has no `input_ids` or no `labels`", help="give rows that a policy masked")
    check_lengths({"labels": labels}, ["labels"], len(ids), place)
    if len(_list(row.get("seq_lengths"))) > 1 or _list(row.get("position_ids")).count(0) > 1:
        raise RowError(f"{place} is packed, and a rollout is one conversation", help="mask without `--pack`")
    if any(label not in (IGNORE_INDEX, i) for label, i in zip(labels, ids, strict=True)):
        raise RowError(f"a label of {place} is not the id of its token", help="give labels that are not shifted")
    weights = row.get("loss_weights")
    if weights is not None and any(w not in (0, 1) for w in _list(weights)):
        raise RowError(
            f"{place} has weights, and the loss of a rollout has no place for them",
            help="leave weights out of the policy, or multiply the advantages by them yourself",
        )
    if len(ids) < 2:
        raise RowError(f"{place} has {len(ids)} token, and a rollout has a prompt and a completion", help="drop it")
    start = _start(row, labels)
    columns = {
        name: [float(v) for v in _list(value)][start:]
        for name, value in row.items()
        if name not in _NOT_NUMBERS and is_per_token(value, len(ids))
    }
    return Rollout(
        prompt_ids=ids[:start],
        completion_ids=ids[start:],
        loss_mask=[int(label != IGNORE_INDEX) for label in labels[start:]],
        columns=columns,
    )


def trl_rollouts(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The columns that a `rollout_func` of TRL's GRPO trainer returns.

    `prompt_ids`, `completion_ids`, `logprobs` (None where a row lacks them), and the loss mask as `env_mask`; further
    columns keep their names and reach the reward functions. Raises RowError as `rollout_of`.
    """
    made = [rollout_of(row, number=at) for at, row in enumerate(rows)]
    logs = [rollout.logprobs for rollout in made]
    names = set.intersection(*(set(rollout.columns) for rollout in made)) - set(LOGPROBS) if made else set()
    return {
        "prompt_ids": [rollout.prompt_ids for rollout in made],
        "completion_ids": [rollout.completion_ids for rollout in made],
        "logprobs": None if None in logs else logs,
        "env_mask": [rollout.loss_mask for rollout in made],
        **{name: [list(rollout.columns[name]) for rollout in made] for name in sorted(names)},
    }


def verl_outputs(rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The rows as `AgentLoopOutput` of verl, which an agent loop returns.

    The loss mask is their `response_mask`. Raises RowError as `rollout_of`, and ImportError without verl.
    """
    loop = import_module("verl.experimental.agent_loop.agent_loop")
    made = [rollout_of(row, number=at) for at, row in enumerate(rows)]
    return [
        loop.AgentLoopOutput(
            prompt_ids=rollout.prompt_ids,
            response_ids=rollout.completion_ids,
            response_mask=rollout.loss_mask,
            response_logprobs=rollout.logprobs,
            metrics=loop.AgentLoopMetrics(),
        )
        for rollout in made
    ]


def _start(row: Mapping[str, Any], labels: Sequence[int]) -> int:
    """The place of the completion's first token.

    It is at least 1, since nothing predicts the first token.
    """
    marks = next((row[name] for name in NAMES["sampled"] if is_per_token(row.get(name), len(labels))), None)
    flags = [label != IGNORE_INDEX for label in labels]
    if marks is not None:
        flags = [bool(mark) or flag for mark, flag in zip(_list(marks), flags, strict=True)]
    first = next((at for at, flag in enumerate(flags) if flag), len(labels) - 1)
    return max(1, first)


def _list(value: Any) -> list[Any]:
    return [] if value is None else value.tolist() if hasattr(value, "tolist") else list(value)
