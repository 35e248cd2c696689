"""Prepared rows: shifted labels, documents of a row."""

from __future__ import annotations

import pytest

from policy_engine.core.errors import RowError
from policy_engine.data.prepared import are_shifted, mask_of, spans_of

IDS = [5, 6, 7, 8, 9, 10]


@pytest.mark.parametrize(
    ("labels", "shifted"),
    [
        ([6, 7, 8, 9, -100, -100], True),
        ([6, 7, 8, -100, -100, -100], False),  # three trained tokens say too little
        ([5, 6, 7, 8, 9, 10], False),
        ([6, 7, 8, 9, 10, 3], False),  # five of six are the next id
    ],
)
def test_labels_are_shifted_if_nearly_all_are_the_next_id(labels, shifted):
    assert shifted == are_shifted(IDS, labels)


def test_labels_of_a_row_of_one_token_repeated_are_not_called_shifted():
    assert not are_shifted([5] * 8, [5] * 8)


@pytest.mark.parametrize(
    ("row", "spans"),
    [
        ({}, [(0, 6)]),
        ({"position_ids": [0, 1, 0, 1, 2, 3]}, [(0, 2), (2, 6)]),
        ({"position_ids": [3, 4, 0, 1, 2, 3]}, [(0, 2), (2, 6)]),  # cut from the front
        ({"seq_lengths": [2, 0, 4]}, [(0, 2), (2, 6)]),
        ({"seq_lengths": [2, 4], "position_ids": [0] * 6}, [(0, 2), (2, 6)]),
    ],
)
def test_documents_of_a_row(row, spans):
    assert spans == spans_of(row, 1, 6)


def test_documents_that_are_not_the_rows_tokens_are_refused():
    for lengths in ([2, 3], [8, -2]):
        with pytest.raises(RowError, match="row 7 has 6 `input_ids` and `seq_lengths` of"):
            spans_of({"seq_lengths": lengths}, 7, 6)
    with pytest.raises(RowError, match="row 7 has 6 `input_ids` and 5 `position_ids`"):
        spans_of({"position_ids": [0] * 5}, 7, 6)


def test_a_mask_column_says_what_is_trained_where_there_are_no_labels():
    row = {"input_ids": [5, 6], "assistant_masks": [0, 1]}
    assert ([5, 6], [-100, 6], [False, True], "assistant_masks") == mask_of(row, 1)
    assert "labels" == mask_of({**row, "labels": [5, -100]}, 1)[3]
