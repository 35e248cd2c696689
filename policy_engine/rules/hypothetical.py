"""What the rules would decide about text that a template dropped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from policy_engine.core.facts import ChatFacts, SegmentFacts
from policy_engine.rules.conditions.values import content_text, part_text
from policy_engine.rules.conditions.view import ChatView
from policy_engine.rules.program import Program

CONTENT_PARTS = ("text",)
CALL_PARTS = ("tool_call", "tool_call.name", "tool_call.arguments")
REASONING_PARTS = ("reasoning.text",)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Lost:
    """A segment that is not there."""

    part: str
    turn: int
    text: str
    item: int | None = None
    call: int | None = None
    start: int = 0
    end: int = 0
    field: tuple[str | int, ...] | None = None
    field_start: int = 0
    field_exact: bool = False


class _LostView(ChatView):
    """The chat, with the lost text in its place as far as conditions can ask for it."""

    def text_of(self, segment: SegmentFacts) -> str:
        return segment.text if isinstance(segment, _Lost) else super().text_of(segment)

    def chars_of(self, turn: int) -> int:
        return super().chars_of(turn) + len(content_text(self.chat.messages[turn]) or "")


def would_train(program: Program, chat: ChatFacts, turn: int, lost: str) -> bool:
    """Whether the program would train something of a message's `content`, `tool_calls` or `reasoning`, had it been
    rendered. A regex or data span that trains counts as matching, one that masks as not.
    """
    view = _LostView(chat)
    program.decider.prepare(view)
    return any(_trains(program, view, segment) for segment in _segments(chat.messages[turn], turn, lost))


def _segments(message: Any, turn: int, lost: str) -> Iterator[_Lost]:
    if lost == "tool_calls":
        calls: Iterable[int | None] = range(len(message.get("tool_calls") or ()))
        if message.get("function_call"):
            calls = [*calls, None]
        for index in calls:
            yield from (_Lost(part=part, turn=turn, call=index, text="…") for part in CALL_PARTS)
    elif lost == "content":
        content = message.get("content")
        items: Iterable[tuple[int | None, str]] = [(None, content_text(message) or "")]
        if isinstance(content, (list, tuple)):
            items = ((index, part_text(part)) for index, part in enumerate(content))
        yield from (_Lost(part=part, turn=turn, item=item, text=text) for item, text in items for part in CONTENT_PARTS)
    else:
        yield from (_Lost(part=part, turn=turn, text="…") for part in REASONING_PARTS)


def _trains(program: Program, view: ChatView, segment: _Lost) -> bool:
    decider = program.decider
    plan = decider.plan(len(decider.rules), view.roles[segment.turn], segment.part, view.signatures[segment.turn])
    weight, rule, some = 0.0, -1, False
    for step in plan.steps:
        condition = step.statement.condition
        if condition is not None and not condition.holds(view, segment):
            continue
        factor = step.statement.factor(view, segment)
        if not step.whole:
            some = some or (step.statement.verb == "train" and bool(factor))
            continue
        weight, rule = step.apply(factor, weight, rule)
        some = some and step.statement.verb == "scale"
    return bool(weight) or some
