"""The statements whose conditions hold on a turn, as bits.

A policy of two hundred conditions asks for few fields, and the fields of a dataset have few values. So the tests are
sorted by field, and the answers of a value to all tests of its field are worked out once. In the policy

    train assistant where message.quality > 3        # statement 0
    mask assistant where message.source == "web"     # statement 1

the message `{"quality": 5, "source": "book"}` gives the bits `0b01`. The last statement that holds is then the highest
bit, which is found without a look at the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from policy_engine.core.bounded import Bounded
from policy_engine.lang.ast import And, Expr, Not, Or
from policy_engine.rules.conditions.chat_view import ChatView
from policy_engine.rules.conditions.comparison import MISSING, content_text, step_into
from policy_engine.rules.conditions.conditions import TURN_SCOPES, leaves
from policy_engine.rules.conditions.field_tests import Answer, AskedField

Held = tuple[int, int]
"""Bits of the statements that may hold on a turn, and of those among them whose condition has still to be asked."""

_MOST_KEPT = 4096


class HeldConditions:
    """The conditions of a policy, one for each statement; None for one without a condition."""

    def __init__(self, conditions: Sequence[Expr | None]) -> None:
        self._always = 0
        self._own: dict[str, AskedField] = {}
        """The message's content and role, which are not what the data has under these keys."""
        self._keys: dict[str, dict[str, AskedField]] = {scope: {} for scope in TURN_SCOPES}
        self._paths: dict[str, dict[tuple[str | int, ...], AskedField]] = {scope: {} for scope in TURN_SCOPES}
        self._joint: list[tuple[int, Callable[[int, int], bool], int]] = []
        self._joint_known: Bounded[tuple[int, int], Held] = Bounded(_MOST_KEPT)
        self._bits: dict[str, int] = {}
        self._open = 0
        """Bits of the tests that differ from segment to segment."""
        for number, condition in enumerate(conditions):
            bit = 1 << number
            if condition is None:
                self._always |= bit
            elif isinstance(condition, (And, Or, Not)) or condition.field.scope not in TURN_SCOPES:
                may = self._compile(condition, negated=False)
                self._joint.append((bit, may, sum({self._bits[repr(leaf)] for leaf in leaves(condition)})))
            elif (field := self._field(condition.field.scope, condition.field.path)) is not None:
                field.add(condition, statement=bit)

        self.ask = any(condition is not None for condition in conditions)
        """Whether there is a condition at all."""

    def _field(self, scope: str, path: tuple[str | int, ...]) -> AskedField | None:
        """The tests of a field; None if no data can have the field."""
        root = path[0]
        if scope == "message" and root in ("content", "role"):
            return self._own.setdefault(str(root), AskedField()) if len(path) == 1 else None
        if not isinstance(root, str):
            return None
        if len(path) == 1:
            return self._keys[scope].setdefault(root, AskedField())
        return self._paths[scope].setdefault(path, AskedField())

    def _compile(self, expr: Expr, *, negated: bool) -> Callable[[int, int], bool]:
        """An expression, or its negation, as a function of tests.

        The function takes the tests that may be true and those that are, and says if the expression may be true.
        """
        if isinstance(expr, Not):
            return self._compile(expr.operand, negated=not negated)
        if isinstance(expr, (And, Or)):
            parts = [self._compile(operand, negated=negated) for operand in expr.operands]
            if isinstance(expr, And) != negated:
                return lambda may, sure: all(part(may, sure) for part in parts)
            return lambda may, sure: any(part(may, sure) for part in parts)
        known = self._bits.get(key := repr(expr))
        bit = self._bits[key] = 1 << len(self._bits) if known is None else known
        if known is None:
            if expr.field.scope not in TURN_SCOPES:
                self._open |= bit
            elif (field := self._field(expr.field.scope, expr.field.path)) is not None:
                field.add(expr, joint=bit)
        if negated:
            return lambda may, sure: not sure & bit
        return lambda may, sure: bool(may & bit)

    def read(self, view: ChatView) -> list[Held]:
        """The statements that hold on each turn, and last those on text that no message owns."""
        of_sample = _asked(view.chat.sample, self._keys["sample"], self._paths["sample"])
        keys, paths, turn_keys = self._keys["message"], self._paths["message"], self._keys["turn"]
        content, role = self._own.get("content"), self._own.get("role")
        found = []
        for turn, message in enumerate(view.chat.messages):
            answers = _asked(message, keys, paths)
            if content is not None and (text := content_text(message)) is not None:
                answers.append(content.answer(text))
            if role is not None:
                answers.append(role.answer(view.roles[turn]))
            answers += [field.answer(view.turn_value((key,), turn)) for key, field in turn_keys.items()]
            found.append(self._held([*of_sample, *answers]))
        found.append(self._held(of_sample))
        return found

    def _held(self, answers: Sequence[Answer]) -> Held:
        # On a missing field every test is false, so only the fields that are there have something to say.
        held, still, sure, unsure = self._always, 0, 0, self._open
        for statements, tests, open_statements, open_tests in answers:
            held |= statements
            still |= open_statements
            sure |= tests
            unsure |= open_tests
        if self._joint:
            known = self._joint_known.get((sure, unsure))
            if known is None:
                may = sure | unsure
                holding = [(bit, tests) for bit, holds, tests in self._joint if holds(may, sure)]
                held_now = sum(bit for bit, _ in holding)
                open_still = sum(bit for bit, tests in holding if tests & unsure)
                known = self._joint_known.keep((sure, unsure), (held_now, open_still))
            held |= known[0]
            still |= known[1]
        return held | still, still


def _asked(
    data: Mapping[str, Any], keys: dict[str, AskedField], paths: dict[tuple[str | int, ...], AskedField]
) -> list[Answer]:
    """The answers of the fields of a message or a sample."""
    names = data if len(data) < len(keys) else keys
    found = [keys[name].answer(data[name]) for name in names if name in keys and name in data]
    for path, field in paths.items():
        if path[0] in data and (value := step_into(data, path)) is not MISSING:
            found.append(field.answer(value))
    return found
