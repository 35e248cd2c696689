"""The canonical layout: what the fixtures show, and that it is stable, means the same and keeps every comment."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given

from policy_engine.core.source import Source, Span
from policy_engine.lang import ast
from policy_engine.lang.build import unescape_pattern
from policy_engine.lang.format import WIDTH, format_policy
from policy_engine.lang.parse import parse
from policy_engine.testing import strategies

FOLDER = Path(__file__).parents[1] / "fixtures" / "fmt"


def blocks() -> list[tuple[str, str, str]]:
    """`=== NAME`, the text, a line `---`, the canonical text."""
    found = []
    for path in sorted(FOLDER.glob("*.txt")):
        for block in re.split(r"^=== ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            name, body = block.split("\n", 1)
            before, after = body.split("---\n", 1)
            found.append((name, before, after.rstrip("\n") + "\n" if after.strip() else ""))
    return found


@pytest.mark.parametrize(("name", "before", "after"), blocks())
def test_fixture(name: str, before: str, after: str) -> None:
    assert after == format_policy(parse(before)), name
    assert after == format_policy(parse(after)), "the layout is not stable"
    assert parse(before) == parse(after)


@given(strategies.raw_policies())
def test_every_policy_is_printed_as_itself(policy: ast.Policy) -> None:
    text = format_policy(policy)
    again = parse(text)
    assert policy.statements == again.statements
    assert text == format_policy(again)


def test_one_statement_a_line_but_for_long_ones() -> None:
    conditions = " ".join(f"where message.field_number_{i} == {i}" for i in range(8))
    text = format_policy(parse(f"train assistant {conditions}"))
    assert len(text.splitlines()) == 9
    assert all(len(line) <= WIDTH for line in text.splitlines())


@pytest.mark.parametrize("pattern", [r"a/b", r"a\/b", r"a\\", "a\\", "a\nb", "", "*", r"\\/", "\u2028", "a\tb"])
def test_patterns_however_they_are_written(pattern: str) -> None:
    field = ast.Field(scope="message", path=("a",), span=NOWHERE)
    compare = ast.Compare(op="matches", field=field, value=unescape_pattern(pattern), span=NOWHERE)
    assert compare == condition_of(format_policy(train_where(compare)))


@pytest.mark.parametrize("text", ['"', "\\", "\u202e", "\x00", "\n", "é😀", "\u2028"])
def test_strings_whatever_they_hold(text: str) -> None:
    field = ast.Field(scope="message", path=("a", text), span=NOWHERE)
    compare = ast.Compare(op="==", field=field, value=text, span=NOWHERE)
    assert compare == condition_of(format_policy(train_where(compare)))


NOWHERE = Span(source=Source(name="", text=""), start=0, end=0)


def train_where(expr: ast.Expr) -> ast.Policy:
    target = ast.Target(primary=ast.Everything(span=NOWHERE), span=NOWHERE)
    condition = ast.Condition(negated=False, expr=expr, span=NOWHERE)
    rule = ast.Rule(effect="train", targets=(target,), conditions=(condition,), span=NOWHERE)
    return ast.Policy(statements=(rule,), source=NOWHERE.source)


def condition_of(text: str) -> ast.Expr:
    (statement,) = parse(text).statements
    assert isinstance(statement, ast.Rule)
    return statement.conditions[0].expr
