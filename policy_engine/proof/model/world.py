"""Worlds: every case that a policy distinguishes of a character.

A case is a class of parts that the policy treats alike, a point, and an assignment of the free conditions. The policy
of `model` has six classes (the text of a body; calls; media; header, ends and separators; text that no message owns;
generation prompts), four points and two assignments. Assumptions about chats are in `tests/support/assumptions.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final

from policy_engine.core.vocabulary import BODY, FROM_PARTS, NEIGHBOURS, PARTS, UNOWNED, UNTRAINABLE, RelationKind
from policy_engine.lang.ast import And, Compare, Expr, Not, Or, leaves
from policy_engine.lang.checked import Atom, CheckedPolicy, CheckedStatement, CheckedTarget, TurnSet, atoms_of
from policy_engine.proof.model.field_values import Name, Test
from policy_engine.proof.model.free_conditions import PLACED_ROLES, Conditions, name_of, span_key
from policy_engine.proof.model.places import Points
from policy_engine.proof.model.positions import (
    ALL,
    OTHER,
    SIDES,
    AtLeast,
    CountField,
    Letter,
    Nearest,
    SideFact,
    Turns,
    count_field,
    counted,
    neighboured,
    placed_role,
    related,
)
from policy_engine.proof.model.regions import Algebra, Region
from policy_engine.proof.model.trained_bits import Stages, stage_of, turn_sets
from policy_engine.rules.conditions.comparison import MISSING
from policy_engine.rules.conditions.conditions import test_of

ANSWER_ROLE: Final[Name] = ("answer", ("role",))


@dataclass(frozen=True, kw_only=True)
class PartClass:
    """Parts that every rule and guard treats alike."""

    parts: tuple[str, ...]
    owned: bool
    in_body: bool
    in_part: bool
    """True if text of these parts can belong to a content part: the body, and media."""
    in_call: bool


class World:
    """All cases of one policy, or of two that are compared.

    Raises `TooLarge` past the limits.

    >>> from policy_engine.lang.check import check_text
    >>> world = World([check_text("train assistant; mask last assistant")])
    >>> [role for role in world.roles if role != OTHER], world.facts
    (['assistant'], [AtLeast(side='suffix', key=('assistant', None), count=1)])
    >>> world.classes[0].parts[:3]
    ('text', 'reasoning.open', 'reasoning.text')
    """

    def __init__(self, policies: Sequence[CheckedPolicy]) -> None:
        self.policies = tuple(policies)
        self.statements: list[tuple[int, CheckedStatement]] = [
            (index, s) for index, policy in enumerate(policies) for s in policy.statements
        ]
        self.stages = Stages(policies)
        self.conditions = Conditions(self._tests(), [(s, self._resolver(i, s)) for i, s in self.statements])
        self.space = self.conditions.space
        self.algebra = Algebra(self.space)
        self.roles = self._roles()
        letters = [Letter(role, bits) for role in self.roles for bits in self._bit_sets(role)]
        self.facts = self._side_facts(letters)
        # True for `last trained`: whether a turn is the last one depends on the bits of others.
        self.counts_trained = any(fact.key[1] is not None for fact in self.facts)
        self.points = Points(letters, self.facts, merge=not self.counts_trained)
        self.classes = self._part_classes()
        self._expressions: dict[tuple[str, bool], Region] = {}
        self._matches: dict[tuple[object, ...], Region] = {}
        self._places: dict[tuple[RelationKind | None, Turns], int] = {}
        self.base = [self._possible(part_class) for part_class in self.classes]
        """For each class of parts the free conditions that are possible at each point, trained bits apart."""

    # -- what is told apart

    def _tests(self) -> list[Test]:
        return [
            leaf
            for _, s in self.statements
            if s.condition is not None
            for leaf in leaves(s.condition)
            # `turn.index` and its like are decided by the place.
            if count_field(leaf.field) is None
        ]

    def _roles(self) -> tuple[str, ...]:
        """The roles told apart, in the order witnesses prefer them; `OTHER` stands for the rest."""
        named = {t.role for _, s in self.statements for t in turn_sets(s.targets) if t.role is not None}
        named |= {c for test in self.conditions.role_tests for c in _named_roles(test)}
        if any(field == "round" for field, _ in self._count_tests()):
            # A round is a count of `user` turns.
            named.add("user")
        if self.conditions.asks_for_calls or not self.conditions.asks_for.isdisjoint(("result", "answer")):
            # Calls are answered by `tool` turns, whether or not the policy names them.
            named.add("tool")
        named |= {c for test in self._answer_roles() for c in _named_roles(test)}
        # So that a witness is a chat as people know it, where any role would do.
        order = ("user", "assistant", "system", "tool")
        return (*sorted(named, key=lambda r: (order.index(r) if r in order else len(order), r)), OTHER)

    def _answer_roles(self) -> list[Test]:
        values = self.conditions.fields.get(ANSWER_ROLE)
        return [] if values is None else list(values.tests.values())

    def _count_tests(self) -> Iterator[tuple[CountField, Test]]:
        for _, s in self.statements:
            for leaf in () if s.condition is None else leaves(s.condition):
                if (field := count_field(leaf.field)) is not None:
                    yield field, leaf

    def _bit_sets(self, role: str) -> list[int]:
        sets = [0]
        for bit in self.stages.bits_of(role):
            # All subsets of the role's bits.
            sets += [bits | 1 << bit for bits in sets]
        return sets

    def _side_facts(self, letters: Sequence[Letter]) -> list[SideFact]:
        """All the facts that any question about points comes down to."""
        found: set[SideFact] = set()
        turn_sets = {
            (relation, self._resolver(index, s)(turns))
            for index, s in self.statements
            for target in s.targets
            for atom in atoms_of(target)
            for relation, turns in ((None, atom.turns), *((r.kind, r.turns) for r in atom.relations))
            if turns is not None
        }
        for letter in letters:
            for relation, turns in turn_sets:
                found.update(fact for fact, _ in related(relation, turns, letter) or ())
            for field, leaf in self._count_tests():
                found.update(fact for fact, _ in counted(field, leaf, letter))
        if self.conditions.asks_for_calls:
            # A call that is answered was made by a turn before.
            found.add(AtLeast("prefix", ALL, 1))
        for scope in self.conditions.asks_for.intersection(NEIGHBOURS):
            found.update(fact for letter in letters for fact, _ in neighboured(scope, letter) or ())
        for side, scope in SIDES.items():
            if any(test.field.scope == scope for test in self.conditions.role_tests):
                # `previous.role == "user"` asks which role the nearest turn has.
                found.update(Nearest(side, (role, None)) for role in self.roles)
        if ANSWER_ROLE in self.conditions.fields:
            found.update(AtLeast("prefix", (role, None), 1) for role in self.roles)
        return sorted(found, key=repr)

    def _part_classes(self) -> list[PartClass]:
        sets = list({a.parts for _, s in self.statements for t in s.targets for a in atoms_of(t)})
        groups: dict[tuple[object, ...], list[str]] = {}
        for part in PARTS:
            # What the model itself tells apart, beside what the policy does.
            facts = (
                part in UNOWNED,
                part in BODY,
                part in FROM_PARTS,
                part.startswith("tool_call"),
                part in UNTRAINABLE,
            )
            groups.setdefault((facts, *(part in s for s in sets)), []).append(part)
        # Plain text first: witnesses are looked for in this order.
        ordered = sorted(groups.values(), key=lambda g: "text" not in g)
        return [
            PartClass(
                parts=tuple(sorted(g, key=lambda p: (p != "text", PARTS.index(p)))),
                owned=g[0] not in UNOWNED,
                in_body=g[0] in BODY,
                in_part=g[0] in FROM_PARTS,
                in_call=g[0].startswith("tool_call"),
            )
            for g in ordered
        ]

    def full(self, part_class: PartClass) -> int:
        """All points of a class. Text that no message owns has the one point 0."""
        return self.points.full if part_class.owned else 1

    def _possible(self, part_class: PartClass) -> Region:
        algebra, conditions = self.algebra, self.conditions
        free = conditions.possible(in_body=part_class.in_body, in_part=part_class.in_part, owned=part_class.owned)
        full = self.full(part_class)
        region = algebra.region(free, full)
        if part_class.owned:
            region = self._with_neighbours(region)
        if not conditions.asks_for_calls or part_class.in_call or not part_class.owned:
            return region
        # Elsewhere a call can only be the one that a tool turn answers, and something has to have made it.
        answers = self.points.where(lambda x: ((AtLeast("prefix", ALL, 1), True),) if x.role == "tool" else None)
        none = algebra.region(conditions.no_call, full & ~answers)
        return algebra.both(region, algebra.either(algebra.points(answers), none))

    def _with_neighbours(self, region: Region) -> Region:
        """A region without fields of missing messages: those of `previous` at the first turn."""
        algebra, conditions = self.algebra, self.conditions
        for scope in sorted(conditions.asks_for.intersection(NEIGHBOURS)):
            there = self.points.where(lambda letter, s=scope: neighboured(s, letter))  # type: ignore[misc]
            gone = algebra.region(conditions.all_missing(scope), self.points.full & ~there)
            region = algebra.both(region, algebra.either(algebra.points(there), gone))
        if ANSWER_ROLE in conditions.fields:
            # Another test of `answer` may be free, but its role is that of some turn before.
            region = algebra.both(region, self._answer_role())
        return region

    def _answer_role(self) -> Region:
        """The region in which `answer.role` is missing, or the role of a turn before."""
        algebra, space, values = self.algebra, self.space, self.conditions.fields[ANSWER_ROLE]
        missing = values.where(space, lambda cell: cell.value is MISSING)
        found = algebra.region(missing, self.points.full)
        for role in self.roles:
            before = self.points.where(lambda letter, r=role: ((AtLeast("prefix", (r, None), 1), True),))  # type: ignore[misc]
            free = space.without(space.full, missing)
            for key, test in values.tests.items():
                # Which of its many names an unnamed role has is open, so tests on it stay free.
                if role != OTHER:
                    holds = values.holds(space, key)
                    free = space.both(free, holds) if test_of(test)(role) else space.without(free, holds)
            found = algebra.either(found, algebra.region(free, before))
        return found

    # -- what a policy asks

    def matches(self, policy: int, statement: CheckedStatement, part_class: PartClass) -> Region:
        """The region in which a statement's targets match a class and its condition is true."""
        if part_class.parts[0] in UNTRAINABLE:
            return {}  # masked for its structure, whatever the rules are
        # What a statement matches depends on the parts only through which of its targets they are in.
        parts = tuple(part_class.parts[0] in a.parts for t in statement.targets for a in atoms_of(t))
        # Rules and guards are numbered apart, hence the type.
        key = (policy, type(statement), statement.index, parts, part_class.owned)
        region = self._matches.get(key)
        if region is None:
            region = self.targets(policy, statement, part_class)
            if region and statement.condition is not None:
                region = self.algebra.both(region, self.expression(statement.condition, owned=part_class.owned))
            self._matches[key] = region
        return region

    def targets(self, policy: int, statement: CheckedStatement, part_class: PartClass) -> Region:
        """The region in which a statement's targets match, its condition apart."""
        return self.algebra.union(self._target(t, policy, statement, part_class) for t in statement.targets)

    def _target(self, target: CheckedTarget, policy: int, statement: CheckedStatement, part_class: PartClass) -> Region:
        resolve = self._resolver(policy, statement)
        if isinstance(target, Atom):
            return self.algebra.points(self._atom(target, resolve, part_class))
        region = self.algebra.union(self._target(inner, policy, statement, part_class) for inner in target.inside)
        if not region:
            return region
        matched = self.conditions.span(span_key(target, statement, resolve))
        return self.algebra.both(region, {matched: self.full(part_class)})

    def _atom(self, atom: Atom, resolve: Callable[[TurnSet], Turns], part_class: PartClass) -> int:
        if part_class.parts[0] not in atom.parts:
            return 0
        if not part_class.owned:
            # The one point of text without an owner: it satisfies no relation.
            return int(atom.turns is None and not atom.relations)
        known = self.points.full
        if atom.turns is not None:
            known &= self._turns(None, resolve(atom.turns))
        for relation in atom.relations:
            known &= self._turns(relation.kind, resolve(relation.turns))
        return known

    def _turns(self, relation: RelationKind | None, turns: Turns) -> int:
        """The points of `turns`, or of the turns that have a relation to them."""
        known = self._places.get((relation, turns))
        if known is None:
            known = self._places[relation, turns] = self.points.where(lambda letter: related(relation, turns, letter))
        return known

    def expression(self, expr: Expr, *, owned: bool) -> Region:
        """The region in which a condition is true.

        It is over all points of owned text, or over the one point of text that no message owns.
        """
        # By its text: Python takes `1`, `1.0` and `true` for equal, which the language does not.
        key = (repr(expr), owned)
        known = self._expressions.get(key)
        if known is None:
            known = self._expressions[key] = self._evaluate(expr, owned)
        return known

    def _evaluate(self, expr: Expr, owned: bool) -> Region:
        full = self.points.full if owned else 1
        if isinstance(expr, Not):
            return self.algebra.without(self.algebra.points(full), self.expression(expr.operand, owned=owned))
        if isinstance(expr, And):
            operands = (self.expression(operand, owned=owned) for operand in expr.operands)
            return reduce(self.algebra.both, operands, self.algebra.points(full))
        if isinstance(expr, Or):
            return self.algebra.union(self.expression(operand, owned=owned) for operand in expr.operands)
        return self._test(expr, owned)

    def _test(self, test: Test, owned: bool) -> Region:
        # A field of a message is missing there, and every test of a missing field is false.
        if not owned and test.field.scope not in ("sample", "segment"):
            return {}
        if (field := count_field(test.field)) is not None:
            return self.algebra.points(self.points.where(lambda letter: counted(field, test, letter)))
        if name_of(test.field) in PLACED_ROLES:
            return self._role_test(test)
        return self.algebra.region(self.conditions.holds(test), self.points.full if owned else 1)

    def _resolver(self, policy: int, statement: CheckedStatement) -> Callable[[TurnSet], Turns]:
        stage = stage_of(self.policies[policy], statement)
        return lambda turns: self.stages.resolve(turns, policy, stage)

    def is_free(self, test: Test) -> bool:
        """True if data or text decides a test, and not the place of the turn or its role."""
        return count_field(test.field) is None and name_of(test.field) not in PLACED_ROLES

    def _role_test(self, test: Test) -> Region:
        def of(role: str) -> Region:
            points = self.points.where(lambda letter: placed_role(test.field.scope, role, letter))
            return self.algebra.region(self.conditions.on_role(test, role), points)

        return self.algebra.union(map(of, self.roles))


def _named_roles(test: Test) -> Iterable[str]:
    if not isinstance(test, Compare) or test.op not in ("==", "!=", "in"):
        return ()
    found = test.value if isinstance(test.value, tuple) else () if test.op == "in" else (test.value,)
    return [role for role in found if isinstance(role, str)]
