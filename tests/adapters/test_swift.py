"""Rows for ms-swift, without the package (see `test_real_swift.py`): what they carry, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from policy_engine.adapters.swift import swift_row
from policy_engine.builtin import sample_rows
from policy_engine.chat.loading import load_tokenizer
from policy_engine.core.errors import RowError
from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.mask.masker import Masker
from policy_engine.rules.compile import compile_text


def content(row: dict[str, Any]) -> dict[str, Any]:
    made = swift_row(row)
    assert ["messages"] == list(made)
    (message,) = made["messages"]
    assert "assistant" == message["role"]
    found: dict[str, Any] = message["content"]
    return found


@pytest.mark.parametrize("policy", ["train everything", "train everything weight 0.5; train assistant weight 2"])
def test_ids_and_a_weight_each(policy: str) -> None:
    masker = Masker(compile_text(policy), load_tokenizer("builtin"))
    chats = [row["messages"] for row in sample_rows() if isinstance(row.get("messages"), list) and not row.get("tools")]
    for chat in chats[:12]:
        row = masker(chat).arrays()
        made = content({name: column.tolist() for name, column in row.items()})
        weights = row["loss_weights"] if "loss_weights" in row else (row["labels"] != IGNORE_INDEX) * 1.0
        assert row["input_ids"].tolist() == made["token_ids"]
        assert weights.tolist() == made["loss_scale"]
        assert 0 == made["loss_scale"][0]
        assert made == content(dict(row)), "arrays do as well as lists"
        assert {int} == {type(token) for token in made["token_ids"]}


def test_the_first_token_carries_no_loss() -> None:
    assert [0.0, 1.0] == content({"input_ids": [5, 6], "labels": [5, 6]})["loss_scale"]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"labels": [5]}, "2 `input_ids` and 1 `labels`"),
        ({"loss_weights": [1.0]}, "2 `input_ids` and 1 `loss_weights`"),
        ({"labels": [6, IGNORE_INDEX]}, "token 0 of a row is 5 and its label 6"),
        ({"loss_weights": [0.0, -1.0]}, "weight -1.0"),
        ({"loss_weights": [0.0, float("nan")]}, "weight nan"),
        ({"loss_weights": [0.0, float("inf")]}, "weight inf"),
        ({"position_ids": [0, 0]}, "packed"),
        ({"seq_lengths": [1, 1]}, "packed"),
        ({"input_ids": [], "labels": []}, "no tokens"),
    ],
)
def test_what_it_cannot_carry_is_refused(row: dict[str, Any], says: str) -> None:
    with pytest.raises(RowError, match=says):
        swift_row({"input_ids": [5, 6], "labels": [IGNORE_INDEX, 6], **row})


def test_positions_of_one_document_are_taken() -> None:
    assert [5, 6] == content({"input_ids": [5, 6], "labels": [-100, 6], "position_ids": [0, 1]})["token_ids"]
