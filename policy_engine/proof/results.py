"""What a proof says: verdicts, the places in words, and conversations that show them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from policy_engine.chat.segments import RenderedChat, Segment
from policy_engine.core.source import Span
from policy_engine.data.conversation import Conversation
from policy_engine.lang.checked import CheckedGuard, CheckedPolicy, CheckedRule

Verdict = Literal["holds", "fails", "possible", "undecided"]
"""`holds` and `fails` are proven, `fails` by a conversation that was replayed through the engine. `possible` is a
failure that depends on regexes or data, for which no conversation was found. `undecided`: past the limits."""

ExitCode = Literal[0, 1, 3]


@dataclass(frozen=True, kw_only=True)
class Witness:
    """A conversation that shows something, replayed through the engine. `segment` is the place in `chat` to look at.

    `by_template` is whether `chat` is what the built-in chat template renders; else it was laid out part by part, which
    some template may do. `rule` is the index of the rule that decides there, None for the default.
    """

    conversation: Conversation
    chat: RenderedChat
    segment: int
    rule: int | None
    weight: float
    by_template: bool

    @property
    def place(self) -> Segment:
        """The segment to look at."""
        return self.chat.segments[self.segment]

    @property
    def text(self) -> str:
        """The characters to look at."""
        return self.chat.segment_text(self.place)


@dataclass(frozen=True, kw_only=True)
class GuardFinding:
    """Whether a guard holds for all conversations.

    `vacuous`: nothing can ever match the guard. `places` says in words where it fails or may fail, `rules` are the
    rules that decide there (None: the default).
    """

    guard: CheckedGuard
    verdict: Verdict
    vacuous: bool = False
    places: tuple[str, ...] = ()
    rules: tuple[CheckedRule | None, ...] = ()
    witness: Witness | None = None


@dataclass(frozen=True, kw_only=True)
class DeadRule:
    """A rule that could be removed without changing anything.

    `why` is `matches nothing`, `shadowed` (the rules `by` below it decide all it matches), or for `scale` also
    `nothing to scale` (nothing it matches is trained by then).
    """

    rule: CheckedRule
    why: Literal["matches nothing", "shadowed", "nothing to scale"]
    by: tuple[CheckedRule, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FixedCondition:
    """A condition, or a test in one, that comes out the same wherever the statement's targets match."""

    statement: CheckedRule | CheckedGuard
    test: str
    """The condition or test, as written."""
    always: bool
    """What it always is."""
    span: Span


@dataclass(frozen=True, kw_only=True)
class Order:
    """Whether the order of the rules matters.

    `free` is None where it cannot be told: rules that ask for `trained`. `pair`: two rules that overlap and disagree.
    """

    free: bool | None
    pair: tuple[CheckedRule, CheckedRule] | None = None


@dataclass(frozen=True, kw_only=True)
class RulePlaces:
    """What a rule decides, in words; `rule` None stands for what no rule matches."""

    rule: CheckedRule | None
    places: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ProofReport:
    """What is true of a policy in all conversations.

    With `undecided` set (to why), nothing else is known: every guard is `undecided`.
    """

    policy: CheckedPolicy
    guards: tuple[GuardFinding, ...]
    dead: tuple[DeadRule, ...] = ()
    fixed: tuple[FixedCondition, ...] = ()
    order: Order = Order(free=None)
    decided: tuple[RulePlaces, ...] = ()
    undecided: str | None = None

    def __repr__(self) -> str:
        guards = "; ".join(f"`{g.guard.span.one_line}` {g.verdict}" for g in self.guards)
        verdicts = f"undecided, {self.undecided}" if self.undecided else guards or "no guards"
        return f"<ProofReport {self.policy.source.name}: {verdicts}; {len(self.dead)} dead rules>"

    @property
    def shadowed(self) -> tuple[DeadRule, ...]:
        """The dead rules that others shadow."""
        return tuple(d for d in self.dead if d.why == "shadowed")

    @property
    def order_free(self) -> bool:
        """Whether it is proven that the rules can stand in any order."""
        return self.order.free is True

    @property
    def holds(self) -> bool:
        """Whether every guard is proven."""
        return all(g.verdict == "holds" for g in self.guards)

    @property
    def fails(self) -> tuple[GuardFinding, ...]:
        """The guards that a conversation breaks."""
        return tuple(g for g in self.guards if g.verdict == "fails")

    @property
    def exit_code(self) -> ExitCode:
        """0 if all guards hold, 1 if one fails, 3 if one is possible or undecided."""
        return 1 if self.fails else 0 if self.holds and self.undecided is None else 3


DiffVerdict = Literal["equal", "trains more", "trains less", "incomparable", "possibly different", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Change:
    """Places where two policies differ. `old` and `new` are the weights there, products of numbers and fields."""

    kind: Literal["trains more", "trains less", "differs"]
    old: str
    new: str
    places: tuple[str, ...]
    witness: Witness | None
    """A conversation on which the two differ, with the new policy's decision; None if none was found."""


@dataclass(frozen=True, kw_only=True)
class SettingChange:
    """A setting (or what `never` guards keep masked in tokens) that differs."""

    name: str
    old: str
    new: str


@dataclass(frozen=True, kw_only=True)
class Diff:
    """How two policies compare over all conversations.

    *Trains more* means that no character gets a weight of smaller magnitude, and some a greater one. `possibly
    different`: it depends on regexes or data for which no conversation was found; `changes` tells what was.
    """

    old: CheckedPolicy
    new: CheckedPolicy
    verdict: DiffVerdict
    changes: tuple[Change, ...] = ()
    settings: tuple[SettingChange, ...] = ()
    undecided: str | None = None

    def __repr__(self) -> str:
        return f"<Diff {self.new.source.name} against {self.old.source.name}: {self.verdict}>"

    @property
    def exit_code(self) -> ExitCode:
        """0 if the two are equal, 1 if it is shown that they differ, 3 if it cannot be told."""
        if self.verdict == "undecided":
            return 3
        if self.verdict == "possibly different":
            return 1 if any(change.witness is not None for change in self.changes) else 3
        return 0 if self.verdict == "equal" else 1
