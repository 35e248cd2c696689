"""What must hold of any text given to the parser, and of any policy that is printed."""

from __future__ import annotations

from policy_engine.core.errors import PolicySyntaxError
from policy_engine.lang import ast
from policy_engine.lang.format import format_policy
from policy_engine.lang.parse import parse


def parse_problem(text: str) -> str | None:
    """What is wrong with what the parser makes of a text: nothing, if it is a policy or an error with a place in it."""
    try:
        policy = parse(text)
    except PolicySyntaxError as error:
        if not error.diagnostics:
            return "a syntax error without a diagnostic"
        for diagnostic in error.diagnostics:
            span = diagnostic.span
            if span is None or not 0 <= span.start <= span.end <= len(text):
                return f"a diagnostic without a place inside the text: {diagnostic!r}"
            if span.source.text != text or not str(error):
                return "a diagnostic that quotes another text"
        return None
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return round_trip_problem(policy)


def round_trip_problem(policy: ast.Policy) -> str | None:
    """What printing a policy and parsing it again changes: nothing, if all is well."""
    text = format_policy(policy)
    try:
        again = parse(text)
    except PolicySyntaxError as error:
        return f"prints as text that does not parse: {error}"
    if again.statements != policy.statements:
        for before, after in zip(policy.statements, again.statements):
            if before != after:
                return f"prints as another policy: {before} became {after} in {text!r}"
        return f"prints as {len(again.statements)} statements, not {len(policy.statements)}: {text!r}"
    # Comments in the middle of a statement move in front of it, in their order.
    were, are = ([c.text.strip() for c in p.comments] for p in (policy, again))
    if were != are:
        return f"loses comments or their order: {were} became {are}"
    if format_policy(again) != text:
        return f"is printed differently the second time: {text!r} became {format_policy(again)!r}"
    return None
