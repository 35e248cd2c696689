"""Fields of messages that a template did not write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from policy_engine.chat.label.parts import CALL_FIELDS, REASONING_FIELDS
from policy_engine.chat.label.sources import LABEL_FIELDS, Bit
from policy_engine.chat.segments import Unrendered
from policy_engine.chat.trace.origins import LOST


def thinking_in_content(
    messages: Sequence[Mapping[str, Any]], *, delimiters: Sequence[tuple[str, str]], model_roles: frozenset[str]
) -> dict[int, int]:
    """Model turns whose content has a delimiter of thinking: where the thinking in it ends, or -1."""
    if not delimiters:
        return {}
    found: dict[int, int] = {}
    for turn, message in enumerate(messages):
        if message.get("role") not in model_roles:
            continue
        content = message.get("content")
        if isinstance(content, list):
            content = "".join([str(p.get("text", "")) for p in content if isinstance(p, Mapping)])
        if not isinstance(content, str):
            continue
        for open_, close in delimiters:
            at = content.find(close)
            if at > 0 and content[:at].replace(open_, "", 1).strip() and isinstance(message["content"], str):
                found[turn] = at
                break
            if at >= 0 or open_ in content:
                found[turn] = -1
    return found


def lost_thinking(thinking: Mapping[int, int], bits: Sequence[Bit]) -> tuple[Unrendered, ...]:
    """Thinking inside content of which the template wrote nothing, though it wrote other content."""
    lost = []
    for turn, end in thinking.items():
        own = [b for b in bits if b.origin is not None and b.origin.turn == turn and b.origin.path == ("content",)]
        written = [b for b in own if b.end > b.start]
        if end > 0 and written and not any(b.offset == LOST or b.offset < end for b in written):
            lost.append(Unrendered(turn=turn, field="reasoning"))
    return tuple(lost)


def unrendered_fields(
    rendered: frozenset[tuple[int, str]], messages: Sequence[Mapping[str, Any]]
) -> tuple[Unrendered, ...]:
    """Fields with something in them of which no character reached the text."""
    lost: list[Unrendered] = []
    for turn, message in enumerate(messages):
        for name, value in message.items():
            if name in LABEL_FIELDS or (turn, name) in rendered or (turn, "*") in rendered or not _has_text(value):
                continue
            if name == "content":
                lost.append(Unrendered(turn=turn, field="content"))
            elif name in CALL_FIELDS and not any((turn, other) in rendered for other in CALL_FIELDS):
                lost.append(Unrendered(turn=turn, field="tool_calls"))
            elif name in REASONING_FIELDS and not any((turn, other) in rendered for other in REASONING_FIELDS):
                lost.append(Unrendered(turn=turn, field="reasoning"))
    return tuple(dict.fromkeys(lost))


def _has_text(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value.strip())
    if isinstance(value, Mapping):
        return any(_has_text(v) for k, v in value.items() if k != "type") or not {"text"} >= (set(value) - {"type"})
    if isinstance(value, list | tuple):
        return any(_has_text(item) for item in value)
    return False
