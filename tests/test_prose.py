"""The scripts that look at the house's own prose and figures."""

from __future__ import annotations

import doctest
from collections import Counter
from pathlib import Path

import pytest

from scripts import house, prose, source_texts

SOURCE = '''"""Whether a row is good."""

LIMIT = 3
"""What stands between backticks, `none` too, is code."""


def read(name: str) -> str | None:
    """Reads a row."""
    # It is held against the schema.
    raise ValueError("there is none")  # noqa: TRY003
'''


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(prose, "ROOT", tmp_path)
    (tmp_path / "row.py").write_text(SOURCE, encoding="utf-8")
    return tmp_path / "row.py"


def test_openers_and_words_are_found_at_their_lines(file: Path) -> None:
    found = [(f.line, f.kind, f.text.split(" in ")[0]) for f in prose.findings_in(file)]
    assert found == [
        (1, "opener", "opens with a question word: Whether a row is good."),
        (4, "opener", "opens with a question word: What stands between backticks, `none` too, is code."),
        (4, "word", "`stands`"),
        (9, "word", "`held against`"),
        (10, "word", "`none`"),
    ]


def test_a_long_first_line_is_found(file: Path) -> None:
    for length, kinds in ((90, []), (91, ["long"])):
        file.write_text(f'"""{"a" * length}"""\n', encoding="utf-8")
        assert kinds == [f.kind for f in prose.findings_in(file)]


def test_pages_and_comments_of_policies_are_looked_at(file: Path) -> None:
    page = file.with_name("page.md")
    page.write_text(
        "It is told here.\n```\ntold\n```\nstands for, told apart, none of, `none`\nmend\n", encoding="utf-8"
    )
    assert [1, 6] == sorted(f.line for f in prose.findings_in(page))
    policy = file.with_name("a.policy")
    policy.write_text("train assistant  # none other\nmask none\n", encoding="utf-8")
    assert [1] == [f.line for f in prose.findings_in(policy)]


def test_what_is_left_is_read_as_it_is_written() -> None:
    left = {"docs": Counter({"word": 2}), "policy_engine/chat": Counter({"long": 1, "opener": 3})}
    assert prose.read_left(prose.written(left)) == left


def test_code_is_counted_without_prose() -> None:
    assert source_texts.code_lines(SOURCE) == 3
    assert source_texts.comment_lines(SOURCE) == 1
    assert doctest.testmod(source_texts).failed == 0


def test_every_figure_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    # The environment of tests has no ruff.
    monkeypatch.setattr(house, "_ruff", lambda rule, setting: [f"{rule} {setting}"])
    measured = {figure.name: figure.value for figure in house.figures()}
    assert len(measured) == 11
    assert measured["functions of a cyclomatic complexity over 20"] == "1"
