"""Checked policies made at random, denser than text policies: overlapping targets, small numbers, `trained` often."""

from __future__ import annotations

from typing import get_args

from policy_engine.core.source import Source, Span
from policy_engine.core.vocabulary import BODY, EOS, PARTS, TURN, RelationKind
from policy_engine.lang.ast import Expr, Field, Which
from policy_engine.lang.checked import (
    Atom,
    CheckedGuard,
    CheckedPolicy,
    CheckedRule,
    CheckedTarget,
    Spans,
    TurnRelation,
    TurnSet,
)
from policy_engine.testing.choices import Choices
from policy_engine.testing.expressions import NUMBERS, SPAN_FIELDS, WEIGHT_FIELDS, expression, field, pattern

SOURCE = Source(name="<generated>", text="")
HERE = Span(source=SOURCE, start=0, end=0)
ROLES = ("assistant", "assistant", "user", "user", "tool", "system")
RELATIONS = tuple(sorted(get_args(RelationKind)))
PART_SETS = (
    BODY, BODY, TURN, TURN, EOS, frozenset({"text"}), frozenset({"text"}), frozenset({"eot"}), frozenset({"header"}),
    frozenset({"tool_call", "tool_call.name", "tool_call.arguments"}), frozenset({"reasoning.text"}), frozenset(PARTS),
    frozenset({"separator"}), frozenset({"empty_reasoning"}),
)  # fmt: skip


def policy(
    choices: Choices,
    *,
    most: int = 6,
    conditions: int = 30,
    trained: int = 25,
    spans: int = 10,
    weights: int = 20,
    guards: bool = True,
    small: bool = False,
) -> CheckedPolicy:
    """A policy of up to `most` rules; the other numbers are percentages. `small` keeps numbers and relations few."""
    maker = _Maker(choices, conditions, trained, spans, weights, small)
    rules = tuple(maker.rule(i) for i in range(choices.integer(1, most)))
    made = tuple(maker.guard(i) for i in range(choices.integer(1, 2))) if guards else ()
    return CheckedPolicy(rules=rules, guards=made, settings={}, roles=frozenset(ROLES), source=SOURCE)


class _Maker:
    def __init__(self, choices: Choices, conditions: int, trained: int, spans: int, weights: int, small: bool) -> None:
        self.choices = choices
        self.small = small
        self.conditions, self.trained, self.spans, self.weights = conditions, trained, spans, weights

    def rule(self, index: int) -> CheckedRule:
        choices = self.choices
        effect = choices.pick(("train", "train", "train", "mask", "mask", *(("scale",) if self.weights else ())))
        weight: int | float | Field = 0 if effect == "mask" else 1
        if effect == "scale" or (effect == "train" and choices.chance(self.weights)):
            weight = field(choices, WEIGHT_FIELDS) if choices.chance(50) and self.conditions else choices.pick(NUMBERS)
        return CheckedRule(
            index=index,
            effect=effect,
            targets=self.targets(),
            condition=self.condition(),
            weight=weight,
            span=HERE,
        )

    def guard(self, index: int) -> CheckedGuard:
        return CheckedGuard(
            index=index,
            kind=self.choices.pick(("never", "always")),
            targets=(self.target(),),
            condition=self.condition(),
            span=HERE,
        )

    def condition(self) -> Expr | None:
        return expression(self.choices, 2) if self.choices.chance(self.conditions) else None

    def targets(self) -> tuple[CheckedTarget, ...]:
        return tuple(self.target() for _ in range(self.choices.pick((1, 1, 1, 2))))

    def target(self) -> CheckedTarget:
        choices = self.choices
        if choices.chance(self.spans):
            inside = tuple(self.atom() for _ in range(choices.pick((1, 1, 2))))
            if choices.chance(30):
                return Spans(sampled=True, inside=inside, span=HERE)
            if choices.chance(40):
                return Spans(field=field(choices, SPAN_FIELDS), inside=inside, span=HERE)
            text, flags = pattern(choices)
            return Spans(pattern=text, flags=flags, inside=inside, span=HERE)
        return self.atom()

    def atom(self) -> Atom:
        choices = self.choices
        relations = tuple(
            TurnRelation(kind=choices.pick(RELATIONS), turns=self.turns())
            for _ in range(choices.pick((0, 0, 0, 1) if self.small else (0, 0, 0, 0, 1, 1, 2)))
        )
        parts = choices.pick(PART_SETS[:5] if self.small else PART_SETS)
        turns = None if choices.chance(15) else self.turns()
        return Atom(turns=turns, parts=parts, relations=relations, span=HERE)

    def turns(self) -> TurnSet:
        choices = self.choices
        role = None if choices.chance(10) else choices.pick(ROLES[:4] if self.small else ROLES)
        trained = choices.chance(self.trained)
        end = choices.pick((None, None, None, "first", "last"))
        if not trained and end is None:
            return TurnSet(role=role)
        count = choices.pick((1, 1, 2) if self.small else (1, 1, 2, 3)) if end else 1
        return TurnSet(role=role, which=Which(trained=trained, end=end, count=count, span=HERE))
