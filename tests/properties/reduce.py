"""Makes a failing case small: Hypothesis looks for the fewest statements and tokens with which it still fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, Phase, find, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from policy_engine.chat.segments import TokenizedChat
from policy_engine.lang import ast

_SETTINGS = settings(
    max_examples=2_000,
    database=None,
    deadline=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


def reduce_case(
    policy: ast.Policy, tokenized: TokenizedChat, fails: Callable[[ast.Policy, TokenizedChat], bool]
) -> tuple[ast.Policy, TokenizedChat]:
    """The smallest part of a failing case that still fails; the case itself if it does not fail."""
    if not fails(policy, tokenized):
        return policy, tokenized
    kept = _fewest(len(policy.statements), lambda keep: fails(_some(policy, keep), tokenized))
    policy = _some(policy, kept)
    for index in range(len(policy.statements)):
        policy = _simpler(policy, index, lambda p: fails(p, tokenized))
    tokens = _fewest(len(tokenized.input_ids), lambda keep: fails(policy, _tokens(tokenized, keep)))
    return policy, _tokens(tokenized, tokens)


def _fewest(size: int, fails: Callable[[list[bool]], bool]) -> list[bool]:
    """Which of `size` things to keep. Each is dropped with little chance, so that the first tries keep most."""
    bits = st.lists(st.integers(0, 19).map(bool), min_size=size, max_size=size)
    try:
        return find(bits, fails, settings=_SETTINGS)
    except NoSuchExample:
        return [True] * size


def _some(policy: ast.Policy, keep: list[bool]) -> ast.Policy:
    return replace(policy, statements=tuple(s for s, kept in zip(policy.statements, keep) if kept))


def _tokens(tokenized: TokenizedChat, keep: list[bool]) -> TokenizedChat:
    ids = [i for i, kept in zip(tokenized.input_ids, keep) if kept]
    return replace(tokenized, input_ids=ids, starts_T=tokenized.starts_T[keep], ends_T=tokenized.ends_T[keep])


def _simpler(policy: ast.Policy, index: int, fails: Callable[[ast.Policy], bool]) -> ast.Policy:
    """One statement with as few conditions and targets as still fail."""
    statement: Any = policy.statements[index]

    def changed(**changes: Any) -> ast.Policy:
        statements = list(policy.statements)
        statements[index] = replace(statement, **changes)
        return replace(policy, statements=tuple(statements))

    for name in ("conditions", "targets"):
        for one in getattr(statement, name, ()):
            fewer = tuple(item for item in getattr(statement, name) if item is not one)
            if (fewer or name == "conditions") and fails(changed(**{name: fewer})):
                policy = changed(**{name: fewer})
                statement = policy.statements[index]
    return policy
