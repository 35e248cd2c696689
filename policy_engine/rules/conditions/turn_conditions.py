"""The statements whose conditions hold on a turn, as bits.

A policy of two hundred conditions asks for few fields, and the fields of a dataset have few values. So the tests are
sorted by field, and the answers of a value to all tests of its field are worked out once. In the policy

    train assistant where message.quality > 3        # statement 0
    mask assistant where message.source == "web"     # statement 1

the message `{"quality": 5, "source": "book"}` gives the bits `0b01`. The last statement that holds is then the highest
bit, which is found without a look at the others.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from policy_engine.core.bounded import Bounded
from policy_engine.core.vocabulary import MESSAGE_SCOPES, NEIGHBOURS
from policy_engine.lang.ast import And, Expr, Not, Or, leaves
from policy_engine.rules.conditions.chat_view import ChatView
from policy_engine.rules.conditions.comparison import MISSING, content_text, step_into
from policy_engine.rules.conditions.conditions import CALL_SCOPES
from policy_engine.rules.conditions.field_tests import Answer, AskedField

Held = tuple[int, int]
"""Bits of the statements that may hold on a turn, and of those among them whose condition has still to be asked."""

_MOST_KEPT = 4096


@dataclass(kw_only=True)
class ScopeFields:
    """The fields of one scope that conditions ask for."""

    keys: dict[str, AskedField] = field(default_factory=dict)
    paths: dict[tuple[str | int, ...], AskedField] = field(default_factory=dict)
    content: AskedField | None = None
    role: AskedField | None = None
    """A message's content and role, which are not what the data has under these keys."""

    def of(self, path: tuple[str | int, ...], *, message: bool) -> AskedField | None:
        """The tests of a field; None if no data can have the field."""
        root = path[0]
        # A policy sees the joined text of the content and the mapped role, not the values that the data has there.
        if message and root in ("content", "role"):
            # Both are strings, into which no path leads.
            if len(path) > 1:
                return None
            if root == "content":
                self.content = self.content or AskedField()
                return self.content
            self.role = self.role or AskedField()
            return self.role
        if not isinstance(root, str):
            return None
        return self.keys.setdefault(root, AskedField()) if len(path) == 1 else self.paths.setdefault(path, AskedField())

    def __bool__(self) -> bool:
        return bool(self.keys or self.paths or self.content or self.role)


class HeldConditions:
    """The conditions of a policy, one for each statement; None for one without a condition."""

    def __init__(self, conditions: Sequence[Expr | None]) -> None:
        self._always = 0
        # One set of tests for each scope whose fields are known for a whole turn.
        self._fields = {scope: ScopeFields() for scope in CALL_SCOPES}
        self._joint: list[tuple[int, Callable[[int, int], bool], int]] = []
        self._joint_known: Bounded[tuple[int, int], Held] = Bounded(_MOST_KEPT)
        self._plain: Bounded[Any, tuple[Held, ...]] = Bounded(_MOST_KEPT)
        self._bits: dict[str, int] = {}
        self._open = 0
        """Bits of the tests that differ from segment to segment."""
        for number, condition in enumerate(conditions):
            bit = 1 << number
            if condition is None:
                self._always |= bit
            # More than one test, or one that a turn does not decide: evaluated from the answers of its tests.
            elif isinstance(condition, (And, Or, Not)) or condition.field.scope not in CALL_SCOPES:
                may = self._compile(condition, negated=False)
                self._joint.append((bit, may, sum({self._bits[repr(leaf)] for leaf in leaves(condition)})))
            # A condition that is a single test needs no evaluation: its answer is the statement's bit.
            elif (field := self._field(condition.field.scope, condition.field.path)) is not None:
                field.add(condition, statement=bit)

        self.ask = any(condition is not None for condition in conditions)
        """True if there is a condition at all."""
        self._asks_sample = bool(self._fields["sample"])
        self._around = tuple(scope for scope in NEIGHBOURS if self._fields[scope])
        """The neighbours that some condition asks for."""

    def _field(self, scope: str, path: tuple[str | int, ...]) -> AskedField | None:
        return self._fields[scope].of(path, message=scope in MESSAGE_SCOPES)

    def _compile(self, expr: Expr, *, negated: bool) -> Callable[[int, int], bool]:
        """An expression, or its negation, as a function of tests.

        The function takes the tests that may be true and those that are, and says if the expression may be true.
        """
        if isinstance(expr, Not):
            # Negations are pushed down to the tests: there "may be true" of a negation is "is not surely true" of the
            # test.
            return self._compile(expr.operand, negated=not negated)
        if isinstance(expr, (And, Or)):
            parts = [self._compile(operand, negated=negated) for operand in expr.operands]
            # A negated `or` is an `and` of negations, and the other way round.
            if isinstance(expr, And) != negated:
                return lambda may, sure: all(part(may, sure) for part in parts)
            return lambda may, sure: any(part(may, sure) for part in parts)
        known = self._bits.get(key := repr(expr))
        bit = self._bits[key] = 1 << len(self._bits) if known is None else known
        if known is None:
            if expr.field.scope not in CALL_SCOPES:
                # Never known for a turn, so always "may be true".
                self._open |= bit
            elif (field := self._field(expr.field.scope, expr.field.path)) is not None:
                field.add(expr, joint=bit)
        if negated:
            # May be true unless the test surely is: a test that is still open may be false.
            return lambda may, sure: not sure & bit
        return lambda may, sure: bool(may & bit)

    def read(self, view: ChatView) -> tuple[Held, ...]:
        """The statements that hold on each turn, and last those on text that no message owns."""
        of_sample = _asked(view.chat.sample, self._fields["sample"]) if self._asks_sample else []
        if not self._is_plain(view):
            return self._read(view, of_sample)
        key = (*of_sample, view.roles if self._fields["message"].role is not None else len(view.roles))
        known = self._plain.get(key)
        return self._plain.keep(key, self._read(view, of_sample), len(view.roles)) if known is None else known

    def _is_plain(self, view: ChatView) -> bool:
        """True if the row's own fields, roles and number of messages decide.

        No message has anything else that a test could find.
        """
        if not self._may_be_plain:
            return False
        content = self._fields["message"].content
        messages = view.chat.messages
        texts: list[Any] = [message.get("content") for message in messages if len(message) == len(("role", "content"))]
        if len(texts) != len(messages) or not {str}.issuperset(map(type, texts)):
            return False
        # All at once: to search them one by one takes three times as long.
        return content is None or not content.may_be_found("\0".join(texts))

    @functools.cached_property
    def _may_be_plain(self) -> bool:
        content = self._fields["message"].content
        places = set(self._fields["turn"].keys) <= {"index", "from_end"}
        return places and not self._around and (content is None or content.only_words)

    def _read(self, view: ChatView, of_sample: list[Answer]) -> tuple[Held, ...]:
        fields, turn_keys = self._fields["message"], self._fields["turn"].keys
        found = []
        # The row's own fields are the same for all turns, and were asked once above.
        for turn, message in enumerate(view.chat.messages):
            answers = _asked(message, fields, view.roles[turn])
            answers += [field.answer(view.turn_value((key,), turn)) for key, field in turn_keys.items()]
            for scope in self._around:
                answers += self._of_neighbour(scope, view, turn)
            found.append(self._held([*of_sample, *answers]))
        found.append(self._held(of_sample))
        return tuple(found)

    def _of_neighbour(self, scope: str, view: ChatView, turn: int) -> list[Answer]:
        if scope == "result":
            return self._of_results(view, turn)
        other = view.neighbour(scope, turn)
        return [] if other is None else _asked(view.chat.messages[other], self._fields[scope], view.roles[other])

    def _of_results(self, view: ChatView, turn: int) -> list[Answer]:
        """The answers of a turn's results: what is true of one is true.

        Text of a call has the results of that call alone, so what is not true of them too is left open.
        """
        results = view.results_of(turn)
        if not results:
            return []
        fields, messages = self._fields["result"], view.chat.messages
        by_result = {result: _union(_asked(messages[result], fields, view.roles[result])) for result in results}
        statements, tests, open_statements, open_tests = _union(by_result.values())
        for call in range(len(messages[turn]["tool_calls"])):
            own = _union(by_result[result] for result in view.results_of(turn, call))
            open_statements |= statements & ~own[0]
            open_tests |= tests & ~own[1]
        return [(statements & ~open_statements, tests & ~open_tests, open_statements, open_tests)]

    def _held(self, answers: Sequence[Answer]) -> Held:
        # On a missing field every test is false, so only the fields that are there have something to say.
        held, still, sure, unsure = self._always, 0, 0, self._open
        for statements, tests, open_statements, open_tests in answers:
            held |= statements
            still |= open_statements
            sure |= tests
            unsure |= open_tests
        if self._joint:
            # Few combinations of answers occur in a dataset, so expressions are evaluated once for each.
            known = self._joint_known.get((sure, unsure))
            if known is None:
                may = sure | unsure
                holding = [(bit, tests) for bit, holds, tests in self._joint if holds(may, sure)]
                held_now = sum(bit for bit, _ in holding)
                # Only what may hold and has an open test needs to be asked per segment.
                open_still = sum(bit for bit, tests in holding if tests & unsure)
                known = self._joint_known.keep((sure, unsure), (held_now, open_still))
            held |= known[0]
            still |= known[1]
        return held | still, still


def _union(answers: Iterable[Answer]) -> Answer:
    """The answers of several values as one: true if one of them is.

    >>> _union([(0b01, 0, 0, 0), (0b10, 1, 0, 0)])
    (3, 1, 0, 0)
    """
    statements = tests = open_statements = open_tests = 0
    for answer in answers:
        statements |= answer[0]
        tests |= answer[1]
        open_statements |= answer[2]
        open_tests |= answer[3]
    return statements, tests, open_statements, open_tests


def _asked(data: Mapping[str, Any], fields: ScopeFields, role: str = "") -> list[Answer]:
    """The answers of the fields of a message, which has a role, or of a sample."""
    keys = fields.keys
    # The shorter of the two is walked: a policy may ask for two hundred fields, or a row have as many.
    names = data if len(data) < len(keys) else keys
    found = [keys[name].answer(data[name]) for name in names if name in keys and name in data]
    for path, asked in fields.paths.items():
        if path[0] in data and (value := step_into(data, path)) is not MISSING:
            found.append(asked.answer(value))
    if fields.content is not None and (text := content_text(data)) is not None:
        found.append(fields.content.answer(text))
    if fields.role is not None:
        found.append(fields.role.answer(role))
    return found
