"""Conditions: an expression of a policy as a function of a chat and a segment.

`message.train == true and turn.index > 0` becomes a function that asks two *tests*, one for each field, and joins their
answers. The tests also say which values they saw, for `explain`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from policy_engine.core.facts import SegmentFacts
from policy_engine.lang.ast import And, Compare, Expr, Has, Not, Or, Truth, leaves
from policy_engine.rules.conditions import patterns
from policy_engine.rules.conditions.chat_view import ChatView
from policy_engine.rules.conditions.comparison import MISSING, equal, is_ordered, kind_of

Test = Callable[[Any], bool]
"""A test of one field's value (MISSING if the field is not there)."""

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
# `result` is missing here: on text of one call it means that call's results, on other text those of all calls.
TURN_SCOPES = frozenset({"message", "previous", "next", "answer", "turn", "sample"})
"""Scopes whose fields are the same on all segments of a turn."""
CALL_SCOPES = TURN_SCOPES | {"result"}
"""Scopes whose fields are the same on all segments of a turn that belong to one call, or to no call."""


@dataclass(frozen=True, kw_only=True)
class ConditionValue:
    """One test of a condition, on one segment: `turn.index > 0`, the value 2, true."""

    test: str
    """As written."""
    field: str
    value: Any
    """The field's value on the segment; None where it is `missing`."""
    missing: bool
    holds: bool
    several: bool = False
    """True if `value` is a list of values, those of several results."""


class CompiledCondition:
    """A compiled `where` expression.

    Two expressions with the same `key` give the same answer everywhere.
    """

    def __init__(self, expr: Expr) -> None:
        self.expr = expr
        # Not the expression itself: Python takes `1`, `1.0` and `true` for equal. Spans are left out of the repr.
        self.key = repr(expr)
        self._run = _compile(expr)
        scopes = {test.field.scope for test in leaves(expr)}
        self._per_turn = scopes <= TURN_SCOPES
        self._per_call = scopes <= CALL_SCOPES

    def holds(self, view: ChatView, segment: SegmentFacts) -> bool:
        """True if the condition is true on a segment."""
        # `segment.`, `part.` and `call.` differ from segment to segment, and are cheap to read again.
        if not self._per_call:
            return self._run(view, segment)
        # By what it says, so that rules with the same condition work it out once.
        key = (self.key, segment.turn, None if self._per_turn else segment.call)
        known = view.memo.get(key)
        if known is None:
            known = view.memo[key] = self._run(view, segment)
        return bool(known)

    def values(self, view: ChatView, segment: SegmentFacts) -> tuple[ConditionValue, ...]:
        """Every test of the expression with its value on a segment, in the order written."""
        found = []
        for leaf in leaves(self.expr):
            values = view.field_values(leaf.field.scope, leaf.field.path, segment)
            several = len(values) > 1
            found.append(
                ConditionValue(
                    test=leaf.span.text,
                    field=str(leaf.field),
                    value=values if several else values[0] if values else None,
                    missing=not values,
                    # No value at all makes every test false, `!=` too.
                    holds=any(map(test_of(leaf), values)),
                    several=several,
                )
            )
        return tuple(found)


def _compile(expr: Expr) -> Callable[[ChatView, SegmentFacts], bool]:
    if isinstance(expr, Not):
        inner = _compile(expr.operand)
        return lambda view, segment: not inner(view, segment)
    if isinstance(expr, And):
        parts = [_compile(e) for e in expr.operands]
        return lambda view, segment: all(part(view, segment) for part in parts)
    if isinstance(expr, Or):
        parts = [_compile(e) for e in expr.operands]
        return lambda view, segment: any(part(view, segment) for part in parts)
    scope, path, test = expr.field.scope, expr.field.path, test_of(expr)
    if scope == "result":
        return lambda view, segment: any(map(test, view.field_values(scope, path, segment)))
    return lambda view, segment: test(view.field_value(scope, path, segment))


def test_of(leaf: Compare | Has | Truth) -> Test:
    """A test as a function of its field's value.

    Raises ConfigError for a pattern that RE2 does not take.

    >>> from policy_engine.lang.check import check_text
    >>> leaf = check_text("train assistant where message.quality > 3").rules[0].condition
    >>> [test_of(leaf)(value) for value in (5, 3, "5", MISSING)]
    [True, False, False, False]
    """
    if isinstance(leaf, Has):
        return lambda value: value is not MISSING
    if isinstance(leaf, Truth):
        return lambda value: value is True
    wanted = leaf.value
    if leaf.op == "==":
        return _equals(wanted)
    if leaf.op == "!=":
        # `!=` is not the negation of `==`: both are false on a missing field.
        return lambda value: value is not MISSING and not equal(value, wanted)
    if leaf.op in _ORDER:
        compare = _ORDER[leaf.op]
        # Python raises TypeError for `1 < "2"`; here it is false.
        return lambda value: is_ordered(value, wanted) and compare(value, wanted)
    if leaf.op == "in":
        return _is_in(wanted)
    if leaf.op == "contains":
        return lambda value: _contains(value, wanted)
    pattern = patterns.compile_pattern(str(wanted), leaf.flags)
    return lambda value: isinstance(value, str) and patterns.search(pattern, value)


def _equals(wanted: Any) -> Test:
    # `equal` with the literal's type looked at once: most conditions are of this kind.
    if wanted is None or isinstance(wanted, bool):
        # `is`, since `1 == True` in Python; null and booleans are one object each.
        return lambda value: value is wanted
    if isinstance(wanted, str):
        return lambda value: isinstance(value, str) and value == wanted
    # `kind_of` tells a boolean from a number.
    return lambda value: kind_of(value) == "number" and bool(value == wanted)


def _is_in(wanted: Any) -> Test:
    if isinstance(wanted, str):
        # `FIELD in "text"` is about substrings, `FIELD in [..]` about items.
        return lambda value: isinstance(value, str) and value in wanted
    return lambda value: value is not MISSING and any(equal(value, item) for item in wanted)


def _contains(value: Any, wanted: Any) -> bool:
    if isinstance(value, str):
        return isinstance(wanted, str) and wanted in value
    return kind_of(value) == "list" and any(equal(item, wanted) for item in value)
