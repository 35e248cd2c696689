from __future__ import annotations

from policy_engine.mask.compare.changes import _runs


def test_tokens_that_follow_each_other_and_change_alike_are_one_stretch() -> None:
    keys = [(1.0,), (1.0,), (0.0,), (2.0,), (2.0,)]
    assert [(3, 5), (5, 6), (6, 7), (8, 9)] == _runs([3, 4, 5, 6, 8], keys)
    assert [] == _runs([], [])
