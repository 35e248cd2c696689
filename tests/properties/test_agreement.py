"""The engine decides what the definitional interpreter decides, token by token (row 4)."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import assume, given

from policy_engine.chat.segments import TokenizedChat
from policy_engine.lang import ast
from policy_engine.lang.format import format_policy
from policy_engine.testing import strategies
from tests.properties.agreement import compare, describe, engine_outcome, oracle_outcome
from tests.properties.cases import explain, run_case
from tests.support.chats import build_chat, tokens_at

CHUNKS, CHUNK = 4, 250


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_numbered_cases(chunk: int) -> None:
    """1,000 cases: real templates and tokenizers, and layouts no template has. `tests/nightly.py` has the others."""
    outcomes: Counter[str] = Counter()
    for number in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        outcome, problem = run_case("agreement", 0, number)
        outcomes[outcome] += 1
        assert problem is None, explain("agreement", 0, number)
    # Cases that decide nothing would agree whatever the engine did.
    assert outcomes["decided"] > 0.7 * CHUNK, outcomes


def test_numbered_cases_that_ask_for_other_messages() -> None:
    outcomes: Counter[str] = Counter()
    for number in range(CHUNK):
        outcome, problem = run_case("neighbours", 0, number)
        outcomes[outcome] += 1
        assert problem is None, explain("neighbours", 0, number)
    assert outcomes["decided"] > 0.7 * CHUNK, outcomes


@given(strategies.policies(), strategies.tokenized_chats(bad=True))
def test_any_policy_on_any_layout(policy: ast.Policy, tokenized: TokenizedChat) -> None:
    _, problem = compare(policy, tokenized)
    assert problem is None, f"{problem}\n{describe(policy, tokenized)}"


@given(strategies.raw_policies(), strategies.tokenized_chats(most=3))
def test_a_policy_that_checks_means_something(policy: ast.Policy, tokenized: TokenizedChat) -> None:
    engine = engine_outcome(format_policy(policy), tokenized)
    assume(engine.kind != "invalid")
    assert oracle_outcome(policy, tokenized).kind == engine.kind, format_policy(policy)


@given(strategies.policies())
def test_the_interpreter_and_the_checker_refuse_nothing_that_means_something(policy: ast.Policy) -> None:
    empty = tokens_at(build_chat([{"role": "user", "content": "a"}]), [])
    assert engine_outcome(format_policy(policy), empty).kind == oracle_outcome(policy, empty).kind != "invalid"
