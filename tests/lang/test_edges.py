"""Places and words at the edges: what nothing else looks at closely."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policy_engine.core.errors import PolicySyntaxError
from policy_engine.core.source import Source, Span
from policy_engine.lang.check import check, check_text
from policy_engine.lang.format import WIDTH, format_policy
from policy_engine.lang.lint.fix import edits
from policy_engine.lang.lint.lint import lint
from policy_engine.lang.parse import parse


def test_a_policy_of_nothing_is_told_at_its_beginning() -> None:
    (warning,) = check_text("").warnings
    assert warning.span is not None
    assert ("PE254", 0, 0) == (warning.code, warning.span.start, warning.span.end)


@pytest.mark.parametrize(("length", "shown"), [(40, "y" * 40), (41, "y" * 39 + "…"), (400, "y" * 39 + "…")])
def test_a_long_word_is_cut_where_it_is_quoted(length: int, shown: str) -> None:
    with pytest.raises(PolicySyntaxError) as raised:
        check_text(f"train user {'y' * length}")
    assert f"`{shown}`" in raised.value.diagnostics[0].message


def test_edits_leave_out_what_stands_nowhere_or_elsewhere() -> None:
    policy = parse("let unused = user\ntrain assistant")
    (finding,) = check(policy).warnings
    elsewhere = replace(finding, span=Span(source=Source(name="other", text="let x = user"), start=0, end=12))
    (edit,) = edits(policy, [replace(finding, span=None), elsewhere, finding])
    assert edit.span.start == 0


def test_several_clauses_are_one_condition_that_stands_at_the_first() -> None:
    (rule,) = check(parse("train assistant where message.a unless message.b")).rules
    assert rule.condition is not None
    assert "where message.a" == rule.condition.span.text


def test_a_comment_that_says_something_else_hides_none_below_it() -> None:
    found = lint(check(parse("# about it\ntrain assistant; train eos of assistant  # lint: ignore PE999")))
    assert ["PE608"] == [finding.code for finding in found]


def test_a_statement_is_broken_where_it_would_be_wider_than_a_line() -> None:
    head = "train assistant where message.a"
    for width, lines in ((WIDTH, 1), (WIDTH + 1, 2)):
        text = f"{head}{'a' * (width - len(head))}\n"
        assert width == len(text) - 1
        assert lines == len(format_policy(parse(text)).splitlines())


def test_masking_bodies_leaves_their_ends_to_be_trained() -> None:
    text = "train assistant; mask assistant.body where message.bad; train eos after assistant; never train user"
    assert [] == [finding.code for finding in lint(check(parse(text)))]


def test_trained_turns_are_not_only_the_last() -> None:
    text = "train trained assistant; train eos of assistant; never train user"
    assert [] == [finding.code for finding in lint(check(parse(text)))]


def test_a_bracket_is_told_from_one_behind_a_comma() -> None:
    with pytest.raises(PolicySyntaxError) as raised:
        check_text('train assistant where message.x in "a"]')
    assert "comma before" not in str(raised.value)
    with pytest.raises(PolicySyntaxError, match="remove the comma before it"):
        check_text('train assistant where message.x in ["a",]')
