"""Any text is a policy or a syntax error with a place in it; a printed policy parses as itself (rows 1 and 2)."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.lark import from_lark
from lark import Lark

from policy_engine.lang import ast
from policy_engine.lang.library import grammar_text
from policy_engine.testing import strategies
from tests.properties.cases import run_case
from tests.properties.language import parse_problem, round_trip_problem

CHUNKS, CHUNK = 4, 250


@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.parametrize("kind", ["parser", "format"])
def test_numbered_cases(kind: str, chunk: int) -> None:
    numbers = range(chunk * CHUNK, (chunk + 1) * CHUNK)
    problems = {number: run_case(kind, 0, number)[1] for number in numbers}
    assert {number: problem for number, problem in problems.items() if problem} == {}


@given(strategies.raw_policies())
def test_a_printed_policy_parses_as_itself(policy: ast.Policy) -> None:
    assert round_trip_problem(policy) is None


@given(strategies.policy_texts())
def test_a_text_is_a_policy_or_an_error_with_a_place(text: str) -> None:
    assert parse_problem(text) is None


@given(st.text())
def test_any_text_is_a_policy_or_an_error_with_a_place(text: str) -> None:
    assert parse_problem(text) is None


# Hypothesis' own generator for a grammar takes long for each text.
@settings(max_examples=max(20, settings().max_examples // 5), suppress_health_check=list(HealthCheck))
@given(from_lark(Lark(grammar_text(), start="policy", parser="lalr"), alphabet=st.characters(codec="utf-8")))
def test_what_the_grammar_spells_is_a_policy_or_an_error_with_a_place(text: str) -> None:
    assert parse_problem(text) is None
