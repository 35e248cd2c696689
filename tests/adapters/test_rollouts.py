"""Masked rows as rollouts: where the completion begins, what has loss, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from policy_engine.adapters.rollouts import rollout_of, trl_rollouts
from policy_engine.core.errors import RowError

ROW: dict[str, Any] = {"input_ids": [1, 2, 3, 4, 5, 6], "labels": [-100, -100, -100, 4, -100, 6]}


def test_the_completion_begins_where_sampling_or_training_does() -> None:
    plain = rollout_of(ROW)
    assert ([1, 2, 3], [4, 5, 6], [1, 0, 1]) == (plain.prompt_ids, plain.completion_ids, plain.loss_mask)
    marked = rollout_of({**ROW, "completion_mask": [0, 0, 1, 1, 0, 1]})
    assert ([1, 2], [3, 4, 5, 6], [0, 1, 0, 1]) == (marked.prompt_ids, marked.completion_ids, marked.loss_mask)
    # Nothing predicts the first token, so it is always of the prompt.
    assert [1] == rollout_of({**ROW, "labels": [1, 2, 3, 4, 5, 6]}).prompt_ids
    nothing = rollout_of({**ROW, "labels": [-100] * 6})
    assert ([6], [0]) == (nothing.completion_ids, nothing.loss_mask)


def test_columns_go_along() -> None:
    logs = np.array([0, 0, 0, -0.5, 0, -0.25], np.float32)
    row = {"row": 7, **ROW, "attention_mask": [1] * 6, "logprobs": logs, "advantages": [0, 0, 0, 1, 1, 1], "id": "a"}
    rollout = rollout_of(row)
    assert {"logprobs": [-0.5, 0, -0.25], "advantages": [1, 1, 1]} == rollout.columns
    assert [-0.5, 0, -0.25] == rollout.logprobs
    assert {
        "prompt_ids": [[1, 2, 3], [1, 2, 3]],
        "completion_ids": [[4, 5, 6], [4, 5, 6]],
        "logprobs": [[-0.5, 0, -0.25]] * 2,
        "env_mask": [[1, 0, 1], [1, 0, 1]],
        "advantages": [[1, 1, 1]] * 2,
    } == trl_rollouts([row, row])
    assert rollout_of(ROW).logprobs is None
    assert trl_rollouts([ROW])["logprobs"] is None
    with pytest.raises(RowError, match="row 2 has `advantages` for each token, and row 1 has not"):
        trl_rollouts([ROW, row])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"labels": None}, "row 3 has no `labels`"),
        ({"labels": [-100, 2]}, "6 `input_ids` and 2 `labels`"),
        ({"labels": [-100, 3, 4, 5, 6, -100]}, "token 1 of row 3 is 2 and its label 3"),
        ({"seq_lengths": [3, 3]}, "row 3 is packed"),
        ({"position_ids": [0, 1, 2, 0, 1, 2]}, "row 3 is packed"),
        ({"loss_weights": [0, 0, 0, 0.5, 0, 1]}, "no place for them"),
        ({"loss_weights": [0, 0, 0, 0, 0, 1]}, "no place for them"),
        ({"loss_weights": [0, 1]}, "6 `input_ids` and 2 `loss_weights`"),
        ({"attention_mask": [1, 1, 1, 1, 1, 0]}, "row 3 is padded"),
        ({"logprobs": [-0.5, -0.25]}, "6 `input_ids` and 2 `logprobs`"),
        ({"input_ids": [1], "labels": [1]}, "has 1 token"),
    ],
)
def test_what_is_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(RowError, match=message):
        rollout_of({"row": 3, **ROW, **more})
    assert [1, 0, 1] == rollout_of({**ROW, "loss_weights": [0, 0, 0, 1, 0, 1], "seq_lengths": [6]}).loss_mask
