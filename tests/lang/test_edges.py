"""Places and words at the edges: what nothing else looks at closely."""

from __future__ import annotations

from policy_engine.lang.check import check_text


def test_a_policy_of_nothing_is_told_at_its_beginning() -> None:
    (warning,) = check_text("").warnings
    assert warning.span is not None
    assert ("PE254", 0, 0) == (warning.code, warning.span.start, warning.span.end)
