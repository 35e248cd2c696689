"""The last rule that matches a character decides it: a plan for each kind of segment, and its evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from policy_engine.core.vocabulary import BODY, UNTRAINABLE
from policy_engine.lang.checked import CheckedPolicy
from policy_engine.rules.conditions.turn_conditions import HeldConditions
from policy_engine.rules.conditions.view import ChatView
from policy_engine.rules.ranges import Decided, joined, overlay
from policy_engine.rules.steps import Statement, Step, steps_for
from policy_engine.rules.turn_signatures import TurnTests

DEFAULT = (0.0, -1)
"""Weight and rule of a character that no rule matches, or that none can: a generation prompt's."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How the first N rules decide segments of one kind.

    `constant` is the decision where it is the same for all of them; else `steps` are evaluated: `last_first` if each
    covers whole segments and cannot fail, so that the last one that holds decides; else in order. `bits` are those of
    the steps' statements, and `reading` of those that read the data where their condition is false.
    """

    constant: tuple[float, int] | None
    steps: tuple[Step, ...]
    last_first: bool
    bits: int
    reading: int
    by_rule: Mapping[int, Step]


class Decider:
    """Evaluates the rules of a policy. Plans are kept per (number of rules, role, part, turn signature)."""

    def __init__(self, policy: CheckedPolicy) -> None:
        self.tests = TurnTests(policy.rules)
        self.rules = [
            Statement(rule, tests=self.tests, stage=index, number=index) for index, rule in enumerate(policy.rules)
        ]
        self.conditions = HeldConditions([s.condition for s in policy.rules] + [s.condition for s in policy.guards])
        self._plans: dict[tuple[int, str | None, str, int], Plan] = {}

    def prepare(self, view: ChatView) -> None:
        """Works out what holds on each turn of a chat; everything else asks for it."""
        view.held = view.held or self.conditions.read(view)
        self.tests.signatures(view, self._is_trained)

    def plan(self, stage: int, role: str | None, part: str, signature: int) -> Plan:
        """The plan for a kind of segment under the first `stage` rules."""
        key = (stage, role, part, signature)
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) >= 100_000:
                self._plans.clear()
            plan = self._plans[key] = _make_plan(steps_for(self.rules[:stage], role, part, signature))
        return plan

    def decide(self, view: ChatView, index: int, stage: int) -> tuple[float, int] | list[Decided]:
        """Weight and rule (-1: none) of a segment, or of its pieces if it has several."""
        segment = view.chat.segments[index]
        turn = segment.turn
        if segment.part in UNTRAINABLE:
            return DEFAULT
        if turn is None:
            plan = self.plan(stage, None, segment.part, 0)
        else:
            plan = self.plan(stage, view.roles[turn], segment.part, view.signatures[turn])
        if plan.constant is not None:
            return plan.constant
        if plan.last_first:
            return _last_first(plan, view, index)
        return _in_order(plan, view, index)

    def _is_trained(self, view: ChatView, stage: int, turn: int) -> bool:
        key = ("trained", stage, turn)
        known = view.memo.get(key)
        if known is None:
            known = view.memo[key] = any(
                self._trains(view, index, stage)
                for index in view.segments_of(turn)
                if view.chat.segments[index].part in BODY
            )
        return bool(known)

    def _trains(self, view: ChatView, index: int, stage: int) -> bool:
        decided = self.decide(view, index, stage)
        return any(piece[2] for piece in decided) if isinstance(decided, list) else bool(decided[0])


def _make_plan(steps: list[Step]) -> Plan:
    last_first = all(not step.spans and step.statement.weight_field is None for step in steps)
    if last_first:
        # Nothing above the last unconditional train or mask can show.
        for at in range(len(steps) - 1, -1, -1):
            if steps[at].statement.condition is None and steps[at].statement.verb != "scale":
                steps = steps[at:]
                break
    constant = None
    if last_first and all(step.statement.condition is None for step in steps):
        constant = DEFAULT
        for step in steps:
            constant = step.apply(step.statement.weight, *constant)
    return Plan(
        constant=constant,
        steps=tuple(steps),
        last_first=last_first,
        bits=sum(step.statement.bit for step in steps),
        reading=sum(step.statement.bit for step in steps if step.spans),
        by_rule={step.statement.stage: step for step in steps},
    )


def _last_first(plan: Plan, view: ChatView, index: int) -> tuple[float, int]:
    segment = view.chat.segments[index]
    held, still = view.held[-1 if segment.turn is None else segment.turn]
    scales: list[Step] = []
    left = plan.bits & held
    while left:
        rule = left.bit_length() - 1
        left ^= 1 << rule
        step = plan.by_rule[rule]
        if still >> rule & 1 and not step.statement.asked(view, segment):
            continue
        if step.statement.verb == "scale":
            scales.append(step)
            continue
        decided = step.apply(step.statement.weight, *DEFAULT)
        for scale in reversed(scales):
            decided = scale.apply(scale.statement.weight, *decided)
        return decided
    return DEFAULT


def _in_order(plan: Plan, view: ChatView, index: int) -> tuple[float, int] | list[Decided]:
    segment = view.chat.segments[index]
    decided = DEFAULT
    pieces: list[Decided] | None = None
    left = plan.bits & (view.held[-1 if segment.turn is None else segment.turn][0] | plan.reading)
    while left:
        step = plan.by_rule[(left & -left).bit_length() - 1]
        left &= left - 1
        if not step.holds(view, index):
            continue
        ranges = step.ranges(view, index)
        if not ranges:
            continue
        factor = step.statement.factor(view, segment)
        whole = ranges == [(segment.start, segment.end)]
        if whole and step.statement.verb != "scale":
            decided, pieces = step.apply(factor, *DEFAULT), None
        elif whole and pieces is None:
            decided = step.apply(factor, *decided)
        else:
            pieces = pieces or [(segment.start, segment.end, *decided)]
            pieces = overlay(pieces, ranges, lambda weight, rule, s=step, f=factor: s.apply(f, weight, rule))  # type: ignore[misc]
    return decided if pieces is None else joined(pieces)
