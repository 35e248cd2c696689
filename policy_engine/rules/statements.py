"""The statements that can match one kind of segment, picked out once and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from policy_engine.core.errors import RowError
from policy_engine.core.facts import SegmentFacts
from policy_engine.lang.ast import Field
from policy_engine.lang.checked import Atom, CheckedGuard, CheckedRule
from policy_engine.rules.conditions.chat_view import ChatView
from policy_engine.rules.conditions.comparison import MISSING, Differing, number_problem, shown
from policy_engine.rules.conditions.conditions import CompiledCondition
from policy_engine.rules.ranges import Range, union
from policy_engine.rules.spans import SpanFinder, as_finder
from policy_engine.rules.turn_signatures import TurnTests

_ONE_RESULT: Final = "weigh each call by its own result (`assistant.tool_call`), or give the results one number"


class CompiledStatement:
    """A rule or guard, made ready: its targets, its condition and its weight.

    `stage` is the number of rules above it: its index, or for a guard the number of all rules. `number` counts the
    rules and then the guards.
    """

    def __init__(self, checked: CheckedRule | CheckedGuard, *, tests: TurnTests, stage: int, number: int) -> None:
        self.checked = checked
        self.stage = stage
        self.bit = 1 << number
        """Its bit in `ChatView.held`."""
        self.verb = checked.effect if isinstance(checked, CheckedRule) else checked.kind
        self.place = f"{checked.span} (`{checked.span.one_line}`)"
        self.condition = None if checked.condition is None else CompiledCondition(checked.condition)
        self.weight: float = 0.0
        self.weight_field: Field | None = None
        # A guard has no weight.
        if isinstance(checked, CheckedRule):
            if isinstance(checked.weight, Field):
                self.weight_field = checked.weight
            else:
                self.weight = as_weight(checked.weight)
        self._tests = tests
        for target in checked.targets:
            # Before any signature is worked out: the bits of all tests must be known by then.
            tests.add_target(target, stage)
        # Entries of the data may say which verb they are for. A `scale` takes all of them.
        wants = {"train": True, "always": True, "mask": False, "never": False}.get(self.verb)
        self._targets: list[Atom | SpanFinder] = [
            as_finder(target, tests=tests, stage=stage, wants=wants, place=self.place) for target in checked.targets
        ]

    @property
    def is_whole(self) -> bool:
        """True if the statement treats all of a segment alike, by its kind and the condition."""
        return self.weight_field is None and all(isinstance(target, Atom) for target in self._targets)

    def asked(self, view: ChatView, segment: SegmentFacts) -> bool:
        """True if the condition is true on a segment, worked out for this segment."""
        return self.condition is None or self.condition.holds(view, segment)

    def step_for(self, role: str | None, part: str, signature: int) -> Step | None:
        """The statement for segments of a kind; None if it never matches them."""
        whole = False
        spans: list[SpanFinder] = []
        for target in self._targets:
            if isinstance(target, Atom):
                # A rule of several targets covers a segment once, however many of them select it.
                whole = whole or self._tests.matches(target, self.stage, role, part, signature)
            elif target.could_match(role, part, signature):
                spans.append(target)
        if whole:
            # Spans in the data are read all the same: a bad one fails the row, whatever else matches.
            spans = [finder for finder in spans if finder.reads_data]
        # No step at all for a kind that it never matches: most rules are about one role.
        return Step(statement=self, whole=whole, spans=tuple(spans)) if whole or spans else None

    def factor(self, view: ChatView, segment: SegmentFacts) -> float:
        """A rule's weight, or the factor of a `scale`, on a segment.

        Raises RowError if the data has something else than a number there.
        """
        if self.weight_field is None:
            return self.weight
        value = view.field_value(self.weight_field.scope, self.weight_field.path, segment)
        # Arrow gives every row each key of its column, so null means the same as absent.
        if value is MISSING or value is None:
            return 1.0
        problem = number_problem(value)
        if problem is not None:
            where = "" if segment.turn is None else f" of message {segment.turn}"
            raise RowError(
                f"{self.place}: `{self.weight_field}`{where} {problem} ({shown(value)})",
                help=_ONE_RESULT if isinstance(value, Differing) else "give a finite number, or null for weight 1",
                code="PE513",
            )
        return as_weight(value)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A statement on one kind of segment: it covers the whole segment, or what `spans` find."""

    statement: CompiledStatement
    whole: bool
    spans: tuple[SpanFinder, ...]

    def ranges(self, view: ChatView, index: int) -> list[Range]:
        """The characters of a segment that the statement covers, its condition apart."""
        # Worked out even where the whole segment is covered, since a bad entry fails the row.
        found = [r for finder in self.spans for r in finder.ranges(view, index)]
        if self.whole:
            segment = view.chat.segments[index]
            return [(segment.start, segment.end)]
        return union(found)

    def holds(self, view: ChatView, index: int) -> bool:
        """True if the statement's condition is true on a segment.

        Where it is false, data that selects the text of an `in` is read all the same, so that bad data fails the row.
        """
        segment = view.chat.segments[index]
        held, still = view.held[-1 if segment.turn is None else segment.turn]
        statement = self.statement
        if held & statement.bit and (not still & statement.bit or statement.asked(view, segment)):
            return True
        # The condition is false.
        for finder in self.spans:
            finder.read_inside(view, index)
        return False

    def apply(self, factor: float, weight: float, rule: int) -> tuple[float, int]:
        """The weight and rule of a character after this rule, given those before it."""
        # A masked character stays masked by the rule that masked it, whatever the factor: 0 × inf is no number.
        if self.statement.verb == "scale":
            return weight * factor if weight else 0.0, rule
        # `+ 0.0` turns -0.0 into 0.0
        return factor + 0.0, self.statement.stage


def as_weight(number: int | float) -> float:
    """A number as a float; one too large becomes infinite, and is refused where it decides.

    >>> as_weight(2), as_weight(10**400)
    (2.0, inf)
    """
    try:
        return float(number)
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")


def steps_for(statements: Sequence[CompiledStatement], role: str | None, part: str, signature: int) -> list[Step]:
    """The statements that can match a kind of segment, in order."""
    # In order of the policy, which is all that decides between rules.
    found = (s.step_for(role, part, signature) for s in statements)
    return [step for step in found if step is not None]
