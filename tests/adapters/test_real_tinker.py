"""Tinker itself: its own type takes our rows, and tinker_cookbook makes the same data of the same ids and weights.

Needs the packages, which `make frameworks` installs in an environment of its own. The service that trains on such data
is not asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

tinker = pytest.importorskip("tinker")
torch = pytest.importorskip("torch")
common = pytest.importorskip("tinker_cookbook.supervised.common")

from policy_engine.adapters.tinker import Reduction, tinker_data, tinker_datum  # noqa: E402
from policy_engine.builtin import sample_rows  # noqa: E402
from policy_engine.chat.loading import load_tokenizer  # noqa: E402
from policy_engine.core.vocabulary import IGNORE_INDEX  # noqa: E402
from policy_engine.mask.masker import Masker  # noqa: E402
from policy_engine.rules.compile import compile_text  # noqa: E402
from policy_engine.run.pack import pack  # noqa: E402

POLICIES = (
    "train assistant; train eos after assistant",
    "train everything",
    "train everything weight 0.1; train assistant weight 2",
    "mask everything",
)


def rows_of(policy: str) -> list[Any]:
    masker = Masker(compile_text(policy), load_tokenizer("builtin"))
    chats = [row["messages"] for row in sample_rows() if isinstance(row.get("messages"), list) and not row.get("tools")]
    return [masker(chat) for chat in chats[:12]]


def theirs(row: Any, reduction: Reduction) -> Any:
    """What tinker_cookbook makes of a row's ids, and weights with 0 where it is masked."""
    weights = row.loss_weights or [float(label != IGNORE_INDEX) for label in row.labels]
    weights = torch.tensor(weights, dtype=torch.float32)
    return common.datum_from_model_input_weights(
        tinker.ModelInput.from_ints(row.input_ids), weights, reduction=reduction
    )


def columns(datum: Any) -> tuple[list[int], list[int], list[float]]:
    assert isinstance(datum, tinker.Datum)
    assert {"target_tokens": "int64", "weights": "float32"} == {n: t.dtype for n, t in datum.loss_fn_inputs.items()}
    targets, weights = (datum.loss_fn_inputs[name].to_numpy() for name in ("target_tokens", "weights"))
    assert (datum.model_input.length,) == targets.shape == weights.shape
    return datum.model_input.to_ints(), targets.tolist(), weights.tolist()


def assert_equal(first: Sequence[Any], second: Sequence[Any]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one[:2] == other[:2]
        # Sums of float32 depend on their order.
        np.testing.assert_allclose(one[2], other[2], rtol=1e-6, atol=0)


@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize("policy", POLICIES)
def test_the_cookbook_makes_the_same(policy: str, reduction: Reduction) -> None:
    rows = rows_of(policy)
    expected = [columns(theirs(row, reduction)) for row in rows]
    assert_equal(expected, [columns(tinker_datum(row, reduction=reduction)) for row in rows])
    packed = pack([row.arrays() for row in rows], 1000)
    assert len(packed) < len(rows)
    apart = [columns(datum) for row in packed for datum in tinker_data(row, reduction=reduction)]
    assert_equal(sorted(expected), sorted(apart))


@pytest.mark.parametrize("policy", POLICIES[:2])
def test_every_trained_label_is_a_trained_target(policy: str) -> None:
    for row in rows_of(policy):
        inputs, targets, weights = columns(tinker_datum(row, reduction="none"))
        assert row.input_ids == [*inputs, targets[-1]]
        labels = [t if w else IGNORE_INDEX for t, w in zip(targets, weights, strict=True)]
        assert row.labels == [IGNORE_INDEX, *labels]


def test_the_cookbook_s_dataset_takes_packed_rows() -> None:
    datasets = pytest.importorskip("datasets")
    data = pytest.importorskip("tinker_cookbook.supervised.data")
    rows = rows_of(POLICIES[0])
    packed = datasets.Dataset.from_list([dict(row) for row in pack([row.arrays() for row in rows], 1000)])
    made = data.SupervisedDatasetFromHFDataset(
        packed, batch_size=1, flatmap_fn=lambda row: tinker_data(row, reduction="none")
    )
    found = [columns(datum) for at in range(len(made)) for datum in made.get_batch(at)]
    assert_equal(sorted(columns(theirs(row, "none")) for row in rows), sorted(found))


def test_what_a_reduction_does() -> None:
    row = {"input_ids": [5, 6, 7, 8], "labels": [IGNORE_INDEX, IGNORE_INDEX, 7, 8], "loss_weights": [0, 0, 0.5, 1.5]}
    assert [0.0, 0.5, 1.5] == columns(tinker_datum(row, reduction="none"))[2]
    assert [0.0, 0.25, 0.75] == columns(tinker_datum(row, reduction="mean"))[2]
    row["loss_weights"] = [0, 0, -0.5, 1.5]
    assert [0.0, -0.5, 1.5] == columns(tinker_datum(row, reduction="none"))[2]


def test_the_loss_of_a_batch() -> None:
    """The cookbook's weighted mean over all data is the one computed from the rows, token by token."""
    rows, rng = rows_of(POLICIES[2]), np.random.default_rng(0)
    # Of each row, at each token, the log probability of the next one.
    logs = [-rng.random(len(row.input_ids) - 1, dtype=np.float32) for row in rows]
    total = weight = 0.0
    for row, log in zip(rows, logs, strict=True):
        for at, label in enumerate(row.labels):
            if label != IGNORE_INDEX:
                total += row.loss_weights[at] * -float(log[at - 1])
                weight += row.loss_weights[at]
    weights = [tinker_datum(row, reduction="none").loss_fn_inputs["weights"] for row in rows]
    found = common.compute_mean_nll([tinker.TensorData.from_numpy(log) for log in logs], weights)
    assert total / weight == pytest.approx(found, rel=1e-5)
