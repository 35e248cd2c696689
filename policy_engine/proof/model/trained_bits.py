"""The meaning of `trained`: one bit for each different set of rules above a use of the word.

train assistant
mask trained last assistant       # bit 0: rule 0 trains something of the turn
train eos of trained user      # bit 1: rules 0 and 1 do
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from policy_engine.core.vocabulary import BODY
from policy_engine.lang.checked import (
    Atom,
    CheckedPolicy,
    CheckedRule,
    CheckedStatement,
    CheckedTarget,
    TurnSet,
    atoms_of,
)
from policy_engine.proof.model.assignments import TooLarge
from policy_engine.proof.model.positions import Turns

MAX_BITS: Final = 6
"""Bits one turn may have: past them the answer is undecided."""


class Stages:
    """The bits of a turn.

    A turn has a bit if rules `[0, stage)` of a policy leave something of its body trained.

    Uses of `trained` whose rules above say the same of bodies share a bit, also across two policies that are compared.
    """

    def __init__(self, policies: Sequence[CheckedPolicy]) -> None:
        self.policies = policies
        self.bits: list[tuple[int, int]] = []
        """For each bit the policy's index and the number of its rules that count."""
        self._roles: list[set[str | None]] = []
        self._by_rules: dict[tuple[str, ...], int] = {}
        for index, policy in enumerate(policies):
            for statement in policy.statements:
                # All bits are known before points are made, since each of them doubles the letters of a role.
                for turns in turn_sets(statement.targets):
                    self.resolve(turns, index, stage_of(policy, statement))

    def resolve(self, turns: TurnSet, policy: int, stage: int) -> Turns:
        """A set of turns as a rule with `stage` rules above it means it."""
        which = turns.which
        bit = self._bit(policy, stage, turns.role) if which is not None and which.trained else None
        end = None if which is None else which.end
        return Turns(turns.role, end, which.count if which is not None and end is not None else 0, bit)

    def _bit(self, policy: int, stage: int, role: str | None) -> int:
        rules = self.policies[policy].rules[:stage]
        # Rules about headers and ends do not change what is trained of a body.
        key = tuple(_meaning(rule) for rule in rules if _touches_body(rule))
        bit = self._by_rules.setdefault(key, len(self.bits))
        if bit == len(self.bits):
            self.bits.append((policy, stage))
            self._roles.append(set())
        self._roles[bit].add(role)
        return bit

    def bits_of(self, role: str) -> list[int]:
        """The bits that some part of the policy asks about turns of a role.

        Raises `TooLarge` if they are too many.
        """
        # A role that nobody asks about needs no letters with and without the bit.
        found = [bit for bit, roles in enumerate(self._roles) if None in roles or role in roles]
        if len(found) > MAX_BITS:
            raise TooLarge(
                f"`trained` is used below {len(found)} different sets of rules, more than {MAX_BITS}",
                help="write the rules that ask for `trained` next to each other, below those that decide it",
            )
        return found


def stage_of(policy: CheckedPolicy, statement: CheckedStatement) -> int:
    """The number of rules that decide what `trained` means in a statement."""
    return statement.index if isinstance(statement, CheckedRule) else len(policy.rules)


def turn_sets(targets: Sequence[CheckedTarget]) -> list[TurnSet]:
    """Every set of turns that targets talk about.

    >>> from policy_engine.lang.check import check_text
    >>> sets = turn_sets(check_text("train eos of last assistant, assistant right after tool").rules[0].targets)
    >>> [turns.role for turns in sets]
    ['assistant', 'assistant', 'tool']
    """
    atoms = [atom for target in targets for atom in atoms_of(target)]
    own = [atom.turns for atom in atoms if atom.turns is not None]
    return own + [relation.turns for atom in atoms for relation in atom.relations]


def target_key(target: CheckedTarget) -> str:
    """A key that is equal for targets of one meaning, wherever they are written."""
    if isinstance(target, Atom):
        return f"{target.turns!r}:{sorted(target.parts)}:{target.relations!r}"
    inside = [target_key(inner) for inner in target.inside]
    return f"{target.pattern!r}:{target.flags}:{target.field!r}:{inside}"


def _meaning(rule: CheckedRule) -> str:
    targets = sorted(target_key(target) for target in rule.targets)
    return f"{rule.effect}:{targets}:{rule.condition!r}:{rule.weight!r}"


def _touches_body(rule: CheckedRule) -> bool:
    return any(not BODY.isdisjoint(atom.parts) for target in rule.targets for atom in atoms_of(target))
