"""Places and words at the edges: what nothing else looks at closely."""

from __future__ import annotations

import pytest

from policy_engine.core.errors import PolicySyntaxError
from policy_engine.lang.check import check_text


def test_a_policy_of_nothing_is_told_at_its_beginning() -> None:
    (warning,) = check_text("").warnings
    assert warning.span is not None
    assert ("PE254", 0, 0) == (warning.code, warning.span.start, warning.span.end)


@pytest.mark.parametrize(("length", "shown"), [(40, "y" * 40), (41, "y" * 39 + "…"), (400, "y" * 39 + "…")])
def test_a_long_word_is_cut_where_it_is_quoted(length: int, shown: str) -> None:
    with pytest.raises(PolicySyntaxError) as raised:
        check_text(f"train user {'y' * length}")
    assert f"`{shown}`" in raised.value.diagnostics[0].message
