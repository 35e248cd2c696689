"""Truncation keeps decisions and rewrites no token (row 10)."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from policy_engine.chat.segments import TokenizedChat
from policy_engine.core.choices import Keep
from policy_engine.core.errors import RowError
from policy_engine.lang import ast
from policy_engine.lang.format import format_policy
from policy_engine.mask.apply_program import apply_program
from policy_engine.mask.row import MaskedRow
from policy_engine.mask.token_mask import REASONS
from policy_engine.rules.compile import compile_text
from policy_engine.run.truncate import KEEPS, Truncation, truncate
from policy_engine.testing import strategies


@given(
    strategies.policies(guards=False, most=4),
    strategies.tokenized_chats(most=4),
    st.integers(1, 80),
    st.sampled_from(KEEPS),
)
def test_what_is_kept_is_kept_as_it_was(policy: ast.Policy, tokenized: TokenizedChat, length: int, keep: Keep) -> None:
    program = compile_text(format_policy(policy))
    try:
        row = MaskedRow(tokenized=tokenized, mask=apply_program(program, tokenized), program=program)
    except RowError:
        assume(False)
    cut = truncate(row, Truncation(max_length=length, keep=keep))
    size = len(row.input_ids)
    if size <= length:
        assert cut is row
        return
    if cut is None:
        assert keep in ("turn", "drop")
        return
    start = size - length if keep == "keep_end" else 0
    end = start + len(cut.input_ids)
    assert 0 < len(cut.input_ids) <= length
    assert keep == "turn" or len(cut.input_ids) == length
    assert cut.input_ids == row.input_ids[start:end]
    kept, before = cut.mask, row.mask
    first = int(start > 0)
    for name in ("weights_T", "rules_T", "reasons_T", "segments_T"):
        assert np.array_equal(getattr(kept, name)[first:], getattr(before, name)[start + first : end]), name
    assert kept.weights_T[0] == 0
    if first and before.weights_T[start] != 0:
        assert REASONS[kept.reasons_T[0]] == "truncated"
    assert cut.labels[first:] == row.labels[start + first : end]
    if keep == "turn":
        # No turn is cut in two: what is left out begins with another turn than what stays ends with.
        owner = [s.turn for s in row.chat.segments]
        stays = {owner[s] for s in before.segments_T[:end].tolist()} - {None}
        leaves = {owner[s] for s in before.segments_T[end:].tolist()} - {None}
        assert not stays & leaves
