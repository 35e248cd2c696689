"""Truncation cuts rows, never the decisions of the tokens that stay."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.core.errors import ConfigError
from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.mask.token_mask import REASONS
from policy_engine.run.truncate import KEEPS, Truncation, truncate
from tests.run.support import masked

TURNS = ("Hi there", "Hello, what can I do?", "Add 1 and 2", "3", "And 4?", "7, of course")
ROW = masked(*TURNS)
SIZE = len(ROW.input_ids)


def turns_of(row):
    return {row.chat.segments[i].turn for i in row.mask.segments_T.tolist()} - {None}


@given(st.integers(1, SIZE + 3), st.sampled_from(KEEPS))
def test_kept_tokens_keep_ids_and_decisions(length, keep):
    cut = truncate(ROW, Truncation(max_length=length, keep=keep))
    if length >= SIZE:
        assert cut is ROW
        return
    if cut is None:
        assert keep in ("drop", "turn")
        return
    size = len(cut.input_ids)
    assert 0 < size <= length
    start = SIZE - size if keep == "keep_end" else 0
    assert ROW.input_ids[start : start + size] == cut.input_ids
    assert keep in ("turn", "drop") or size == length
    rest = slice(1 if start else 0, None)
    for name in ("weights_T", "rules_T", "reasons_T", "segments_T"):
        before, after = getattr(ROW.mask, name)[start : start + size], getattr(cut.mask, name)
        assert before[rest].tolist() == after[rest].tolist()
    assert IGNORE_INDEX == cut.labels[0]
    assert cut.mask.weights_T[0] == 0
    assert all(label in (IGNORE_INDEX, i) for label, i in zip(cut.labels, cut.input_ids))


def test_the_row_itself_is_not_changed():
    before = ROW.mask.weights_T.copy()
    for length in range(1, SIZE):
        truncate(ROW, Truncation(max_length=length, keep="keep_end"))
    assert np.array_equal(before, ROW.mask.weights_T)


def test_a_trained_first_token_is_masked_with_its_reason():
    trained = np.flatnonzero(ROW.mask.weights_T)
    cut = truncate(ROW, Truncation(max_length=SIZE - int(trained[0]), keep="keep_end"))
    assert cut.mask.weights_T[0] == 0
    assert REASONS.index("truncated") == cut.mask.reasons_T[0]
    assert cut.mask.rules_T[0] == -1


def test_turn_keeps_whole_turns_with_their_ends():
    sizes = {
        len(cut.input_ids): turns_of(cut)
        for length in range(1, SIZE)
        if (cut := truncate(ROW, Truncation(max_length=length, keep="turn"))) is not None
    }
    assert [set(range(n)) for n in range(1, len(TURNS))] == list(sizes.values())
    for size in sizes:
        last = ROW.chat.segments[int(ROW.mask.segments_T[size - 1])]
        assert last.part in ("eot", "separator")


def test_drop_keeps_nothing_of_a_long_row():
    assert truncate(ROW, Truncation(max_length=SIZE - 1, keep="drop")) is None


@pytest.mark.parametrize("arguments", [{"max_length": 0}, {"max_length": -3}, {"max_length": 5, "keep": "middle"}])
def test_options_that_mean_nothing(arguments):
    with pytest.raises(ConfigError):
        Truncation(**arguments)
