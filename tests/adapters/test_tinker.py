"""Data for Tinker, without the package (see `test_real_tinker.py`): what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from policy_engine.adapters.tinker import tinker_data, tinker_datum
from policy_engine.core.errors import ConfigError, RowError
from policy_engine.core.vocabulary import IGNORE_INDEX

ROW = {"input_ids": [5, 6, 7], "labels": [IGNORE_INDEX, 6, 7]}


@pytest.mark.parametrize(
    ("more", "reduction", "says"),
    [
        ({"labels": [6, 7, IGNORE_INDEX]}, "none", "not shifted"),
        ({"seq_lengths": [1, 2]}, "none", "packed"),
        ({"position_ids": [0, 1, 0]}, "mean", "packed"),
        ({"loss_weights": [0, -1.0, 3]}, "mean", "weight -1.0, and weights are divided by their sum"),
        ({"input_ids": [5], "labels": [IGNORE_INDEX]}, "mean", "one token"),
    ],
)
def test_what_it_cannot_carry_is_refused(more: dict[str, Any], reduction: Any, says: str) -> None:
    with pytest.raises(RowError, match=says):
        tinker_datum({**ROW, **more}, reduction=reduction)


def test_another_reduction_is_refused() -> None:
    with pytest.raises(ConfigError, match="'sum'"):
        tinker_data(ROW, reduction="sum")  # type: ignore[arg-type]
