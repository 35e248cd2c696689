"""What is decided of a conversation's beginning depends on how it goes on only if the policy says so (row 9)."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from policy_engine.chat.segments import RenderedChat
from policy_engine.core.errors import RowError
from policy_engine.lang import ast
from policy_engine.lang.format import format_policy
from policy_engine.rules.compile import compile_text
from policy_engine.testing import strategies
from tests.support.chats import build_chat

Message = dict[str, Any]


def looks_ahead(policy: ast.Policy) -> bool:
    """Whether a policy may decide by what comes later: by `last`, `before` or `turn.from_end`."""
    text = format_policy(policy)
    return any(word in text.split() for word in ("last", "before")) or "from_end" in text


def decided(policy: ast.Policy, chat: RenderedChat) -> list[tuple[float, int | None]]:
    pieces = compile_text(format_policy(policy)).decide(chat).pieces
    return [(piece.weight, piece.rule) for piece in pieces for _ in range(piece.start, piece.end)]


@given(
    strategies.policies(guards=False),
    st.lists(strategies.messages(), min_size=1, max_size=3),
    strategies.messages(),
)
def test_a_message_more_changes_nothing_before_it(policy: ast.Policy, messages: list[Message], more: Message) -> None:
    assume(not looks_ahead(policy))
    before, after = build_chat(messages, sample={}), build_chat([*messages, more], sample={})
    assert after.text.startswith(before.text)
    try:
        assert decided(policy, after)[: len(before.text)] == decided(policy, before)
    except RowError:
        assume(False)


@given(strategies.policies(guards=False), st.lists(strategies.messages(), min_size=1, max_size=4))
def test_a_policy_does_not_change_the_data(policy: ast.Policy, messages: list[Message]) -> None:
    chat = build_chat(messages, sample={"messages": messages})
    kept = repr(chat)
    with contextlib.suppress(RowError):
        decided(policy, chat)
    assert repr(chat) == kept
