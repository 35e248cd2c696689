"""Signatures of turns: one bit for each question that a policy asks about turns.

`train last assistant; mask tool after user` asks two questions, so the conversation

    user, assistant, tool, assistant

has the signatures 0b00, 0b10, 0b10, 0b11: bit 0 is `last assistant`, bit 1 is `after user`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from policy_engine.core.bounded import Bounded
from policy_engine.core.vocabulary import BODY, RelationKind
from policy_engine.lang.checked import Atom, CheckedRule, CheckedTarget, TurnSet, atoms_of
from policy_engine.rules.conditions.chat_view import ChatView

# The other package takes longer to import than all of this folder.
if sys.version_info >= (3, 11):
    from typing import assert_never
else:
    from typing_extensions import assert_never

Trained = Callable[[ChatView, int, int], bool]
"""True if the first N rules leave something of turn T's body trained, by (view, N, T)."""


@dataclass(frozen=True, kw_only=True)
class TurnTest:
    """A question about one turn: is it one of `last 2 assistant`, or is it after one of them?"""

    relation: RelationKind | None
    """None asks if the turn is selected itself."""
    role: str | None
    end: Literal["first", "last"] | None
    count: int
    trained: bool
    stage: int
    """Number of the rules that decide what `trained` means; 0 where it does not occur."""


class TurnTests:
    """All turn tests of a program, each with a bit.

    The *signature* of a turn is the sum of the bits of the tests that it passes.
    """

    def __init__(self, rules: tuple[CheckedRule, ...]) -> None:
        self._rules = rules
        self._stages: dict[tuple[str | None, int], int] = {}
        self._bits: dict[TurnTest, int] = {}
        self._trained: list[TurnTest] = []
        # Everything but `trained` follows from the roles alone, and few sequences of roles occur.
        self._by_shape: Bounded[tuple[str, ...], list[int]] = Bounded(4096)

    def add_target(self, target: CheckedTarget, stage: int) -> None:
        """Registers what a target asks about turns, as a rule with `stage` rules above it means it."""
        # Those inside spans too: `/x/ in last assistant` asks about turns.
        for atom in atoms_of(target):
            if atom.turns is not None and atom.turns.which is not None:
                self._add(self._test(None, atom.turns, stage))
            for relation in atom.relations:
                self._add(self._test(relation.kind, relation.turns, stage))

    def _add(self, test: TurnTest) -> None:
        # Rules that ask the same question share a bit.
        if test not in self._bits:
            self._bits[test] = 1 << len(self._bits)
            if test.trained:
                self._trained = sorted([*self._trained, test], key=lambda t: t.stage)

    def signatures(self, view: ChatView, trained: Trained) -> None:
        """Fills in `view.signatures`, the signature of every turn."""
        known = self._by_shape.get(view.roles)
        if known is None:
            known = self._by_shape.keep(view.roles, self._compute(view.roles))
        # A copy, since the bits of `trained` are added for this chat alone.
        view.signatures = list(known)
        # By stage: what decides `trained` at one stage may itself ask about an earlier one.
        for test in self._trained:
            selected = _select(test, view.roles, lambda turn, stage=test.stage: trained(view, stage, turn))  # type: ignore[misc]
            _mark(test, selected, self._bits[test], view.signatures)

    def _compute(self, roles: tuple[str, ...]) -> list[int]:
        signatures = [0] * len(roles)
        for test, bit in self._bits.items():
            if not test.trained:
                _mark(test, _select(test, roles, None), bit, signatures)
        return signatures

    def _test(self, relation: RelationKind | None, turns: TurnSet, stage: int) -> TurnTest:
        which = turns.which
        trained = which is not None and which.trained
        end = None if which is None else which.end
        return TurnTest(
            relation=relation,
            role=turns.role,
            end=end,
            count=which.count if which is not None and end is not None else 0,
            trained=trained,
            # Rules in between that touch no body of the role leave the answer as it is, so the questions are one.
            stage=self._last_change(turns.role, stage) if trained else 0,
        )

    def _last_change(self, role: str | None, stage: int) -> int:
        """The fewest rules that decide the bodies of a role's turns as the first `stage` rules do."""
        known = self._stages.get((role, stage))
        if known is None:
            known = stage
            while known and not _touches_body(self._rules[known - 1], role):
                known -= 1
            self._stages[role, stage] = known
        return known

    def matches(self, atom: Atom, stage: int, role: str | None, part: str, signature: int) -> bool:
        """True if an atom selects segments of this role, part and turn signature.

        The role of text that no message owns is None.
        """
        if part not in atom.parts:
            return False
        # Text that no message owns is in no turn, so no turn test is true of it.
        if role is None:
            return atom.turns is None and not atom.relations
        turns = atom.turns
        if turns is not None:
            if turns.role is not None and turns.role != role:
                return False
            if turns.which is not None and not signature & self._bits[self._test(None, turns, stage)]:
                return False
        return all(signature & self._bits[self._test(r.kind, r.turns, stage)] for r in atom.relations)


def _touches_body(rule: CheckedRule, role: str | None) -> bool:
    return any(
        not BODY.isdisjoint(atom.parts)
        and (role is None or atom.turns is None or atom.turns.role is None or atom.turns.role == role)
        for target in rule.targets
        for atom in atoms_of(target)
    )


def _select(test: TurnTest, roles: tuple[str, ...], trained: Callable[[int], bool] | None) -> list[int]:
    """The turns that a test's turn set selects, in order."""
    turns = [t for t, role in enumerate(roles) if test.role is None or role == test.role]
    if trained is None:
        # A count is 1 or more: `turns[-0:]` would be all turns.
        return turns[: test.count] if test.end == "first" else turns[-test.count :] if test.end == "last" else turns
    # A turn's `trained` costs a pass over its segments, so no more turns are asked than needed.
    found: list[int] = []
    # From the end that is asked for, so that the loop can stop at the count.
    for turn in reversed(turns) if test.end == "last" else turns:
        if test.end is not None and len(found) == test.count:
            break
        if trained(turn):
            found.append(turn)
    # `_mark` takes the earliest turn first.
    return found[::-1] if test.end == "last" else found


def _mark(test: TurnTest, selected: list[int], bit: int, signatures: list[int]) -> None:
    """Sets a test's bit on the turns for which it holds."""
    if not selected:
        return
    turns: Iterable[int]
    match test.relation:
        case None:
            turns = selected
        case "after":
            # Later than the earliest turn selected, of whichever role; a relation asks nothing about the turns between.
            turns = range(selected[0] + 1, len(signatures))
        case "before":
            turns = range(selected[-1])
        case "right after":
            turns = (t + 1 for t in selected if t + 1 < len(signatures))
        case _:
            assert_never(test.relation)
    for turn in turns:
        signatures[turn] |= bit
