"""Guards: obligations on what all rules together decided, asserted on every chat."""

from __future__ import annotations

from policy_engine.core.bounded import Bounded
from policy_engine.core.errors import GuardError
from policy_engine.core.vocabulary import UNTRAINABLE
from policy_engine.lang.checked import CheckedPolicy
from policy_engine.rules.conditions.chat_view import ChatView
from policy_engine.rules.conditions.comparison import excerpt
from policy_engine.rules.decide import Decider
from policy_engine.rules.ranges import Decided, Range, union
from policy_engine.rules.statements import CompiledStatement, Step, steps_for


class Guards:
    """The guards of a policy, with the ones that matter kept per kind of segment."""

    def __init__(self, policy: CheckedPolicy, decider: Decider) -> None:
        self._decider = decider
        self._total = len(policy.rules)
        self._guards = [
            # All rules are above a guard, wherever it is written: `trained` in it means after all of them.
            CompiledStatement(guard, tests=decider.tests, stage=self._total, number=self._total + at)
            for at, guard in enumerate(policy.guards)
        ]
        self._steps: Bounded[tuple[str | None, str, int], list[Step]] = Bounded(100_000)

    def __bool__(self) -> bool:
        return bool(self._guards)

    @property
    def is_whole(self) -> bool:
        """True if the guards cover whole segments, by their kinds and conditions."""
        return all(guard.is_whole for guard in self._guards)

    def check(self, view: ChatView, decided: list[tuple[float, int] | list[Decided] | None]) -> tuple[Range, ...]:
        """Checks the decision of every segment; returns the characters that `never` guards cover.

        Raises GuardError for the first character of the text that breaks a guard, and RowError for an entry of the data
        that is no span. RowError comes first, wherever the entry is.
        """
        never: list[Range] = []
        broken: GuardError | None = None
        for index, decision in enumerate(decided):
            if decision is None:
                continue
            segment = view.chat.segments[index]
            for step in self._steps_for(view, index):
                if not step.holds(view, index):
                    continue
                ranges = step.ranges(view, index)
                # `on straddle train` must not train a token that touches these.
                if step.statement.verb == "never":
                    never += ranges
                # No rule decides a generation prompt, so it cannot break a guard.
                # Only the first is kept. The loop goes on, since bad spans further on fail the row in place of the
                # guard.
                if broken is None and segment.part not in UNTRAINABLE:
                    broken = self._broken(step, view, index, ranges, decision)
        if broken is not None:
            raise broken
        return tuple(union(never))

    def _steps_for(self, view: ChatView, index: int) -> list[Step]:
        segment = view.chat.segments[index]
        turn = segment.turn
        role, signature = (None, 0) if turn is None else (view.roles[turn], view.signatures[turn])
        key = (role, segment.part, signature)
        steps = self._steps.get(key)
        if steps is None:
            steps = self._steps.keep(key, steps_for(self._guards, role, segment.part, signature))
        return steps

    def _broken(
        self, step: Step, view: ChatView, index: int, ranges: list[Range], decision: tuple[float, int] | list[Decided]
    ) -> GuardError | None:
        segment = view.chat.segments[index]
        pieces = decision if isinstance(decision, list) else [(segment.start, segment.end, *decision)]
        for start, end, weight, rule in pieces:
            # Trained is what `always` wants, masked what `never` wants.
            if bool(weight) == (step.statement.verb == "always"):
                continue
            for a, b in ranges:
                if max(a, start) < min(b, end):
                    # Pieces and ranges are in order, so this is the first character of the segment that breaks the
                    # guard.
                    return self._error(step, view, index, (max(a, start), min(b, end)), rule)
        return None

    def _error(self, step: Step, view: ChatView, index: int, where: Range, rule: int) -> GuardError:
        segment = view.chat.segments[index]
        if segment.turn is None:
            owner = f"text no message owns, part `{segment.part}`"
        else:
            owner = f"message {segment.turn}, role `{view.roles[segment.turn]}`, part `{segment.part}`"
        did = "trained" if step.statement.verb == "never" else "masked"
        by = "by default: no rule matches it" if rule < 0 else f"by {self._decider.rules[rule].place}"
        return GuardError(
            f"guard {step.statement.place} does not hold\n  {did} {by}\n  {owner}\n"
            f"  text: {excerpt(view.chat.text[where[0] : where[1]])}",
            help="change the rule that decided, add one below it, or narrow the guard",
        )
