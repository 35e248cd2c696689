"""The parts and turns that the targets of a rule select, for lint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from policy_engine.lang.checked import Atom, CheckedRule, CheckedTarget


def whole_atoms(targets: Sequence[CheckedTarget]) -> Iterator[Atom]:
    """Targets that select whole segments."""
    return (t for t in targets if isinstance(t, Atom))


def role_of(atom: Atom) -> str | None:
    """The role whose turns an atom selects; None for turns of any role."""
    return atom.turns.role if atom.turns else None


def is_narrow(rule: CheckedRule, atom: Atom) -> bool:
    """True if a rule selects only some turns of the atom's role.

    >>> from policy_engine.lang.check import check_text
    >>> rule = check_text("train last assistant").rules[0]
    >>> is_narrow(rule, rule.targets[0])
    True
    """
    return bool(rule.condition or atom.relations or (atom.turns and atom.turns.which))


def covers(atom: Atom, role: str | None, parts: frozenset[str]) -> bool:
    """True if an atom selects some of the parts of a role's turns; None is turns of any role."""
    return bool(atom.parts & parts) and (role is None or role_of(atom) in (None, role))
