from __future__ import annotations

from policy_engine.rules.conditions.comparison import excerpt, shown


def test_a_long_value_is_cut_in_its_middle() -> None:
    assert repr("a" * 60) == excerpt("a" * 60)
    assert repr(f"{'a' * 35} … {'a' * 20}") == excerpt("a" * 61)
    assert "[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 … 1, 1, 1, 1, 1, 1, 1]" == shown([1] * 40)
