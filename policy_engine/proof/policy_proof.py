"""Findings from the regions that rules decide: guards, dead rules, order, fixed conditions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from policy_engine.lang.ast import Expr, Field, leaves
from policy_engine.lang.checked import CheckedGuard, CheckedPolicy, CheckedRule, CheckedStatement
from policy_engine.proof.in_words import places as in_words
from policy_engine.proof.model.assignments import TooLarge
from policy_engine.proof.model.outcomes import MASKED, ClassOutcome, Outcomes
from policy_engine.proof.model.reachable import Possible
from policy_engine.proof.model.regions import Region
from policy_engine.proof.model.world import World
from policy_engine.proof.results import (
    DeadRule,
    FixedCondition,
    GuardFinding,
    Order,
    ProofReport,
    RulePlaces,
)
from policy_engine.rules.statements import as_weight

if TYPE_CHECKING:
    from policy_engine.rules.program import Program


def prove(policy: CheckedPolicy | Program, *, places: bool = True) -> ProofReport:
    """Decides for all conversations if a policy's guards hold, and finds rules that do nothing.

    A guard `fails` with a conversation that was replayed through the engine. Conditions that always come out the same
    are found too. `places` also says in words what each rule decides, which takes longest. The answer is a
    `results.ProofReport`. Raises nothing: past the limits of the proof the report is `undecided`.

    >>> from policy_engine.lang.check import check_text
    >>> report = prove(check_text("train assistant; mask assistant; train user.text"))
    >>> [(dead.rule.span.text, dead.why) for dead in report.dead]
    [('train assistant', 'shadowed')]
    """
    checked = policy if isinstance(policy, CheckedPolicy) else policy.policy
    try:
        return PolicyProof(checked).report(places=places)
    except TooLarge as error:
        # Each guard is listed all the same: undecided is a verdict, and a guard that is missing would pass for proven.
        return ProofReport(policy=checked, guards=_undecided(checked), undecided=error.why)


def prove_guards(policy: CheckedPolicy | Program) -> tuple[tuple[GuardFinding, ...], str | None]:
    """Only the guards of `prove`, and why they are undecided, if they are."""
    checked = policy if isinstance(policy, CheckedPolicy) else policy.policy
    try:
        return PolicyProof(checked).guards(), None
    except TooLarge as error:
        return _undecided(checked), error.why


def _undecided(policy: CheckedPolicy) -> tuple[GuardFinding, ...]:
    return tuple(GuardFinding(guard=guard, verdict="undecided") for guard in policy.guards)


class PolicyProof:
    """The regions of one policy, and what they say. Raises `TooLarge` past the limits."""

    def __init__(self, policy: CheckedPolicy) -> None:
        self.policy = policy
        self.world = World([policy])
        self.possible = Possible(self.world)
        outcomes = Outcomes(self.world)
        classes = range(len(self.world.classes))
        self.outcomes: list[ClassOutcome] = [outcomes.of(0, i, self.possible.regions[i]) for i in classes]
        self.trained = [outcomes.trained(outcome) for outcome in self.outcomes]

    def report(self, *, places: bool = True) -> ProofReport:
        """Everything there is to say."""
        return ProofReport(
            policy=self.policy,
            guards=self.guards(),
            dead=tuple(self.dead()),
            fixed=tuple(self.fixed()),
            order=self.order(),
            decided=tuple(self._decided()) if places else (),
        )

    # -- guards

    def guards(self) -> tuple[GuardFinding, ...]:
        """The verdict on each guard."""
        return tuple(self._guard(guard) for guard in self.policy.guards)

    def _guard(self, guard: CheckedGuard) -> GuardFinding:
        # One region for each class of parts, here and below.
        covered = [self._covered(guard, i) for i in range(len(self.world.classes))]
        broken = self.broken(guard, covered)
        vacuous = not any(covered)
        if not any(broken):
            return GuardFinding(guard=guard, verdict="holds", vacuous=vacuous)
        # Imported here: most guards hold, and showing that takes no conversation.
        from policy_engine.proof.witness.witness import Breaks, Finder

        witness = Finder(self.possible).find(broken, Breaks(self.policy, guard))
        rules = [
            rule
            for rule in (None, *self.policy.rules)
            if any(
                self.world.algebra.both(region, outcome.decided.get(None if rule is None else rule.index, {}))
                for region, outcome in zip(broken, self.outcomes, strict=True)
            )
        ]
        return GuardFinding(
            guard=guard,
            verdict="possible" if witness is None else "fails",
            vacuous=vacuous,
            places=in_words(self.possible, broken),
            rules=tuple(rules),
            witness=witness,
        )

    def _covered(self, guard: CheckedGuard, index: int) -> Region:
        """The region in which a guard applies."""
        found = self.world.matches(0, guard, self.world.classes[index])
        return self.world.algebra.both(self.possible.regions[index], found)

    def broken(self, guard: CheckedGuard, covered: list[Region]) -> list[Region]:
        """The regions in which a guard does not hold, one for each class of parts."""
        algebra = self.world.algebra
        found = []
        for region, outcome, trained in zip(covered, self.outcomes, self.trained, strict=True):
            if guard.kind == "never":
                found.append(algebra.both(region, trained))
            else:
                # `always` is broken where the weight is 0, also where no rule matches.
                found.append(algebra.both(region, outcome.weights.get(MASKED, {})))
        return found

    # -- rules

    def dead(self) -> Iterator[DeadRule]:
        """The rules that could be removed without changing anything."""
        algebra = self.world.algebra
        for rule in self.policy.rules:
            if self._acts(rule):
                continue
            matched = self._matched(rule)
            if not any(matched):
                yield DeadRule(rule=rule, why="matches nothing")
                continue
            by = tuple(
                other
                for other in self.policy.rules
                # Only a rule below can have overridden it.
                if other.index > rule.index
                and any(
                    algebra.both(region, outcome.decided.get(other.index, {}))
                    for region, outcome in zip(matched, self.outcomes, strict=True)
                )
            )
            # Rules below that decide all of it shadow a `scale` too; else it is the rules above that left nothing to
            # scale.
            scale = rule.effect == "scale" and not self._covers(by, matched)
            yield DeadRule(rule=rule, why="nothing to scale" if scale else "shadowed", by=() if scale else by)

    def _acts(self, rule: CheckedRule) -> bool:
        """True if a rule decides or scales something in the end, or where a later `trained` looks."""
        for outcome in self.outcomes:
            if rule.index in outcome.decided or rule.index in outcome.scaled:
                return True
        return any(
            # A rule whose weights are all overridden may still have made a turn `trained` for a rule in between.
            rule.index < stage and self.possible.acts(bit, rule.index)
            for bit, (_, stage) in enumerate(self.world.stages.bits)
        )

    def _covers(self, rules: tuple[CheckedRule, ...], regions: list[Region]) -> bool:
        """True if rules decide all of the regions."""
        for region, outcome in zip(regions, self.outcomes, strict=True):
            for rule in rules:
                region = self.world.algebra.without(region, outcome.decided.get(rule.index, {}))
            if region:
                return False
        return True

    def order(self) -> Order:
        """Finds out if the order of the rules is free: no two that overlap disagree on the weight.

        >>> from policy_engine.lang.check import check_text
        >>> order = PolicyProof(check_text("train assistant; mask last assistant")).order()
        >>> order.free, [rule.span.text for rule in order.pair]
        (False, ['train assistant', 'mask last assistant'])
        """
        # Moving a rule changes which rules are above a `trained`, so overlaps do not decide.
        if self.world.stages.bits:
            return Order(free=None)
        algebra = self.world.algebra
        seen: dict[str, tuple[CheckedRule, list[Region]]] = {}
        for rule in self.policy.rules:
            matched = self._matched(rule)
            own = _outcome_key(rule)
            # By outcome, not by rule: rules of one weight may overlap as they like, and a policy of hundreds has few
            # weights.
            for key, (other, regions) in seen.items():
                if _agree(own, key):
                    continue
                if any(algebra.both(a, b) for a, b in zip(matched, regions, strict=True)):
                    # Regions were joined by outcome; now the rule itself is looked for.
                    return Order(free=False, pair=self._pair(key, rule, matched) or (other, rule))
            first, regions = seen.get(own, (rule, [{} for _ in matched]))
            seen[own] = first, [algebra.either(a, b) for a, b in zip(matched, regions, strict=True)]
        return Order(free=True)

    def _matched(self, rule: CheckedRule) -> list[Region]:
        return [
            self.world.algebra.both(possible, self.world.matches(0, rule, part_class))
            for possible, part_class in zip(self.possible.regions, self.world.classes, strict=True)
        ]

    def _pair(self, key: str, rule: CheckedRule, matched: list[Region]) -> tuple[CheckedRule, CheckedRule] | None:
        """The first rule above one that has another outcome and overlaps it."""
        for other in self.policy.rules[: rule.index]:
            regions = zip(matched, self._matched(other), strict=True)
            if _outcome_key(other) == key and any(self.world.algebra.both(a, b) for a, b in regions):
                return other, rule
        return None

    def fixed(self) -> Iterator[FixedCondition]:
        """Conditions, and tests in them, that are always the same where their targets match.

        >>> from policy_engine.lang.check import check_text
        >>> policy = check_text('train assistant where message.role == "assistant"')
        >>> [(found.test, found.always) for found in PolicyProof(policy).fixed()]
        [('message.role == "assistant"', True)]
        """
        for statement in self.policy.statements:
            if statement.condition is None:
                continue
            whole = self._constant(statement, statement.condition)
            # Its tests are not reported one by one: the whole condition is the finding.
            if whole is not None:
                yield _fixed(statement, statement.condition, whole)
                continue
            for leaf in leaves(statement.condition):
                constant = self._constant(statement, leaf)
                if constant is not None:
                    yield _fixed(statement, leaf, constant)

    def _constant(self, statement: CheckedStatement, expr: Expr) -> bool | None:
        """The constant value of an expression where the statement's targets match.

        None if the value varies, or if the targets never match.
        """
        algebra = self.world.algebra
        seen: set[bool] = set()
        for possible, part_class in zip(self.possible.regions, self.world.classes, strict=True):
            here = algebra.both(possible, self.world.targets(0, statement, part_class))
            if here:
                true = algebra.both(here, self.world.expression(expr, owned=part_class.owned))
                seen |= {True} if true else set()
                seen |= {False} if algebra.without(here, true) else set()
            # Seen both ways, so the other classes cannot change the answer.
            if len(seen) == 2:
                return None
        return seen.pop() if seen else None

    def _decided(self) -> Iterator[RulePlaces]:
        for rule in (*self.policy.rules, None):
            key = None if rule is None else rule.index
            regions = [outcome.decided.get(key, {}) for outcome in self.outcomes]
            if rule is not None and rule.effect == "scale":
                regions = [outcome.scaled.get(rule.index, {}) for outcome in self.outcomes]
            yield RulePlaces(rule=rule, places=in_words(self.possible, regions))


def _outcome_key(rule: CheckedRule) -> str:
    """A key for the effect of a rule on a weight."""
    # `+ 0.0` makes 0.0 of -0.0, which are one weight.
    weight = repr(rule.weight) if isinstance(rule.weight, Field) else repr(as_weight(rule.weight) + 0.0)
    return f"{'scale' if rule.effect == 'scale' else ''} {weight}"


def _agree(a: str, b: str) -> bool:
    """True if two rules leave the same weight whichever comes last.

    Two `scale` rules do not: a product of floating point numbers depends on their order.
    """
    # A `scale` of masked text leaves it masked, so `mask` and `scale` may change places.
    return a == b or {a[:5], b[:5]} == {"scale", " 0.0"}


def _fixed(statement: CheckedStatement, expr: Expr, always: bool) -> FixedCondition:
    return FixedCondition(statement=statement, test=expr.span.one_line or repr(expr), always=always, span=expr.span)
