"""Which rules had a say about one character, with the values their conditions saw."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from policy_engine.core.facts import ChatFacts, SegmentFacts
from policy_engine.rules.conditions.chat_view import ChatView
from policy_engine.rules.conditions.conditions import ConditionValue
from policy_engine.rules.program import Program
from policy_engine.rules.statements import Step


@dataclass(frozen=True, kw_only=True)
class RuleTrace:
    """One rule whose targets select a character.

    `number` is the weight it sets, or the factor it scales by; `place` is `file:line:column`; `holds` is whether its
    condition is true there (true without one), of which `conditions` has every test.
    """

    index: int
    place: str
    text: str
    effect: str
    holds: bool
    conditions: tuple[ConditionValue, ...]
    number: float


def trace_rules(program: Program, chat: ChatFacts, places: Sequence[tuple[int, int]]) -> list[tuple[RuleTrace, ...]]:
    """The rules that select each of some characters, in the order of the policy.

    `places` are pairs of a segment's index and a character in it.

    Raises RowError, as `Program.decide` does.
    """
    view = ChatView(chat)
    program.decider.prepare(view)
    return [_trace(program, view, segment, position) for segment, position in places]


def selected_rules(program: Program, chat: ChatFacts, wanted: Collection[int]) -> tuple[set[int], set[int]]:
    """The rules of `wanted` that select text of a chat, and those whose condition holds there.

    Says what `trace_rules` says of all characters of all segments together, and costs little for hundreds of rules
    whose conditions are false.

    Raises RowError, as `Program.decide` does.
    """
    view = ChatView(chat)
    program.decider.prepare(view)
    selected: set[int] = set()
    held: set[int] = set()
    kinds: dict[tuple[str | None, str, int], list[tuple[int, Step]]] = {}
    for index, segment in enumerate(chat.segments):
        if segment.start >= segment.end:
            continue
        turn = segment.turn
        kind = (None, segment.part, 0) if turn is None else (view.roles[turn], segment.part, view.signatures[turn])
        if kind not in kinds:
            steps = ((rule, program.decider.rules[rule].step_for(*kind)) for rule in wanted)
            kinds[kind] = [(rule, step) for rule, step in steps if step is not None]
        # The bits of the rules whose conditions may hold: of the others nothing is evaluated.
        may = view.held[-1 if turn is None else turn][0]
        for rule, step in kinds[kind]:
            if rule in held:
                continue
            holds = bool(may >> rule & 1) and step.holds(view, index)
            # As in `_trace`; a span may be anywhere in its segment.
            if not step.whole and holds and not _is_in(segment, step.ranges(view, index)):
                continue
            selected.add(rule)
            if holds:
                held.add(rule)
    return selected, held


def _is_in(segment: SegmentFacts, ranges: Iterable[tuple[int, int]]) -> bool:
    """True if a range has a character of the segment."""
    return any(max(start, segment.start) < min(end, segment.end) for start, end in ranges)


def _trace(program: Program, view: ChatView, index: int, position: int) -> tuple[RuleTrace, ...]:
    segment = view.chat.segments[index]
    # As in `Decider.decide`: no turn test is true of text without an owner.
    role, signature = None, 0
    if segment.turn is not None:
        role, signature = view.roles[segment.turn], view.signatures[segment.turn]
    found = []
    for statement in program.decider.rules:
        # Asked of every rule, not of `rules_for`, which leaves out those above the last unconditional one.
        step = statement.step_for(role, segment.part, signature)
        if step is None:
            continue
        holds = step.holds(view, index)
        # A rule whose condition is false never looks at its spans, so that bad ones under it fail no row.
        if not step.whole and holds and not any(start <= position < end for start, end in step.ranges(view, index)):
            continue
        found.append(
            RuleTrace(
                index=statement.stage,
                place=str(statement.checked.span),
                text=statement.checked.span.one_line,
                effect=statement.verb,
                holds=holds,
                conditions=() if statement.condition is None else statement.condition.values(view, segment),
                # A bad weight under a false condition fails no row.
                number=statement.factor(view, segment) if holds else 0.0,
            )
        )
    return tuple(found)
