"""Policies as text: one canonical layout, comments kept."""

from __future__ import annotations

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
    Literal_,
    Not,
    On,
    Or,
    Policy,
    Primary,
    RegexIn,
    Relation,
    Rule,
    Scale,
    Selector,
    SpansIn,
    Statement,
    Target,
    Truth,
    Use,
    Which,
)

WIDTH: Final = 100
"""A statement longer than this, in characters, is broken before its clauses."""

_SLASH: Final = re.compile(r"(\\.)|/", re.DOTALL)
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def format_policy(policy: Policy) -> str:
    """The canonical text: one statement a line, `;` at its end, blank lines between groups kept as one.

    Parses to an equal policy, formats to itself, and has every comment once: those on lines of their own before the
    statement they stood before or in, those behind code behind it.
    """
    lines: list[str] = []
    comments = sorted(policy.comments, key=lambda c: c.span.start)
    at = 0  # the next comment
    previous_end: int | None = None
    for statement in policy.statements:
        line_end = _line_end(policy, statement.span.end)
        own: list[Comment] = []
        behind: list[Comment] = []
        while at < len(comments) and comments[at].span.start < line_end:
            comment = comments[at]
            if comment.span.start > statement.span.end and _next_start(policy, statement) < comment.span.start:
                break
            (own if comment.own_line or comment.span.start < statement.span.start else behind).append(comment)
            at += 1
        for comment in own:
            previous_end = _gap(policy, lines, previous_end, comment.span.start)
            lines.append(_comment(comment))
            previous_end = comment.span.end
        if not own or own[-1].span.start < statement.span.start:
            _gap(policy, lines, previous_end, statement.span.start)
        # Comments in the middle of a statement move behind it, and further ones to lines of their own before it.
        if len(behind) > 1:
            lines += [_comment(comment) for comment in behind[:-1]]
        text = _statement(statement) + ";"
        lines.append(f"{text}  {_comment(behind[-1])}" if behind else text)
        previous_end = max([statement.span.end, *(c.span.end for c in (*own, *behind))])
    for comment in comments[at:]:
        _gap(policy, lines, previous_end, comment.span.start)
        lines.append(_comment(comment))
        previous_end = comment.span.end
    return "\n".join(lines) + "\n" if lines else ""


def _line_end(policy: Policy, offset: int) -> int:
    end = policy.source.text.find("\n", offset)
    return len(policy.source.text) if end < 0 else end


def _next_start(policy: Policy, statement: Statement) -> int:
    following = [s.span.start for s in policy.statements if s.span.start >= statement.span.end and s is not statement]
    return min(following, default=len(policy.source.text) + 1)


def _gap(policy: Policy, lines: list[str], previous_end: int | None, start: int) -> int:
    """Keep one blank line where the text had any."""
    if previous_end is not None and lines and lines[-1] != "":
        between = policy.source.text[previous_end:start]
        if re.search(r"\n[ \t\r;]*\n", between):
            lines.append("")
    return start


def _comment(comment: Comment) -> str:
    text = comment.text.rstrip()
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
        return f"use {_string(statement.name) if statement.quoted else statement.name}"
    if isinstance(statement, Let):
        return f"let {statement.name} = {_targets(statement.targets)}"
    if isinstance(statement, On):
        return f"on {statement.setting} {statement.value}"
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
    return field(amount) if isinstance(amount, Field) else _number(amount)


def _number(value: int | float) -> str:
    return json.dumps(value)


def _targets(targets: Sequence[Target]) -> str:
    return ", ".join(target(t) for t in targets)


def target(node: Target) -> str:
    """A target as it is written."""
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
    assert isinstance(primary, SpansIn)
    return f"spans {field(primary.field)} in {_primary(primary.inside)}"


def selector(node: Selector) -> str:
    """A selector as it is written."""
    first, *rest = node.names
    name = ".".join([_string(first) if node.quoted else first, *rest])
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
    """A condition as it is written."""
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
    # What cannot stand between slashes is written as a string.
    return bool(pattern) and "\n" not in pattern and not _trailing_backslash(pattern)


def _trailing_backslash(pattern: str) -> bool:
    return (len(pattern) - len(pattern.rstrip("\\"))) % 2 == 1


def _regex(pattern: str, flags: str) -> str:
    escaped = _SLASH.sub(lambda match: match[1] or "\\/", pattern)
    return f"/{escaped}/{flags}"


def _literal(value: Literal_) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _string(value) if isinstance(value, str) else _number(value)


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def field(node: Field) -> str:
    """A field as it is written."""
    steps = [f"[{s}]" if isinstance(s, int) else f".{s if _NAME.match(s) else _string(s)}" for s in node.path]
    return node.scope + "".join(steps)
