"""What a proof claims, held against one conversation. Each check returns what is wrong, or None."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from policy_engine.chat.segments import RenderedChat
from policy_engine.core.errors import GuardError, RowError
from policy_engine.lang.checked import CheckedGuard, CheckedPolicy
from policy_engine.proof.results import Diff, ProofReport
from policy_engine.rules.compile import compile_policy
from policy_engine.rules.program import Program

Chars = list[tuple[float, int | None]]


def bare(policy: CheckedPolicy) -> Program:
    return compile_policy(replace(policy, guards=()))


def chars(program: Program, chat: RenderedChat) -> Chars | None:
    """Weight and rule of every character; None where the row fails."""
    try:
        pieces = program.decide(chat).pieces
    except RowError:
        return None
    return [(piece.weight, piece.rule) for piece in pieces for _ in range(piece.start, piece.end)]


def breaks(policy: CheckedPolicy, guard: CheckedGuard, chat: RenderedChat) -> bool:
    try:
        compile_policy(replace(policy, guards=(guard,))).decide(chat)
    except GuardError:
        return True
    except RowError:
        return False
    return False


def without_rule(policy: CheckedPolicy, index: int) -> tuple[CheckedPolicy, dict[int, int]]:
    """The policy without a rule, and the old index of each rule that is left."""
    kept = [rule for rule in policy.rules if rule.index != index]
    rules = tuple(replace(rule, index=i) for i, rule in enumerate(kept))
    return replace(policy, rules=rules, guards=()), {i: rule.index for i, rule in enumerate(kept)}


@dataclass(kw_only=True)
class Held:
    """A report, made ready to be held against many conversations."""

    report: ProofReport

    def __post_init__(self) -> None:
        policy = self.report.policy
        self.program = bare(policy)
        self.guarded = [(g, compile_policy(replace(policy, guards=(g.guard,)))) for g in self.report.guards]
        self.reduced = []
        for dead in self.report.dead:
            smaller, old = without_rule(policy, dead.rule.index)
            self.reduced.append((dead, compile_policy(smaller), old))
        self.deciding = {p.rule.index if p.rule else None for p in self.report.decided if p.places}
        self.reordered = None
        if self.report.order_free:
            rules = tuple(replace(rule, index=i) for i, rule in enumerate(reversed(policy.rules)))
            self.reordered = bare(replace(policy, rules=rules))

    def problems(self, chat: RenderedChat) -> Iterator[str]:
        for finding, program in self.guarded:
            if finding.verdict == "holds":
                try:
                    program.decide(chat)
                except GuardError:
                    yield f"guard {finding.guard.index} is said to hold"
                except RowError:
                    pass
        found = chars(self.program, chat)
        if found is None or self.report.undecided:
            return
        for dead, program, old in self.reduced:
            after = chars(program, chat)
            if after is not None and found != [(w, None if r is None else old[r]) for w, r in after]:
                yield f"rule {dead.rule.index} is said to be dead ({dead.why})"
        for _, rule in set(found):
            if rule not in self.deciding:
                yield f"rule {rule} is said to decide nothing"
        if self.reordered is not None:
            after = chars(self.reordered, chat)
            if after is not None and [w for w, _ in after] != [w for w, _ in found]:
                yield "the policy is said to be free of order"


def diff_problems(diff: Diff, chat: RenderedChat) -> Iterator[str]:
    """What a comparison says that a conversation contradicts."""
    old, new = chars(bare(diff.old), chat), chars(bare(diff.new), chat)
    if old is None or new is None or diff.verdict == "undecided":
        return
    kinds = {change.kind for change in diff.changes}
    for (a, _), (b, _) in zip(old, new, strict=True):
        if a == b:
            continue
        kind = "differs" if abs(a) == abs(b) else "trains more" if abs(b) > abs(a) else "trains less"
        # Weights from the data have no order of their own.
        if kind not in kinds and "differs" not in kinds:
            yield f"{a} became {b}, but only {sorted(kinds) or 'nothing'} is said to change"
            return
