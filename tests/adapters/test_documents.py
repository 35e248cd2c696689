"""Documents of masked rows: each by itself, shifted without loss, and what is no row refused."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.adapters.documents import documents_of
from policy_engine.builtin import sample_rows
from policy_engine.chat.loading import load_tokenizer
from policy_engine.core.errors import RowError
from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.mask.masker import Masker
from policy_engine.rules.compile import compile_text
from policy_engine.run.pack import pack

TWO = {"input_ids": [5, 6], "labels": [IGNORE_INDEX, 6]}

Token = tuple[int, bool, float]
tokens = st.tuples(st.integers(0, 2**31 - 1), st.booleans(), st.floats(-4, 4, width=32))
conversations = st.lists(st.lists(tokens, min_size=2, max_size=12), min_size=1, max_size=5)


def row_of(documents: list[list[Token]], *, weighted: bool) -> dict[str, Any]:
    """Documents end to end, with more than is needed: labels at first tokens, weights at masked ones, positions."""
    row = {
        "input_ids": [i for document in documents for i, _, _ in document],
        "labels": [i if trained else IGNORE_INDEX for document in documents for i, trained, _ in document],
        "seq_lengths": [len(document) for document in documents],
        "position_ids": [at for document in documents for at in range(len(document))],
    }
    return {**row, "loss_weights": [w for document in documents for _, _, w in document]} if weighted else row


@given(conversations, st.booleans(), st.sampled_from([("seq_lengths",), ("position_ids",), ()]))
def test_a_row_comes_apart_and_nothing_is_lost(made: list[list[Token]], weighted: bool, without: tuple[str]) -> None:
    row = {name: column for name, column in row_of(made, weighted=weighted).items() if name not in without}
    found = documents_of(row)
    assert [[i for i, _, _ in document] for document in made] == [d.ids_T.tolist() for d in found]
    for document, got in zip(made, found, strict=True):
        shifted = got.shifted()
        # By hand, token by token: a target is what follows, and carries what its own label and weight say.
        expected = [
            (before[0], token, token if trained else IGNORE_INDEX, (weight if weighted else 1.0) * trained)
            for before, (token, trained, weight) in pairwise(document)
        ]
        columns = (shifted.inputs_P, shifted.targets_P, shifted.labels_P, shifted.weights_P)
        assert expected == list(zip(*(column.tolist() for column in columns), strict=True))
        assert sum(trained for _, trained, _ in document[1:]) == (shifted.labels_P != IGNORE_INDEX).sum()
        assert got.is_weighted == (weighted and any(t and w != 1 for _, t, w in document[1:]))


@pytest.mark.parametrize("policy", ["train assistant", "train everything weight 0.5; train assistant weight 2"])
def test_rows_of_a_masker_packed_and_not(policy: str) -> None:
    masker = Masker(compile_text(policy), load_tokenizer("builtin"))
    chats = [row["messages"] for row in sample_rows() if isinstance(row.get("messages"), list) and not row.get("tools")]
    rows = [masker(chat) for chat in chats[:12]]
    alone = [document for row in rows for document in documents_of(row)]
    assert len(rows) == len(alone)
    arrays = [row.arrays() for row in rows]
    together = [document for row in pack(arrays, 1000) for document in documents_of(row)]
    listed = [documents_of({name: column.tolist() for name, column in row.items()})[0] for row in arrays]
    for found in (together, listed):
        assert by_content(alone) == by_content(found)
    for row, document in zip(rows, alone, strict=True):
        assert row.labels[1:] == document.labels_T[1:].tolist()
        assert IGNORE_INDEX == document.labels_T[0]
        assert 0 == document.weights_T[0]
        assert document.is_weighted == (row.loss_weights is not None)


def by_content(documents: list[Any]) -> list[Any]:
    return sorted((d.ids_T.tolist(), d.labels_T.tolist(), d.weights_T.tolist()) for d in documents)


def test_a_row_is_not_changed() -> None:
    row = {"input_ids": np.array([5, 6]), "labels": np.array([5, 6]), "loss_weights": np.array([1.0, 2.0])}
    documents_of(row)
    assert {"input_ids": [5, 6], "labels": [5, 6], "loss_weights": [1, 2]} == {n: c.tolist() for n, c in row.items()}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"input_ids": [], "labels": []}, "a row has no tokens"),
        ({"input_ids": None}, "no `input_ids`"),
        ({"labels": None}, "no `labels`"),
        ({"labels": [5]}, "2 `input_ids` and 1 `labels`"),
        ({"attention_mask": [1]}, "2 `input_ids` and 1 `attention_mask`"),
        ({"loss_weights": [1.0]}, "2 `input_ids` and 1 `loss_weights`"),
        ({"position_ids": [0]}, "2 `input_ids` and 1 `position_ids`"),
        ({"labels": [6, IGNORE_INDEX]}, "token 0 of a row is 5 and its label 6"),
        ({"labels": [5, 7], "row": 12}, "token 1 of row 12 is 6 and its label 7"),
        ({"labels": [5, 7], "row": [12, 13]}, "token 1 of a row is 6"),
        ({"input_ids": [[5, 6]], "labels": [[5, 6]]}, "not a list of whole numbers"),
        ({"input_ids": [5.0, 6.0]}, "not a list of whole numbers"),
        ({"labels": [None, 6]}, "`labels` of a row are not a list of whole numbers"),
        ({"loss_weights": [None, 1.0]}, "`loss_weights` of a row are not a list of numbers"),
        ({"loss_weights": [0.0, float("nan")]}, "token 1 of a row has weight nan"),
        ({"loss_weights": [0.0, float("inf")]}, "token 1 of a row has weight inf"),
        ({"attention_mask": [1, 0]}, "padded"),
        ({"seq_lengths": [1, 2]}, "2 `input_ids` and `seq_lengths` of 3"),
        ({"seq_lengths": [3, -1]}, "`seq_lengths` of 2"),
        ({"position_ids": [1, 2]}, "count from 0"),
        ({"position_ids": [0, 2]}, "count from 0"),
        ({"seq_lengths": [1, 1], "position_ids": [0, 1]}, "count from 0"),
    ],
)
def test_what_is_no_row_is_refused(row: dict[str, Any], says: str) -> None:
    with pytest.raises(RowError, match=says):
        documents_of({**TWO, **row})


def test_one_token_predicts_nothing() -> None:
    first, second = documents_of({**TWO, "seq_lengths": [1, 0, 1]})
    assert (IGNORE_INDEX, IGNORE_INDEX) == (first.labels_T[0], second.labels_T[0])
    with pytest.raises(RowError, match="one token"):
        first.shifted()
