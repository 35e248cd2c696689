"""The last rule that matches a character decides it: rules by kind of segment, evaluated.

A *kind* of segment is its role, its part and the signature of its turn (see `turn_signatures`). In the policy

    train assistant; mask assistant.reasoning

the rules of the kind (assistant, `text`) always come to weight 1 by rule 0, those of (assistant, `reasoning.text`) to
weight 0 by rule 1. So a segment is decided without a look at its text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from policy_engine.core.bounded import Bounded
from policy_engine.core.vocabulary import BODY, UNTRAINABLE
from policy_engine.lang.checked import CheckedPolicy
from policy_engine.rules.conditions.chat_view import ChatView
from policy_engine.rules.conditions.turn_conditions import HeldConditions
from policy_engine.rules.ranges import Decided, joined, overlay
from policy_engine.rules.statements import CompiledStatement, Step, steps_for
from policy_engine.rules.turn_signatures import TurnTests

DEFAULT = (0.0, -1)
"""Weight and rule of a character that no rule matches, and of a generation prompt, which no rule can match."""


@dataclass(frozen=True, kw_only=True)
class KindRules:
    """The first N rules, as far as they can decide segments of one kind."""

    constant: tuple[float, int] | None
    """Weight and rule, where they are the same for all segments of the kind; else `steps` are evaluated."""
    steps: tuple[Step, ...]
    last_first: bool
    """True if each step covers whole segments and cannot fail, so that the last one that holds decides."""
    bits: int
    """The bits of the steps' statements."""
    reading: int
    """The bits of the statements that read the data even where their condition is false."""
    by_rule: Mapping[int, Step]


class Decider:
    """Evaluates the rules of a policy; the rules of a kind of segment are worked out once."""

    def __init__(self, policy: CheckedPolicy) -> None:
        # The rules register their questions about turns here while they are compiled; each question gets one bit.
        self.tests = TurnTests(policy.rules)
        self.rules = [
            CompiledStatement(rule, tests=self.tests, stage=index, number=index)
            for index, rule in enumerate(policy.rules)
        ]
        # Rules first, then guards: the order of the bits of `CompiledStatement.bit`.
        self.conditions = HeldConditions([s.condition for s in policy.rules] + [s.condition for s in policy.guards])
        self._kinds: Bounded[tuple[int, str | None, str, int], KindRules] = Bounded(100_000)

    def prepare(self, view: ChatView) -> None:
        """Works out the conditions and turn tests of a chat, which `decide` asks for."""
        # `Program.table` may have read them already, to find the shape of the chat.
        view.held = view.held or self.conditions.read(view)
        self.tests.signatures(view, self._is_trained)

    def rules_for(self, stage: int, role: str | None, part: str, signature: int) -> KindRules:
        """The rules of a kind of segment, among the first `stage` rules."""
        # The stage is in the key, since `trained` asks about the first rules alone.
        key = (stage, role, part, signature)
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds.keep(key, _kind_rules(steps_for(self.rules[:stage], role, part, signature)))
        return kind

    def decide(self, view: ChatView, index: int, stage: int) -> tuple[float, int] | list[Decided]:
        """Weight and rule (-1 for the default) of a segment, or of its pieces if it has several."""
        segment = view.chat.segments[index]
        turn = segment.turn
        # Not even `train everything` reaches a generation prompt.
        if segment.part in UNTRAINABLE:
            return DEFAULT
        if turn is None:
            # Text that no message owns satisfies no relation and no `last`, so it passes no turn test.
            kind = self.rules_for(stage, None, segment.part, 0)
        else:
            kind = self.rules_for(stage, view.roles[turn], segment.part, view.signatures[turn])
        if kind.constant is not None:
            return kind.constant
        if kind.last_first:
            return _last_first(kind, view, index)
        return _in_order(kind, view, index)

    def _is_trained(self, view: ChatView, stage: int, turn: int) -> bool:
        # `trained last assistant` in several rules asks for the same turns again, and each answer is a pass over the
        # body.
        key = ("trained", stage, turn)
        known = view.memo.get(key)
        if known is None:
            known = view.memo[key] = any(
                self._trains(view, index, stage)
                for index in view.segments_of(turn)
                # Its body alone counts: `train eos` trains something of every turn.
                if view.chat.segments[index].part in BODY
            )
        return bool(known)

    def _trains(self, view: ChatView, index: int, stage: int) -> bool:
        decided = self.decide(view, index, stage)
        # The third entry of a piece is its weight.
        return any(piece[2] for piece in decided) if isinstance(decided, list) else bool(decided[0])


def _kind_rules(steps: list[Step]) -> KindRules:
    # A weight field and spans are data, and bad data fails the row even where a later rule decides. So rules with them
    # are evaluated from the first.
    last_first = all(not step.spans and step.statement.weight_field is None for step in steps)
    if last_first:
        # The last `train` or `mask` without a condition overrides every rule above it.
        for at in range(len(steps) - 1, -1, -1):
            if steps[at].statement.condition is None and steps[at].statement.verb != "scale":
                steps = steps[at:]
                break
    # Without conditions the kind alone decides, and nothing is left to ask of a segment.
    constant = None
    if last_first and all(step.statement.condition is None for step in steps):
        constant = DEFAULT
        for step in steps:
            constant = step.apply(step.statement.weight, *constant)
    return KindRules(
        constant=constant,
        steps=tuple(steps),
        last_first=last_first,
        bits=sum(step.statement.bit for step in steps),
        # These spans come from the data. A bad entry fails the row even where the condition of the rule is false.
        reading=sum(step.statement.bit for step in steps if step.spans),
        # A rule's stage is its index and the place of its bit, so the highest bit leads to its step.
        by_rule={step.statement.stage: step for step in steps},
    )


def _last_first(kind: KindRules, view: ChatView, index: int) -> tuple[float, int]:
    segment = view.chat.segments[index]
    # The last entry is that of text without an owner.
    held, still = view.held[-1 if segment.turn is None else segment.turn]
    scales: list[Step] = []
    left = kind.bits & held
    while left:
        rule = left.bit_length() - 1
        left ^= 1 << rule
        step = kind.by_rule[rule]
        # The bit says only that the condition may hold, as one about `segment.text` differs within a turn.
        if still >> rule & 1 and not step.statement.asked(view, segment):
            continue
        if step.statement.verb == "scale":
            # A factor multiplies what the rules above it leave, which is not known yet.
            scales.append(step)
            continue
        decided = step.apply(step.statement.weight, *DEFAULT)
        for scale in reversed(scales):
            decided = scale.apply(scale.statement.weight, *decided)
        return decided
    # Only factors are left, and 0 times a factor stays 0; a `scale` is never the deciding rule.
    return DEFAULT


def _in_order(kind: KindRules, view: ChatView, index: int) -> tuple[float, int] | list[Decided]:
    segment = view.chat.segments[index]
    decided = DEFAULT
    pieces: list[Decided] | None = None
    left = kind.bits & (view.held[-1 if segment.turn is None else segment.turn][0] | kind.reading)
    while left:
        # The lowest bit is the first rule of those that are left.
        step = kind.by_rule[(left & -left).bit_length() - 1]
        left &= left - 1
        if not step.holds(view, index):
            continue
        ranges = step.ranges(view, index)
        if not ranges:
            continue
        # Only now: a weight in the data is read where the rule selects something and its condition holds, and is
        # refused there even if a later rule decides.
        factor = step.statement.factor(view, segment)
        whole = ranges == [(segment.start, segment.end)]
        # What the rules above decided no longer matters, so the segment is one piece again.
        if whole and step.statement.verb != "scale":
            decided, pieces = step.apply(factor, *DEFAULT), None
        elif whole and pieces is None:
            decided = step.apply(factor, *decided)
        else:
            pieces = pieces or [(segment.start, segment.end, *decided)]
            # Bound as defaults: a closure over a loop's variables would see their last values.
            pieces = overlay(pieces, ranges, lambda weight, rule, s=step, f=factor: s.apply(f, weight, rule))  # type: ignore[misc]
    return decided if pieces is None else joined(pieces)
