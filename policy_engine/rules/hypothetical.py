"""The decision that text would get which a template dropped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from policy_engine.core.facts import ChatFacts, SegmentFacts
from policy_engine.rules.conditions.chat_view import ChatView
from policy_engine.rules.conditions.comparison import content_text, part_text
from policy_engine.rules.program import Program

Path = tuple[str | int, ...]

CALL_PARTS = ("tool_call", "tool_call.name", "tool_call.arguments")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Lost:
    """A segment that is not there."""

    part: str
    turn: int
    text: str
    item: int | None = None
    call: int | None = None
    # It has no characters in the text, and no field whose offsets could be compared.
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
        # `turn.chars > 0` should be true of the text that was lost, as if it had been written.
        return super().chars_of(turn) + len(content_text(self.chat.messages[turn]) or "")


def would_train(program: Program, chat: ChatFacts, turn: int, path: Path, kind: str) -> bool:
    """True if the program would train a piece of a message, had it been rendered.

    `path` and `kind` are those of `chat.segments.Unrendered`: `("tool_calls", 1)` and `call`. A regex or data span that
    trains counts as matching, one that masks as not.

    >>> from policy_engine.rules.compile import compile_text
    >>> from policy_engine.chat.segments import RenderedChat
    >>> message = {"role": "assistant", "content": "Yes.", "tool_calls": [{"function": {"name": "look"}}]}
    >>> chat = RenderedChat(text="", segments=(), messages=(message,), sample={})
    >>> program = compile_text("train assistant; mask assistant.tool_call")
    >>> would_train(program, chat, 0, ("content",), "text"), would_train(program, chat, 0, ("tool_calls", 0), "call")
    (True, False)
    """
    view = _LostView(chat)
    program.decider.prepare(view)
    return any(_trains(program, view, segment) for segment in _segments(chat.messages[turn], turn, path, kind))


def _segments(message: Any, turn: int, path: Path, kind: str) -> Iterator[_Lost]:
    if kind == "message":
        # A whole message is lost: the policy trains it if it trains its text or one of its calls.
        yield from _segments(message, turn, ("content",), "text")
        yield from _segments(message, turn, ("tool_calls",), "call")
    elif kind == "call":
        index = path[1] if len(path) > 1 and isinstance(path[1], int) else None
        # Calls may be content parts (Anthropic's `tool_use`), or listed beside the content.
        in_content, whole = path[0] == "content", path == ("tool_calls",)
        calls: Iterable[int | None] = [None if in_content else index]
        if whole:
            calls = range(len(message.get("tool_calls") or ()))
        # Of a call whose arguments alone are lost, the name was written.
        parts = CALL_PARTS[-1:] if "arguments" in path else CALL_PARTS
        for call in calls:
            item = index if in_content else None
            # How a template would have written the call is not known; any text that is not blank serves for
            # `segment.empty`.
            yield from (_Lost(part=part, turn=turn, call=call, item=item, text="…") for part in parts)
    elif kind == "text" and path[0] == "content":
        content = message.get("content")
        items: Iterable[tuple[int | None, str]] = [(None, content_text(message) or "")]
        if isinstance(content, (list, tuple)):
            items = ((i, part_text(part)) for i, part in enumerate(content) if path[1:2] in ((), (i,)))
        yield from (_Lost(part="text", turn=turn, item=item, text=text) for item, text in items)
    else:
        yield _Lost(part="text" if kind == "text" else "reasoning.text", turn=turn, text="…")


def _trains(program: Program, view: ChatView, segment: _Lost) -> bool:
    decider = program.decider
    kind = decider.rules_for(len(decider.rules), view.roles[segment.turn], segment.part, view.signatures[segment.turn])
    weight, rule, some = 0.0, -1, False
    for step in kind.steps:
        condition = step.statement.condition
        if condition is not None and not condition.holds(view, segment):
            continue
        factor = step.statement.factor(view, segment)
        if not step.whole:
            # Which characters a regex or a span would find is not known, and refusing a row is safer than losing its
            # text.
            some = some or (step.statement.verb == "train" and bool(factor))
            continue
        weight, rule = step.apply(factor, weight, rule)
        # A rule that covers all of it decides what the spans above it found, too.
        some = some and step.statement.verb == "scale"
    return bool(weight) or some
