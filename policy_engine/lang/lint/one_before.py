"""Tests of `message` behind `right after` that only the message before can meet.

In `mask assistant right after tool where has message.tool_call_id`, the message is the assistant's, which has no such
field; the tool's has, and is `previous`.
"""

from __future__ import annotations

from typing import Final

from policy_engine.lang.ast import Compare, Has, Truth, leaves
from policy_engine.lang.checked import Atom, CheckedGuard, CheckedRule, atoms_of
from policy_engine.lang.findings import Findings

_ONLY_OF: Final = {"tool_call_id": "tool", "tool_calls": "assistant", "function_call": "assistant"}
"""Fields that only messages of one role have."""


def one_before(ruling: CheckedRule | CheckedGuard, findings: Findings) -> None:
    """Reports the tests of `message` in a rule or guard that only the turn before can meet.

    >>> from policy_engine.lang.check import check_text
    >>> findings = Findings()
    >>> one_before(check_text("mask assistant right after tool where has message.tool_call_id").rules[0], findings)
    >>> findings.warnings[0].help
    'write `previous.tool_call_id`'
    """
    atoms = [atom for target in ruling.targets for atom in atoms_of(target)]
    tests = [] if ruling.condition is None else [t for t in leaves(ruling.condition) if t.field.scope == "message"]
    for test in tests:
        role = _role_meant(test)
        # All targets: through one that is not right after such a turn, the test can be true of the message itself.
        if role is not None and all(_is_right_after(atom, role) for atom in atoms):
            message = f"`{test.field}` is the message's own, and only that of `{role}` right before can be meant"
            findings.warn("PE610", message, test.span, f"write `previous.{str(test.field).partition('.')[2]}`")


def _is_right_after(atom: Atom, role: str) -> bool:
    """True if an atom is right after turns of a role, and itself of another."""
    own = atom.turns.role if atom.turns else None
    relations = (relation for relation in atom.relations if relation.kind == "right after")
    # Without a role of its own, or with the same one, the message itself may have the field.
    return own not in (None, role) and any(relation.turns.role == role for relation in relations)


def _role_meant(test: Compare | Has | Truth) -> str | None:
    """The one role whose messages a test can be true of; None if others can too.

    >>> from policy_engine.lang.parse import parse
    >>> test = parse('mask user where message.role == "tool"').statements[0].conditions[0].expr
    >>> _role_meant(test)
    'tool'
    """
    if test.field.path != ("role",):
        return _ONLY_OF.get(str(test.field.path[0]))
    if not isinstance(test, Compare) or test.op not in ("==", "in"):
        return None
    # `in "assistant"`, a text, is a search for a part of it; only a list names roles.
    named = test.value if isinstance(test.value, tuple) else (test.value,) if test.op == "==" else ()
    return named[0] if len(named) == 1 and isinstance(named[0], str) else None
