"""The turn that a template is writing, so that its own text belongs to a message too.

    {% for m in messages %}{{ '<' + m.content + '>' }}{% endfor %}  ->  <‹Hi, Bob›><«Yes»>

Each `<` and `>` is template text. The loop variable holds a message, so the claim on text written in that round is that
message's turn: the first pair belongs to message 0, the second to message 1.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from markupsafe import Markup

from policy_engine.chat.trace.meter import Meter
from policy_engine.chat.trace.origins import Run, Scaffold, Unclaimed, claim_of
from policy_engine.chat.trace.text import Traced, runs_of, traced
from policy_engine.chat.trace.values import TracedMessage, origin_of

_MANY: Final = 64
"""Runs of a text that is worth remembering."""


def tagged(claim: Scaffold, value: str, known: tuple[Run, ...] = ()) -> str:
    """`value` with its unclaimed characters claimed.

    `known` are runs without unclaimed characters, which those of `value` may begin with.
    """
    runs = runs_of(value)
    rest = runs
    if known:
        if runs[: len(known)] == known:
            rest = runs[len(known) :]
        else:
            known = ()
    for _, origin, _ in rest:
        if origin is None or type(origin) is Unclaimed:
            break
    else:
        return value
    return traced(str.__str__(value), known + tuple(_claimed_run(claim, run) for run in rest))


def _claimed_run(claim: Scaffold, run: Run) -> Run:
    length, origin, start = run
    if origin is None:
        return (length, claim, start)
    if type(origin) is Unclaimed:
        return (length, claim_of(claim.turn, claim.call, claim.item, origin.line, claim.branch), start)
    return run


class State:
    """The current claim on template text in one rendering, and its meter."""

    __slots__ = ("_known", "_step", "claim", "now")

    def __init__(self, meter: Meter, now: datetime) -> None:
        self.now = now
        # A text that grows letter by letter begins with what was looked through one letter ago.
        self._known: tuple[Run, ...] = ()
        self.claim = claim_of(None, None, None, None, 0)
        # The method itself, since it is called in every round of every loop.
        self._step = meter.step

    def enter_branch(self, number: int) -> None:
        """Text outside loops is now written in `if` branch `number` (0: outside any)."""
        claim = self.claim
        self.claim = claim_of(claim.turn, claim.call, claim.item, None, number)

    def bind(self, saved: Scaffold, values: tuple[Any, ...]) -> bool:
        """Claim for the message, call or part that a loop's variable holds. True for a message.

        For example, `{% for call in message.tool_calls %}` keeps the message's turn and adds the number of the call.
        """
        self._step()
        value = values[0] if values else None
        if type(value) is TracedMessage:
            self.claim = claim_of(value._o.turn, None, None, None, saved.branch)
            return True
        # `{% for i in range(messages|length) %}`: the number stands for the message at that place.
        if isinstance(value, int):
            for container in values[1:]:
                if isinstance(container, list) and -len(container) <= value < len(container):
                    turn = _message_turn(container[value])
                    if turn is not None:
                        self.claim = claim_of(turn, None, None, None, saved.branch)
                        return True
        turn = _message_turn(value)
        if turn is not None:
            self.claim = claim_of(turn, None, None, None, saved.branch)
            return True
        # No message: what the loop was written in, narrowed by a call or a part.
        self.claim = saved
        for value in values:
            if self._claim_by_origin(value, saved):
                break
        return False

    def _claim_by_origin(self, value: Any, saved: Scaffold) -> bool:
        origin = origin_of(value)
        if origin is None or origin.turn is None:
            return False
        # Data of another message inside of a turn does not take that turn over.
        turn = origin.turn if saved.turn is None else saved.turn
        call, item = saved.call, saved.item
        path = origin.path
        if origin.turn == turn and len(path) > 1 and isinstance(path[1], int):
            call = path[1] if path[0] == "tool_calls" else call
            item = path[1] if path[0] == "content" else item
        self.claim = claim_of(turn, call, item, None, saved.branch)
        return True

    def assign(self, values: tuple[Any, ...]) -> None:
        """After an assignment in a loop that holds no message: a message binds."""
        turn = _message_turn(values[0])
        if turn is not None:
            self.claim = claim_of(turn, None, None, None, self.claim.branch)

    def enter(self, saved: Scaffold, values: tuple[Any, ...]) -> None:
        """At the start of a macro: a message argument binds; so does data while nothing is bound."""
        self._step()
        for value in values:
            turn = _message_turn(value)
            if turn is not None:
                self.claim = claim_of(turn, None, None, None, saved.branch)
                return
        # First every argument that is a message, then any data: `say(prefix, message)` writes for the message.
        for value in values:
            if self._claim_by_origin(value, saved):
                return

    def claimed(self, value: Any) -> Any:
        """Assigned text, its unclaimed characters claimed by what is being written."""
        # Outside of every message nothing claims; Markup would lose its escaping on the way.
        if self.claim.turn is None or not isinstance(value, str) or isinstance(value, Markup):
            return value
        return self.tag(value)

    def tag(self, value: str) -> str:
        """`value` with its unclaimed characters claimed."""
        made = tagged(self.claim, value, self._known)
        if type(made) is Traced and len(made._r) > _MANY:
            self._known = made._r
        return made

    def buffer(self) -> Buffer:
        """A list that claims what is appended to it."""
        made = Buffer()
        made.state = self
        return made


class Buffer(list[str]):
    """The pieces that a macro, a `set` block or a filter block collects."""

    state: State

    def append(self, piece: str | tuple[Any, ...]) -> None:
        if type(piece) is tuple:
            for part in parts_of_sum(piece):
                super().append(part if isinstance(part, Markup) else self.state.tag(part))
        else:
            super().append(piece if isinstance(piece, Markup) else self.state.tag(piece))  # type: ignore[arg-type]

    def extend(self, pieces: Iterable[str]) -> None:
        for piece in pieces:
            self.append(piece)


def parts_of_sum(operands: tuple[Any, ...]) -> tuple[str, ...]:
    """The operands of a sum that a template writes, each by itself; the sum if one is no string.

    For example, `('<', content, '>')` for `{{ '<' + content + '>' }}`: three pieces, which need not be joined.
    """
    for operand in operands:
        if type(operand) is not str and type(operand) is not Traced:
            return (str(functools.reduce(operator.add, operands)),)
    return operands


def _message_turn(value: Any) -> int | None:
    if type(value) is TracedMessage:
        return value._o.turn
    # `{% set message = {'role': …, 'content': …} %}`
    if type(value) is dict and "role" in value:
        # A message that the template rebuilt keeps the turn of its first data.
        origin = origin_of(value)
        return None if origin is None else origin.turn
    return None
