"""What a policy asks of a row that token ids do not tell: fields of the data, and which answers are calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final

from policy_engine.chat.conversation import Conversation
from policy_engine.chat.tokenize import ChatTokenizer
from policy_engine.core.errors import PolicyEngineError
from policy_engine.lang.ast import Field
from policy_engine.lang.checked import CheckedPolicy, CheckedTarget, Spans
from policy_engine.rules.program import Program

_RENDERED: Final = {"message": frozenset({"role", "content"}), "turn": None, "segment": None}
"""Scopes and fields that follow from the text itself; None: all of the scope."""
_CALLS: Final = frozenset({"tool_call", "tool_call.name", "tool_call.arguments"})


class Untold:
    """What one policy asks that a row may not tell."""

    def __init__(self, program: Program) -> None:
        self.fields = tuple(sorted({f for f in _fields(program.policy) if not _is_rendered(f)}, key=_name))
        self.tells_calls = _tells_calls(program.policy)

    def of(self, row: Mapping[str, Any], *, source: bool, may_be_call: bool) -> tuple[str, ...]:
        """Names of what the row does not tell. `source` is whether its messages are known as the data had them;
        `may_be_call` whether the text of an answer may be a call that was rendered."""
        asked = [_name(f) for f in self.fields if f.scope == "sample" or not source]
        known = {f"sample.{key}" for key in row}
        missing = [name for name in asked if ".".join(name.split(".")[:2]).partition("[")[0] not in known]
        return (*missing, *(["tool_call"] if self.tells_calls and may_be_call and not source else []))


def call_marker(tokenizer: ChatTokenizer) -> str | None:
    """What opens a call in the tokenizer's template; None if it writes none."""
    call = {"type": "function", "id": "a", "function": {"name": "QQname", "arguments": {"a": 1}}}
    messages = ({"role": "user", "content": "QQ"}, {"role": "assistant", "content": None, "tool_calls": [call]})
    conversation = Conversation(messages=messages)
    try:
        chat = tokenizer.template_for(conversation).render(conversation)
    except PolicyEngineError:
        return None
    opening = next((chat.segment_text(s) for s in chat.segments if s.part in _CALLS), "")
    return opening.partition("{")[0].strip() or None


def _is_rendered(field: Field) -> bool:
    if field.scope not in _RENDERED:
        return False
    known = _RENDERED[field.scope]
    return known is None or (len(field.path) == 1 and field.path[0] in known)


def _name(field: Field) -> str:
    return field.scope + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in field.path)


def _fields(node: Any) -> set[Field]:
    """Every field that a policy asks for, in conditions, weights and spans."""
    if isinstance(node, Field):
        return {node}
    if isinstance(node, CheckedPolicy):
        return _fields((node.rules, node.guards))
    if isinstance(node, tuple):
        return {field for item in node for field in _fields(item)}
    if is_dataclass(node) and not isinstance(node, type):
        return {field for f in fields(node) if f.name != "span" for field in _fields(getattr(node, f.name))}
    return set()


def _tells_calls(policy: CheckedPolicy) -> bool:
    """Whether a statement selects calls and not the text beside them, or the other way round."""
    targets = [target for rule in policy.rules for target in rule.targets]
    targets += [target for guard in policy.guards for target in guard.targets]
    return any(map(_apart, targets))


def _apart(target: CheckedTarget) -> bool:
    if isinstance(target, Spans):
        return any(map(_apart, target.inside))
    covered = target.parts & (_CALLS | {"text"})
    return bool(covered) and covered != _CALLS | {"text"}
