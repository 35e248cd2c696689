"""The plain form of a diagnostic quotes what is around the caret."""

from __future__ import annotations

import pickle

import pytest

from policy_engine.core.diagnostics import Diagnostic, format_diagnostic
from policy_engine.core.errors import GuardError
from policy_engine.core.source import Place, Source, Span


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


@pytest.mark.parametrize(
    ("file", "text", "is_line"),
    [("a b/c:d.jsonl", "a b/c:d.jsonl:7", True), ("x.parquet", "x.parquet:7", False), (None, "row 7", False)],
)
def test_a_place_is_read_as_it_is_written(file: str | None, text: str, is_line: bool) -> None:
    place = Place(file=file, number=7)
    assert (text, is_line) == (str(place), place.is_line)
    assert place == Place.parse(text)


def test_a_finding_about_a_row_begins_with_its_place() -> None:
    place = Place(file="x.jsonl", number=3)
    found = Diagnostic(code="PE501", severity="error", message="no", help="mend it", place=place)
    assert "x.jsonl:3: error[PE501]: no\n  help: mend it" == format_diagnostic(found)


def test_an_error_keeps_its_kind_and_place_in_other_words() -> None:
    error = GuardError("broken", help="mend it", code="PE301").at(Place(file="x.jsonl", number=3))
    other = pickle.loads(pickle.dumps(error.reworded("broken; 2 rows are in `y`")))
    assert (GuardError, "x.jsonl:3: broken; 2 rows are in `y`\n  help: mend it") == (type(other), str(other))
    assert "x.jsonl:3: broken\n  help: mend it" == str(error)
