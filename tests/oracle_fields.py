"""The part of the definitional interpreter that reads data: conditions, weights and spans (items 14 to 22 and 30)."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from policy_engine.core.facts import ChatFacts, SegmentFacts
from policy_engine.lang import ast

MISSING: Any = object()
NEIGHBOURS = ("previous", "next", "result", "answer")


class Invalid(Exception):
    """The page calls this policy an error."""


class RowFails(Exception):
    """The page says that this row fails."""


class Fields:
    """What fields mean on one chat."""

    def __init__(self, chat: ChatFacts, body: Collection[str]) -> None:
        self.chat = chat
        self.body = body

    def value(self, field: ast.Field, segment: SegmentFacts) -> Any:
        """The value of a field on a segment, or MISSING."""
        path = list(field.path)
        if field.scope == "sample":
            return below(self.chat.sample, path)
        if field.scope == "segment":
            text = self.chat.text[segment.start : segment.end]
            return {"text": text, "empty": not text.strip()}[str(path[0])]
        if segment.turn is None:  # text no message owns [15]
            return MISSING
        message = self.chat.messages[segment.turn]
        if field.scope == "message":
            return of_message(message, path)
        if field.scope in NEIGHBOURS:  # as a weight or spans, the results have to agree [57]
            found = self.neighbours(field, segment)
            if any(not (kind(value) == kind(found[0]) and value == found[0]) for value in found):
                raise RowFails("results that differ")
            return found[0] if found else MISSING
        if field.scope == "turn":
            return self._of_turn(str(path[0]), segment.turn)
        if field.scope == "part":
            return MISSING if segment.item is None else below(message.get("content"), [segment.item, *path])
        call = self._call(segment)
        if path[0] in ("name", "arguments") and isinstance(call, Mapping) and "function" in call:
            path.insert(0, "function")  # [16]
        return below(call, path)

    def neighbours(self, field: ast.Field, segment: SegmentFacts) -> list[Any]:
        """The values that a field has in the messages which its scope means [52, 53, 54, 56]."""
        turn, messages = segment.turn, self.chat.messages
        if turn is None:
            return []
        if field.scope == "previous":
            others = [t for t in range(len(messages)) if t + 1 == turn]
        elif field.scope == "next":
            others = [t for t in range(len(messages)) if t == turn + 1]
        elif field.scope == "answer":
            answered = self.answered(turn)
            others = [] if answered is None else [answered[0]]
        else:
            others = []
            for t in range(len(messages)):
                answered = self.answered(t)
                if answered is not None and answered[0] == turn and segment.call in (None, answered[1]):
                    others.append(t)
        values = [of_message(messages[t], list(field.path)) for t in others]
        return [value for value in values if value is not MISSING]

    def _of_turn(self, name: str, turn: int) -> int:
        messages = self.chat.messages
        if name == "index":
            return turn
        if name == "from_end":
            return len(messages) - 1 - turn
        if name == "round":
            return sum(message["role"] == "user" for message in messages[: turn + 1])
        return sum(s.end - s.start for s in self.chat.segments if s.turn == turn and s.part in self.body)

    def _call(self, segment: SegmentFacts) -> Any:
        """The call a segment belongs to, or the one its tool turn answers [16]."""
        turn = segment.turn
        assert turn is not None
        messages = self.chat.messages
        if segment.call is not None:
            return below(messages[turn], ["tool_calls", segment.call])
        answered = self.answered(turn)
        return MISSING if answered is None else calls(messages[answered[0]])[answered[1]]

    def answered(self, turn: int) -> tuple[int, int] | None:
        """The message and the number of the call that a tool turn answers [16]."""
        messages = self.chat.messages
        if messages[turn]["role"] != "tool":
            return None
        wanted = messages[turn].get("tool_call_id")
        if wanted is not None:
            for t in range(turn - 1, -1, -1):
                for number, call in enumerate(calls(messages[t])):
                    if isinstance(call, Mapping) and call.get("id") == wanted:
                        return t, number
            return None
        since = 0
        for t in range(turn - 1, -1, -1):
            if calls(messages[t]):
                return (t, since) if since < len(calls(messages[t])) else None
            since += messages[t]["role"] == "tool"
        return None

    def content_offset(self, segment: SegmentFacts, c: int) -> int | None:
        """Which code point of its message's content a character is, if it was copied from there one for one [30]."""
        if segment.turn is None or segment.field is None or not segment.field_exact or segment.field[0] != "content":
            return None
        at = segment.field_start + (c - segment.start)
        if len(segment.field) == 1:
            return at
        if segment.field[2:] not in ((), ("text",)):  # another key of a part is not of the joined text
            return None
        content = self.chat.messages[segment.turn].get("content")
        assert isinstance(content, list)
        index = segment.field[1]
        assert isinstance(index, int)
        return len(joined(content[:index]) or "") + at

    def holds(self, expr: ast.Expr, segment: SegmentFacts) -> bool:
        """Whether a condition is true of a segment."""
        if isinstance(expr, ast.And):
            return all(self.holds(operand, segment) for operand in expr.operands)
        if isinstance(expr, ast.Or):
            return any(self.holds(operand, segment) for operand in expr.operands)
        if isinstance(expr, ast.Not):
            return not self.holds(expr.operand, segment)
        if expr.field.scope in NEIGHBOURS:
            values = self.neighbours(expr.field, segment)
        else:
            value = self.value(expr.field, segment)
            values = [] if value is MISSING else [value]
        if isinstance(expr, ast.Has):
            return bool(values)
        if isinstance(expr, ast.Truth):
            return any(value is True for value in values)
        return any(compare(expr, value) for value in values)  # of several results one is enough [55]


def of_message(message: Mapping[str, Any], path: list[Any]) -> Any:
    """A field of a message [15]."""
    if path[0] == "content":
        content = joined(message.get("content"))
        return below(MISSING if content is None else content, path[1:])
    return below(message, path)


def compare(expr: ast.Compare, value: Any) -> bool:
    """`value OP literal`, the value being present [18, 19]."""
    op, other = expr.op, expr.value
    if op == "==":
        return equal(value, other)
    if op == "!=":
        return not equal(value, other)
    if op == "in":
        if isinstance(other, str):
            return isinstance(value, str) and value in other
        assert isinstance(other, tuple)
        return any(equal(value, item) for item in other)
    if op == "contains":
        if isinstance(value, str):
            return isinstance(other, str) and other in value
        return isinstance(value, list) and any(equal(item, other) for item in value)
    if op == "matches":
        return isinstance(value, str) and bool(matches(str(other), expr.flags, value))
    if kind(value) != kind(other) or kind(value) not in ("number", "string"):
        return False
    return bool({"<": value < other, "<=": value <= other, ">": value > other, ">=": value >= other}[op])


def kind(value: Any) -> str:
    """The JSON type of a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "list" if isinstance(value, list) else "object"


def equal(value: Any, other: Any) -> bool:
    """Type-strict equality of a value with a JSON scalar."""
    return kind(value) == kind(other) and bool(value == other)


def below(value: Any, path: list[Any]) -> Any:
    """What stands under a path, or MISSING [20]."""
    for step in path:
        if isinstance(step, int):
            if not isinstance(value, list) or not 0 <= step < len(value):
                return MISSING
        elif not isinstance(value, Mapping) or step not in value:
            return MISSING
        value = value[step]
    return value


def joined(content: Any) -> str | None:
    """The joined text of a message's content; None if there is none [15]."""
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    texts = [
        part if isinstance(part, str) else part.get("text") if isinstance(part, Mapping) else None for part in content
    ]
    return "".join(text for text in texts if isinstance(text, str))


def calls(message: Mapping[str, Any]) -> list[Any]:
    """The tool calls of a message."""
    found = message.get("tool_calls")
    return found if isinstance(found, list) else []


def matches(pattern: str, flags: str, text: str) -> list[tuple[int, int]]:
    """Matches of a written regex. Only patterns are generated that RE2 and `re` read alike, ASCII ones under `i`."""
    given = re.RegexFlag(sum({"i": re.I | re.A, "s": re.S, "m": re.M}[flag] for flag in flags))
    if "i" in flags:
        # Two characters beyond ASCII fold to ASCII in RE2, and none in `re` under its ASCII flag.
        text = text.replace("\u017f", "s").replace("\u212a", "k")
    # The end of a text is `\z` in RE2, and `\Z` in Python before 3.14.
    spelled = re.sub(r"\\(.)", lambda escape: r"\Z" if escape[1] == "z" else escape[0], pattern, flags=re.DOTALL)
    return [match.span() for match in re.finditer(spelled, text, given)]


def number_of(value: Any) -> float:
    """A weight from data [21]."""
    if value is MISSING or value is None:
        return 1.0
    if kind(value) != "number" or not math.isfinite(value):
        raise RowFails(f"weight {value!r}")
    return float(value)


def offsets_of(fields: Fields, field: ast.Field, segment: SegmentFacts, wanted: bool | None) -> set[int]:
    """The code points of a content that a spans field lists for a verb [30]."""
    turn = segment.turn
    entries = fields.value(field, segment)
    if entries is MISSING or entries is None or turn is None:
        return set()
    if not isinstance(entries, list):
        raise RowFails("spans are not a list")
    content = joined(fields.chat.messages[turn].get("content")) or ""
    found: set[int] = set()
    for entry in entries:
        flag = None
        if isinstance(entry, Mapping):
            begin, end, flag = entry.get("begin_offset"), entry.get("end_offset"), entry.get("train")
            end = end + 1 if type(end) is int else end  # inclusive in this form
        elif isinstance(entry, list) and len(entry) == 2:
            begin, end = entry
        else:
            raise RowFails("a span is no pair and no object")
        if type(begin) is not int or type(end) is not int or not 0 <= begin <= end <= len(content):
            raise RowFails("span offsets")
        if flag not in (True, False, None):
            raise RowFails("train of a span is no boolean")
        if flag is None or wanted is None or flag == wanted:
            found |= set(range(begin, end))
    return found
