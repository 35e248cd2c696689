"""Calls and the tool messages that answer them.

In the conversation

    0  assistant  tool_calls: [{"id": "a"}, {"id": "b"}]
    1  tool       tool_call_id: "b"
    2  tool       tool_call_id: "a"

message 1 answers call 1 of message 0, and message 2 answers call 0. Without ids the first tool message answers the
first call. `call` and `answer` look from a tool message to its call, `result` from a call to its tool messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Call = tuple[int, int]
"""A tool call: its message, and its number in that message's `tool_calls`."""


def answered_calls(roles: Sequence[str], messages: Sequence[Mapping[str, Any]]) -> list[Call | None]:
    """The call that each message answers; None if it is no tool's, or its call is missing.

    >>> answered_calls(["assistant", "tool"], [{"tool_calls": [{"id": "a"}]}, {"tool_call_id": "a"}])
    [None, (0, 0)]
    """
    found: list[Call | None] = []
    calling: list[int] = []
    since = 0
    """Tool messages since the last message with calls."""
    for turn, (role, message) in enumerate(zip(roles, messages, strict=True)):
        answered: Call | None = None
        if role == "tool":
            wanted = message.get("tool_call_id")
            # An id wins over the position, even if no call has it.
            if wanted is not None:
                answered = _by_id(wanted, calling, messages)
            # More results than calls: the further ones answer no call.
            elif calling and since < len(messages[calling[-1]]["tool_calls"]):
                answered = calling[-1], since
        found.append(answered)
        calls = message.get("tool_calls")
        # `tool_calls: null` and `[]` are no calls; Arrow gives them to every message.
        if isinstance(calls, (list, tuple)) and calls:
            calling.append(turn)
            since = 0
        else:
            since += role == "tool"
    return found


def _by_id(wanted: Any, calling: Sequence[int], messages: Sequence[Mapping[str, Any]]) -> Call | None:
    """The last message's call that has an id, and of equal ids there the first."""
    # Agents use short ids again (`call_1` in each turn), so the nearest call is meant.
    for turn in reversed(calling):
        for number, call in enumerate(messages[turn]["tool_calls"]):
            if isinstance(call, Mapping) and call.get("id") == wanted:
                return turn, number
    return None


def results_by_turn(answered: Sequence[Call | None]) -> dict[int, list[tuple[int, int]]]:
    """The tool messages that answer each calling message, with the numbers of their calls.

    >>> results_by_turn([None, (0, 1), (0, 0)])
    {0: [(1, 1), (2, 0)]}
    """
    found: dict[int, list[tuple[int, int]]] = {}
    for result, call in enumerate(answered):
        if call is not None:
            # In the order of the tool messages, which may not be the order of the calls.
            found.setdefault(call[0], []).append((result, call[1]))
    return found
