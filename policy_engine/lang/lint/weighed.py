"""A weight from the data that masks text, and ends of the same turns that are trained.

train assistant, eos of assistant
scale assistant by message.weight      # where it is 0, the text is masked, and the end is trained
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from policy_engine.core.diagnostics import Related
from policy_engine.core.vocabulary import EOS
from policy_engine.lang.ast import Field
from policy_engine.lang.checked import Atom, CheckedRule
from policy_engine.lang.findings import Findings
from policy_engine.lang.lint.selection import covers, is_narrow, role_of, whole_atoms

_TEXT: Final = frozenset({"text"})


def weighed_text(rules: Sequence[CheckedRule], findings: Findings) -> None:
    """Reports ends that are trained where a field of the data masks the text.

    >>> from policy_engine.lang.check import check_text
    >>> findings = Findings()
    >>> weighed_text(check_text("train assistant, eos of assistant; scale assistant by message.w").rules, findings)
    >>> findings.warnings[0].message
    'where `message.w` is 0, the text is masked, and these ends are trained'
    """
    for at, rule in enumerate(rules):
        if rule.effect == "mask" or not isinstance(rule.weight, Field):
            continue
        for atom in whole_atoms(rule.targets):
            role = role_of(atom)
            if not atom.parts & _TEXT or _is_decided(rules[at + 1 :], role):
                continue
            ends = _trained_ends(rules, role)
            if ends is None:
                continue
            whose = role or role_of(ends[1]) or "assistant"
            both = f"`{rule.effect} …, eos of {whose} {'by' if rule.effect == 'scale' else 'weight'} {rule.weight}`"
            help = f"train `eos of trained {whose}` below that rule in place of these, or weigh them too: {both}"
            related = Related(message="this rule weighs the text", span=rule.span)
            message = f"where `{rule.weight}` is 0, the text is masked, and these ends are trained"
            findings.warn("PE611", message, ends[0].span, help, related)


def _is_decided(later: Sequence[CheckedRule], role: str | None) -> bool:
    """True if a later rule gives all text of a role another weight."""
    return any(
        rule.effect != "scale" and covers(atom, role, _TEXT) and not is_narrow(rule, atom)
        for rule in later
        for atom in whole_atoms(rule.targets)
        # A rule for one role leaves the text of the others.
        if role is not None or role_of(atom) is None
    )


def _trained_ends(rules: Sequence[CheckedRule], role: str | None) -> tuple[CheckedRule, Atom] | None:
    """The rule that decides all ends of a role, and its atom, if it trains them with weight 1."""
    for rule in reversed(rules):
        for atom in whole_atoms(rule.targets):
            if not covers(atom, role, EOS):
                continue
            if not is_narrow(rule, atom):
                # A number is a weight that somebody chose.
                return (rule, atom) if rule.effect == "train" and rule.weight == 1 else None
            # A choice of turns by the data may leave out those of weight 0; that of `trained` turns only adds ends.
            if rule.effect != "train" and rule.condition is not None:
                return None
    return None
