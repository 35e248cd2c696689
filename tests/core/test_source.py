"""Places in texts: lines and columns, and lines by number."""

from __future__ import annotations

import pickle

from hypothesis import given
from hypothesis import strategies as st

from policy_engine.core.source import Source

TEXTS = st.text(alphabet="ab\n\r\u2028é", max_size=30)


@given(TEXTS, st.integers(-3, 40))
def test_a_position_is_what_counting_newlines_gives(text: str, offset: int) -> None:
    at = max(0, min(offset, len(text)))
    before = text[:at]
    expected = before.count("\n") + 1, at - (before.rfind("\n") + 1) + 1
    assert expected == Source(name="x", text=text).position(offset)


@given(TEXTS, st.integers(-1, 12))
def test_a_line_is_what_splitting_gives(text: str, number: int) -> None:
    lines = text.split("\n")
    expected = lines[number - 1] if 0 < number <= len(lines) else ""
    assert expected == Source(name="x", text=text).line(number)


def test_a_source_that_was_looked_at_pickles_as_one_that_was_not() -> None:
    new, old = Source(name="x", text="a\nb"), Source(name="x", text="a\nb")
    assert (2, 1) == old.position(2)
    assert pickle.dumps(new) == pickle.dumps(old)
    assert new == old == pickle.loads(pickle.dumps(old))
