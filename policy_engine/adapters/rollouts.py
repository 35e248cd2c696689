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

from policy_engine.adapters.documents import documents_of
from policy_engine.core.errors import RowError
from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.data.prepared import check_lengths, own_columns
from policy_engine.data.token_columns import NAMES, marks_of

LOGPROBS: Final = (
    "logprobs", "rollout_log_probs", "response_logprobs", "completion_logprobs", "sampling_per_token_logps",
)  # fmt: skip
"""Names of a column with the log-probabilities of the sampled tokens; the first that a row has is taken."""


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
    def logprobs_name(self) -> str | None:
        """The column of `LOGPROBS` that the row has; None without one."""
        return next((name for name in LOGPROBS if name in self.columns), None)

    @property
    def logprobs(self) -> list[float] | None:
        """The completion's log-probabilities; None without them."""
        name = self.logprobs_name
        return None if name is None else self.columns[name]


def rollout_of(row: Mapping[str, Any]) -> Rollout:
    """A masked row of one conversation as prompt, completion and loss mask.

    The completion begins with the first token that was sampled, if the row carries the marks (`carry:
    [completion_mask]` in the dataset file); else with the first trained token. If nothing is trained, the completion is
    the last token. The same tokens have loss in each case. Errors name the row by its column `row`.

    Raises RowError as `documents_of`, and for a row that is packed, has weights (neither trainer takes them), is one
    token, or has log-probabilities for another number of tokens.

    >>> rollout_of({"input_ids": [1, 2, 3, 4], "labels": [-100, -100, 3, -100]}).loss_mask
    [1, 0]
    """
    document, *others = documents_of(row)
    if others:
        raise RowError(f"{document.name} is packed, and a rollout is one conversation", help="mask without `--pack`")
    if document.is_weighted:
        raise RowError(
            f"{document.name} has weights, and the loss of a rollout has no place for them",
            help="leave weights out of the policy, or multiply the advantages by them yourself",
        )
    ids = document.ids_T.tolist()
    if len(ids) < 2:
        raise RowError(
            f"{document.name} has {len(ids)} token, and a rollout has a prompt and a completion", help="leave it out"
        )
    check_lengths(row, LOGPROBS, len(ids), document.name)
    trained = (document.labels_T != IGNORE_INDEX).tolist()
    start = _start(trained, marks_of(row, len(ids)))
    names = [name for name in own_columns(row, len(ids)) if name not in NAMES["sampled"]]
    return Rollout(
        prompt_ids=ids[:start],
        completion_ids=ids[start:],
        loss_mask=[int(flag) for flag in trained[start:]],
        columns={name: [float(value) for value in row[name]][start:] for name in names},
    )


def trl_rollouts(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The columns that a `rollout_func` of TRL's GRPO trainer returns.

    `prompt_ids`, `completion_ids`, `logprobs` (None if no row has them), and the loss mask as `env_mask`; further
    columns keep their names and reach the reward functions. Raises RowError as `rollouts_of`.
    """
    made = rollouts_of(rows)
    logs = [rollout.logprobs for rollout in made]
    names = made[0].columns.keys() if made else ()
    return {
        "prompt_ids": [rollout.prompt_ids for rollout in made],
        "completion_ids": [rollout.completion_ids for rollout in made],
        "logprobs": logs if made and made[0].logprobs is not None else None,
        "env_mask": [rollout.loss_mask for rollout in made],
        **{name: [list(rollout.columns[name]) for rollout in made] for name in sorted(set(names) - set(LOGPROBS))},
    }


def verl_outputs(rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The rows as `AgentLoopOutput` of verl, which an agent loop returns.

    The loss mask is their `response_mask`. Raises RowError as `rollouts_of`, and ImportError without verl.
    """
    loop = import_module("verl.experimental.agent_loop.agent_loop")
    return [
        loop.AgentLoopOutput(
            prompt_ids=rollout.prompt_ids,
            response_ids=rollout.completion_ids,
            response_mask=rollout.loss_mask,
            response_logprobs=rollout.logprobs,
            metrics=loop.AgentLoopMetrics(),
        )
        for rollout in rollouts_of(rows)
    ]


def rollouts_of(rows: Sequence[Mapping[str, Any]]) -> list[Rollout]:
    """The rows as rollouts, all with the same columns.

    Errors count rows from 1. Raises RowError as `rollout_of`, and for a column that some rows have and others lack.
    """
    made = [rollout_of({"row": at, **row}) for at, row in enumerate(rows, 1)]
    for at, rollout in enumerate(made, 1):
        odd = made[0].columns.keys() ^ rollout.columns.keys()
        if odd:
            has, lacks = (1, at) if min(odd) in made[0].columns else (at, 1)
            raise RowError(
                f"row {has} has `{min(odd)}` for each token, and row {lacks} has not",
                help="give the column in every row, or take it out of all",
            )
    return made


def _start(trained: Sequence[bool], marks: Any) -> int:
    """The place of the completion's first token.

    It is at least 1, since nothing predicts the first token.
    """
    flags = trained if marks is None else [bool(mark) or flag for mark, flag in zip(marks, trained, strict=True)]
    first = next((at for at, flag in enumerate(flags) if flag), len(trained) - 1)
    return max(1, first)
