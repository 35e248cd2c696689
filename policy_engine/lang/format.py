"""Policies as text: one canonical layout, comments kept."""

from __future__ import annotations

import bisect
import json
import re
from collections.abc import Sequence
from typing import Final

from policy_engine.lang.ast import (
    And,
    Comment,
    Compare,
    Condition,
    Everything,
    Expr,
    Field,
    Group,
    Guard,
    Has,
    Language,
    Let,
    Not,
    On,
    Or,
    Policy,
    Primary,
    RegexIn,
    Relation,
    Rule,
    SampledIn,
    Scalar,
    Scale,
    Selector,
    SpansIn,
    Statement,
    Target,
    Truth,
    Use,
    Which,
)
from policy_engine.lang.split import HIDDEN

WIDTH: Final = 100
"""A statement longer than this, in characters, is broken before its clauses."""

# An escape is matched first and kept, so that a slash behind a backslash is not escaped twice.
_SLASH: Final = re.compile(r"(\\.)|/", re.DOTALL)
_BLANK_LINE: Final = re.compile(r"\n[ \t\r;]*\n")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def format_policy(policy: Policy) -> str:
    """The canonical text: one statement a line, blank lines between groups kept as one.

    It parses to an equal policy, formats to itself, and has every comment once. A comment behind a statement stays
    behind it; any other gets a line of its own before the statement that it was before or in.

    >>> from policy_engine.lang.parse import parse
    >>> print(format_policy(parse("train   assistant;mask user # why")), end="")
    train assistant
    mask user  # why
    """
    above, behind = _placed(policy)
    lines: list[str] = []
    end: int | None = None  # of what was printed last, in the source
    # The None at the end stands for the end of the text, which may have comments above it.
    for i, statement in enumerate((*policy.statements, None)):
        start = statement.span.start if statement else len(policy.source.text)
        for comment in above[i]:
            _gap(policy, lines, end, min(comment.span.start, start))
            lines.append(_comment(comment))
            end = comment.span.end
        if statement is None:
            break
        _gap(policy, lines, end, start)
        text, end = _statement(statement), statement.span.end
        if i in behind:
            text, end = f"{text}  {_comment(behind[i])}", behind[i].span.end
        lines.append(text)
    return "\n".join(lines) + "\n" if lines else ""


def _placed(policy: Policy) -> tuple[list[list[Comment]], dict[int, Comment]]:
    """The comments above each statement, then those after all; and those behind statements."""
    above: list[list[Comment]] = [[] for _ in range(len(policy.statements) + 1)]
    behind: dict[int, Comment] = {}
    ends = [s.span.end for s in policy.statements]
    for comment in sorted(policy.comments, key=lambda c: c.span.start):
        at = comment.span.start
        i = bisect.bisect_right(ends, at)  # the statement it is in or before
        inside = i < len(ends) and policy.statements[i].span.start < at
        # Behind a statement is on its last line, behind its end; a statement cannot be in between, or it would be
        # the next one.
        if i and not inside and not comment.own_line and "\n" not in policy.source.text[ends[i - 1] : at]:
            behind[i - 1] = comment
        else:
            above[i].append(comment)
    return above, behind


def _gap(policy: Policy, lines: list[str], end: int | None, start: int) -> None:
    """Keep one blank line where the text had any."""
    if end is not None and _BLANK_LINE.search(policy.source.text, end, start):
        lines.append("")


def _comment(comment: Comment) -> str:
    text = comment.text.rstrip()
    # `#!` lines and rows of `##` are kept as they are; any other comment gets a blank.
    return f"#{text}" if not text or text[0] in " !#" else f"# {text}"


def _statement(statement: Statement) -> str:
    if isinstance(statement, Rule):
        head = f"{statement.effect} {_targets(statement.targets)}"
        weight = [] if statement.weight is None else [f"weight {_amount(statement.weight)}"]
        return _with_clauses(head, [*_conditions(statement.conditions), *weight])
    if isinstance(statement, Scale):
        head = f"scale {_targets(statement.targets)} by {_amount(statement.factor)}"
        return _with_clauses(head, _conditions(statement.conditions))
    if isinstance(statement, Guard):
        head = f"{statement.kind} train {_targets(statement.targets)}"
        return _with_clauses(head, _conditions(statement.conditions))
    if isinstance(statement, Use):
        return f"use {_literal(statement.name) if statement.quoted else statement.name}"
    if isinstance(statement, Let):
        return f"let {statement.name} = {_targets(statement.targets)}"
    if isinstance(statement, On):
        return f"on {statement.setting} {statement.value}"
    # A statement that is added to the language fails here, and is not printed as another one.
    assert isinstance(statement, Language)
    return f"language {statement.version}"


def _with_clauses(head: str, clauses: Sequence[str]) -> str:
    flat = " ".join([head, *clauses])
    if not clauses or len(flat) <= WIDTH:
        return flat
    return "\n  ".join([head, *clauses])


def _conditions(conditions: Sequence[Condition]) -> list[str]:
    return [f"{'unless' if c.negated else 'where'} {expression(c.expr)}" for c in conditions]


def _amount(amount: int | float | Field) -> str:
    return field(amount) if isinstance(amount, Field) else _literal(amount)


def _targets(targets: Sequence[Target]) -> str:
    return ", ".join(target(t) for t in targets)


def target(node: Target) -> str:
    """A target as it is written.

    >>> from policy_engine.lang.parse import parse
    >>> target(parse("train assistant.text").statements[0].targets[0])
    'assistant.text'
    """
    return " ".join([_primary(node.primary), *(_relation(r) for r in node.relations)])


def _primary(primary: Primary) -> str:
    if isinstance(primary, Selector):
        return selector(primary)
    if isinstance(primary, Everything):
        return "everything"
    if isinstance(primary, Group):
        return f"({_targets(primary.targets)})"
    if isinstance(primary, RegexIn):
        return f"{_regex(primary.pattern, primary.flags)} in {_primary(primary.inside)}"
    if isinstance(primary, SampledIn):
        return f"sampled in {_primary(primary.inside)}"
    assert isinstance(primary, SpansIn)
    return f"spans {field(primary.field)} in {_primary(primary.inside)}"


def selector(node: Selector) -> str:
    """A selector as it is written.

    >>> from policy_engine.lang.parse import parse
    >>> selector(parse("train last  2 assistant . text").statements[0].targets[0].primary)
    'last 2 assistant.text'
    """
    first, *rest = node.names
    name = ".".join([_literal(first) if node.quoted else first, *rest])
    return f"{_which(node.which)} {name}" if node.which is not None else name


def _which(which: Which) -> str:
    words = ["trained"] if which.trained else []
    if which.end is not None:
        words.append(which.end)
        if which.count != 1:
            words.append(str(which.count))
    return " ".join(words)


def _relation(relation: Relation) -> str:
    return f"{relation.kind} {selector(relation.selector)}"


def expression(node: Expr) -> str:
    """A condition as it is written.

    >>> from policy_engine.lang.parse import parse
    >>> expression(parse("train user where not (message.a or message.b)").statements[0].conditions[0].expr)
    'not (message.a or message.b)'
    """
    # Brackets only where the tree needs them: `or` binds less than `and`, both less than `not`.
    if isinstance(node, Or):
        return " or ".join(_operand(o, (Or,)) for o in node.operands)
    if isinstance(node, And):
        return " and ".join(_operand(o, (Or, And)) for o in node.operands)
    if isinstance(node, Not):
        return f"not {_operand(node.operand, (Or, And))}"
    if isinstance(node, Has):
        return f"has {field(node.field)}"
    if isinstance(node, Truth):
        return field(node.field)
    assert isinstance(node, Compare)
    return f"{field(node.field)} {node.op} {_value(node)}"


def _operand(node: Expr, bracketed: tuple[type, ...]) -> str:
    return f"({expression(node)})" if isinstance(node, bracketed) else expression(node)


def _value(node: Compare) -> str:
    if isinstance(node.value, tuple):
        return f"[{', '.join(_literal(v) for v in node.value)}]"
    if node.op == "matches" and isinstance(node.value, str) and _is_regex(node.value):
        return _regex(node.value, node.flags)
    return _literal(node.value)


def _is_regex(pattern: str) -> bool:
    # A pattern that cannot be between slashes is written as a string.
    hidden = "\n" in pattern or HIDDEN.search(pattern)
    # An empty pattern would be `//`, and a backslash at the end would escape the closing slash.
    trailing = len(pattern) - len(pattern.rstrip("\\"))
    return bool(pattern) and not hidden and trailing % 2 == 0


def _regex(pattern: str, flags: str) -> str:
    escaped = _SLASH.sub(lambda match: match[1] or "\\/", pattern)
    return f"/{escaped}/{flags}"


def _literal(value: Scalar) -> str:
    # As JSON writes it: a number as the shortest text that reads back to the same one. A character that is not allowed
    # in a policy can be in a string as an escape.
    return HIDDEN.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(value, ensure_ascii=False))


def field(node: Field) -> str:
    """A field as it is written.

    >>> from policy_engine.lang.parse import parse
    >>> field(parse('train user where message . "my key"[0]').statements[0].conditions[0].expr.field)
    'message."my key"[0]'
    """
    # A key that is not a name is written in quotes: `sample."first name"`.
    steps = [f"[{s}]" if isinstance(s, int) else f".{s if _NAME.match(s) else _literal(s)}" for s in node.path]
    return node.scope + "".join(steps)
