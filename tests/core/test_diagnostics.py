"""The plain form of a diagnostic quotes what is around the caret."""

from __future__ import annotations

from policy_engine.core.diagnostics import Diagnostic, format_diagnostic
from policy_engine.core.source import Source, Span


def _printed(text: str, start: int, end: int) -> list[str]:
    span = Span(source=Source(name="a.policy", text=text), start=start, end=end)
    return format_diagnostic(Diagnostic(code="PE101", severity="error", message="no", span=span)).splitlines()


def test_a_short_line_is_quoted_whole() -> None:
    _, quoted, caret = _printed("train x\nmask y", 13, 14)
    assert quoted == "     2 | mask y"
    assert caret == "       |      ^"


def test_a_long_line_is_cut_around_the_caret() -> None:
    text = "train " + "a" * 5000 + "!" + "b" * 5000
    _, quoted, caret = _printed(text, text.index("!"), text.index("!") + 1)
    assert len(quoted) < 200
    assert quoted[caret.index("^")] == "!"
    assert quoted.count("…") == 2


def test_a_long_mark_stays_within_the_line() -> None:
    text = "x" * 5000
    _, quoted, caret = _printed(text, 10, 5000)
    assert len(caret) <= len(quoted)
    assert quoted[caret.index("^")] == "x"
