"""Operators of templates: bounded in size and time; what they make of data is the data's.

{{ n + 1 }}                   ->  ‹13›
{{ u * 2 }}                   ->  ‹Hi, BobHi, Bob›
{{ 'abcdefghijklmnop'[n:] }}  ->  ‹mnop›
{{ (u ~ v)[:9] }}             ->  ‹Hi, Bob›«Ye»

And facts about expressions that the compiler reads off their syntax.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from jinja2 import TemplateSyntaxError, nodes

from policy_engine.chat.trace.bounds import (
    check_comparison,
    check_key,
    check_member,
    check_percent,
    check_power,
    check_product,
    check_sum,
)
from policy_engine.chat.trace.call_bounds import charged
from policy_engine.chat.trace.computed import computed
from policy_engine.chat.trace.text import Traced
from policy_engine.chat.trace.values import TracedFloat, TracedInt

_SIMPLE: Final = frozenset({str, Traced, int, bool, float, type(None), TracedInt, TracedFloat})
"""Types whose values are compared in one pass over them."""

_ARITHMETIC: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "/": operator.truediv, "//": operator.floordiv,
}  # fmt: skip

_COMPARISONS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "lteq": operator.le, "gt": operator.gt,
    "gteq": operator.ge, "in": lambda left, right: left in right, "notin": lambda left, right: left not in right,
}  # fmt: skip


def add(left: Any, right: Any) -> Any:
    """`left + right`."""
    made = left + right
    kind = type(made)
    # Texts and lists keep the origins of what is in them.
    if kind is Traced or kind is str or kind is list:
        return check_sum(made)
    # Numbers of the template's own, such as `loop.index0 + 1`: not worth a look inside.
    if kind is int and type(left) is int and type(right) is int:
        return made
    return computed(check_sum(made), left, right)


def subtract(left: Any, right: Any) -> Any:
    """`left - right`."""
    made = left - right
    return made if type(left) is int and type(right) is int else computed(made, left, right)


def arithmetic(sign: str, left: Any, right: Any) -> Any:
    """`left / right` and `left // right`."""
    made = _ARITHMETIC[sign](left, right)
    return made if type(left) is int and type(right) is int else computed(made, left, right)


def signed(sign: str, value: Any) -> Any:
    """`-value` or `+value`."""
    return computed(-value if sign == "-" else +value, value)


def multiplied(sign: str, left: Any, right: Any) -> Any:
    """`left * right`, `left ** right`, `left % right`."""
    if sign == "%":
        if isinstance(left, str):
            check_percent(left, right)
            if type(left) is str:
                left = Traced(left)  # a plain string would lose the origins of what is in a tuple or an object
        return computed(left % right, left, right)
    if sign == "*":
        check_product(left, right)
        return computed(left * right, left, right)
    check_power(left, right)
    return computed(left**right, left, right)


def _comparison(sign: str) -> Callable[[Any, Any], Any]:
    operation = _COMPARISONS[sign]
    check = check_member if sign in ("in", "notin") else check_comparison

    def compared(left: Any, right: Any) -> Any:
        if type(left) not in _SIMPLE or type(right) not in _SIMPLE:
            check(left, right)
        return operation(left, right)

    return compared


COMPARISONS: Final = {sign: _comparison(sign) for sign in _COMPARISONS}
"""The comparisons by Jinja's names for them, each with a check before it."""


def compare(signs: list[str], left: Any, *rest: Callable[[], Any]) -> Any:
    """Compare in a chain, for example `1 < n <= 9`; `rest` give the operands that are needed."""
    return compare_by(lambda sign, one, other: COMPARISONS[sign](one, other), signs, left, *rest)


def compare_by(
    comparison: Callable[[str, Any, Any], Any], signs: list[str], left: Any, *rest: Callable[[], Any]
) -> Any:
    """Compare in a chain by a function of a sign and two operands."""
    found: Any = True
    for sign, operand in zip(signs, rest, strict=True):
        # Only when its turn comes, and once, as Python evaluates a chain.
        right = operand()
        found = comparison(sign, left, right)
        if not found:
            break
        left = right
    return found


def key(value: Any) -> Any:
    """`value`, the key of an object that a template writes."""
    check_key(value)
    return value


def cut(value: Any, start: Any, stop: Any, step: Any) -> Any:
    """Slice `value`; the template's own text that a number of the data cuts is the data's."""
    made = value[start:stop:step]
    if type(made) is str or type(made) is list:
        charged(made)
    if type(start) is TracedInt or type(stop) is TracedInt or type(step) is TracedInt:
        return computed(made, start, stop, step)
    return made


def sum_of_texts(node: nodes.Node) -> list[nodes.Node] | None:
    """The operands of `'<' + m.role + '>'`, a string among them; None if one does more."""
    operands: list[nodes.Node] = []
    # `a + b + c` is `(a + b) + c`, so the operands come out from the right.
    while isinstance(node, nodes.Add):
        operands.append(node.right)
        node = node.left
    operands.append(node)
    if len(operands) < 2 or not any(getattr(o, "pe_text", False) for o in operands):
        return None
    return operands[::-1] if all(_only_reads(o) for o in operands) else None


def _only_reads(node: nodes.Node) -> bool:
    if isinstance(node, nodes.Const):
        return isinstance(node.value, str)
    if isinstance(node, nodes.Getattr | nodes.Getitem):
        simple = isinstance(node, nodes.Getattr) or isinstance(node.arg, nodes.Const)
        return simple and isinstance(node.node, nodes.Name)
    if isinstance(node, nodes.Filter):
        # Reading twice must not matter, and nothing may be called: order of evaluation stays as it was.
        return node.name == "trim" and not node.args and node.node is not None and _only_reads(node.node)
    return isinstance(node, nodes.Name)


def lists_in(node: nodes.Node) -> list[nodes.List | nodes.Tuple]:
    """The lists that an assigned value is, or is a sum of."""
    if isinstance(node, nodes.Add):
        return [*lists_in(node.left), *lists_in(node.right)]
    return [node] if isinstance(node, nodes.List | nodes.Tuple) else []


def is_constant(node: nodes.Node) -> bool:
    """Tell if a node is a constant, or a list of constants; a negative number is one."""
    if isinstance(node, nodes.List | nodes.Tuple):
        return all(map(is_constant, node.items))
    return isinstance(node, nodes.Const) or (isinstance(node, nodes.Neg) and isinstance(node.node, nodes.Const))


def is_scalar(node: nodes.Node) -> bool:
    """Tell if a node's value is text or a number, whatever the data.

    Comparing with one ends quickly. For example, `messages|length - 1`.
    """
    if isinstance(node, nodes.Filter):
        return node.name in ("count", "float", "int", "length", "lower", "string", "trim", "upper")
    return is_constant(node) or isinstance(node, nodes.Concat | nodes.Not | nodes.Sub | nodes.Test)


class Said(NamedTuple):
    """Facts that the source of a template says of itself."""

    words: frozenset[str]
    """Its strings, and the attributes that it asks for."""
    tested: tuple[str, ...]
    """The strings that it looks for with `in`."""
    names: frozenset[str]


def said_in(tree: nodes.Template) -> Said:
    """The facts of a parsed template, in one walk: a large one has thousands of nodes.

    Raises TemplateSyntaxError for one that sets `autoescape`.
    """
    words, tested, names = set[str](), dict[str, None](), set[str]()
    for node in tree.find_all(_ASKED):
        # Every output would be Markup, whose escaping moves characters.
        if isinstance(node, nodes.EvalContextModifier):
            if any(option.key == "autoescape" for option in node.options):
                raise TemplateSyntaxError("autoescape hides where text comes from", node.lineno)
        elif isinstance(node, nodes.Name):
            names.add(node.name)
        elif isinstance(node, nodes.Getattr):
            words.add(node.attr)
        elif isinstance(node, nodes.Const) and isinstance(node.value, str):
            words.add(node.value)
        elif isinstance(node, nodes.Compare) and isinstance(node.expr, nodes.Const) and _looks_for(node):
            tested[node.expr.value] = None
    return Said(frozenset(words), tuple(tested), frozenset(names))


def _looks_for(node: nodes.Compare) -> bool:
    """True for `'text' in value`."""
    return isinstance(getattr(node.expr, "value", None), str) and node.ops[0].op in ("in", "notin")


_ASKED: Final = (nodes.Compare, nodes.Const, nodes.EvalContextModifier, nodes.Getattr, nodes.Name)
