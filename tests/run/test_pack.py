"""Packing loses nothing, repeats nothing, and keeps documents apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.core.errors import DataError
from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.run.pack import best_fit_decreasing, pack

CAPACITY = 20
lengths = st.lists(st.integers(1, CAPACITY), max_size=60)


@given(lengths)
def test_each_document_once_and_none_over_capacity(sizes):
    bins = best_fit_decreasing(sizes, CAPACITY)
    assert sorted(i for members in bins for i in members) == list(range(len(sizes)))
    assert all(sum(sizes[i] for i in members) <= CAPACITY for members in bins)


@given(lengths)
def test_as_few_sequences_as_best_fit_promises(sizes):
    bins = best_fit_decreasing(sizes, CAPACITY)
    # Two sequences that are both at most half full would have been one.
    assert sum(sum(sizes[i] for i in members) * 2 <= CAPACITY for members in bins) <= 1


def test_best_fit():
    assert [[0, 3], [1, 2, 4]] == best_fit_decreasing([12, 11, 6, 8, 3], CAPACITY)


def documents(sizes, weighted):
    rows = []
    for n, size in enumerate(sizes):
        ids = np.arange(n * 100, n * 100 + size, dtype=np.int32)
        row = {"input_ids": ids, "labels": ids.copy(), "attention_mask": np.ones(size, np.int8), "row": np.array([n])}
        if weighted:
            row["loss_weights"] = np.full(size, 0.5, np.float32)
        rows.append(row)
    return rows


@given(lengths, st.booleans())
def test_packed_rows_hold_the_documents_and_their_positions(sizes, weighted):
    rows = documents(sizes, weighted)
    found = {}
    for packed in pack(rows, CAPACITY):
        assert "attention_mask" not in packed
        assert sum(packed["seq_lengths"]) == len(packed["input_ids"])
        start = 0
        for number, length in zip(packed["row"].tolist(), packed["seq_lengths"].tolist()):
            part = slice(start, start + length)
            found[number] = packed["input_ids"][part].tolist()
            assert list(range(length)) == packed["position_ids"][part].tolist()
            assert [IGNORE_INDEX, *found[number][1:]] == packed["labels"][part].tolist()
            if weighted:
                assert [0.0, *[0.5] * (length - 1)] == packed["loss_weights"][part].tolist()
            start += length
    assert {n: row["input_ids"].tolist() for n, row in enumerate(rows)} == found
    # The documents themselves are left as they were.
    assert all(row["labels"].tolist() == row["input_ids"].tolist() for row in rows)


def test_a_document_that_does_not_fit():
    with pytest.raises(DataError, match="21 tokens does not fit a sequence of 20"):
        best_fit_decreasing([3, 21], CAPACITY)
