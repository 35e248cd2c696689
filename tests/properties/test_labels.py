"""Labels are ids or -100, by weight alone, unshifted (row 11)."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given

from policy_engine.chat.segments import TokenizedChat
from policy_engine.core.errors import GuardError, RowError
from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.lang import ast
from policy_engine.lang.format import format_policy
from policy_engine.mask.apply_program import apply_program
from policy_engine.mask.labels import labels_of, loss_weights_of
from policy_engine.mask.token_mask import REASONS
from policy_engine.rules.compile import compile_text
from policy_engine.testing import strategies


@given(strategies.policies(guards=False), strategies.tokenized_chats())
def test_labels_are_ids_where_weights_are_not_zero(policy: ast.Policy, tokenized: TokenizedChat) -> None:
    program = compile_text(format_policy(policy))
    try:
        mask = apply_program(program, tokenized)
    except (RowError, GuardError):
        assume(False)
    labels = labels_of(tokenized.input_ids, mask)
    ids = np.array(tokenized.input_ids, dtype=np.int32)
    assert labels.dtype == np.int32
    assert np.array_equal(labels, np.where(mask.weights_T != 0, ids, IGNORE_INDEX))
    assert all(label == IGNORE_INDEX for label in labels[:1])
    weights = loss_weights_of(program, mask)
    if weights is None:
        assert set(mask.weights_T.tolist()) <= {0.0, 1.0}
    else:
        assert weights.dtype == np.float32
        assert np.array_equal(weights != 0, labels != IGNORE_INDEX)
    reasons = [REASONS[r] for r in mask.reasons_T]
    for weight, rule, reason in zip(mask.weights_T.tolist(), mask.rules_T.tolist(), reasons):
        # A token is trained because a named rule said so, or it is masked.
        assert weight == 0 or (rule >= 0 and reason in ("rule", "straddle"))
        assert (reason == "rule") <= (rule >= 0)
        assert reason != "default" or (rule == -1 and weight == 0)
