"""What proofs take for granted about rendered chats, as a check: a chat that breaks it is outside of what is proven."""

from __future__ import annotations

from collections.abc import Iterator

from policy_engine.core.facts import ChatFacts, SegmentFacts
from policy_engine.core.vocabulary import FROM_PARTS, PARTS, UNOWNED


def violations(chat: ChatFacts) -> Iterator[str]:
    """Where a chat is not as `proof.model.world` assumes, a sentence each; nothing for a chat that proofs speak of."""
    for segment in chat.segments:
        if segment.start < segment.end:
            where = f"segment [{segment.start}, {segment.end}), part `{segment.part}`"
            yield from (f"{where}: {problem}" for problem in _problems(segment))
    for turn, message in enumerate(chat.messages):
        if not isinstance(message.get("role"), str):
            yield f"message {turn}: the role is not a string"


def _problems(segment: SegmentFacts) -> Iterator[str]:
    if segment.part not in PARTS:
        yield "no such part"
    if (segment.turn is None) != (segment.part in UNOWNED):
        yield "a message owns it, or none does, against its part"
    if segment.call is not None and not segment.part.startswith("tool_call"):
        yield "it belongs to a tool call, but its part does not"
    if segment.item is not None and segment.part not in FROM_PARTS:
        yield "it belongs to a content part, but its part does not"
