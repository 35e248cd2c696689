"""Results of a proof: verdicts, places in words, and conversations that show them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from policy_engine.core.source import Span
from policy_engine.lang.checked import CheckedGuard, CheckedPolicy, CheckedRule

if TYPE_CHECKING:
    from policy_engine.chat.segments import RenderedChat, Segment
    from policy_engine.data.conversation import Conversation

Verdict = Literal["holds", "fails", "possible", "undecided"]
"""`holds` and `fails` are proven, `fails` by a conversation that was replayed through the engine. `possible` is a
failure that depends on regexes or data, for which no conversation was found. `undecided`: past the limits."""

ExitCode = Literal[0, 1, 3]


@dataclass(frozen=True, kw_only=True)
class Witness:
    """A conversation that shows a finding, replayed through the engine."""

    conversation: Conversation
    chat: RenderedChat
    segment: int
    """Index of the segment of `chat` to look at."""
    rule: int | None
    """Index of the rule that decides there; None for the default."""
    weight: float
    by_template: bool
    """True if the built-in chat template renders `chat`; else it was laid out part by part, as some template may."""

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
    """The verdict on a guard, for all conversations."""

    guard: CheckedGuard
    verdict: Verdict
    vacuous: bool = False
    """True if nothing can ever match the guard."""
    places: tuple[str, ...] = ()
    """The places, in words, where it fails or may fail."""
    rules: tuple[CheckedRule | None, ...] = ()
    """The rules that decide there; None for the default."""
    witness: Witness | None = None


@dataclass(frozen=True, kw_only=True)
class DeadRule:
    """A rule that could be removed without a change to any mask."""

    rule: CheckedRule
    why: Literal["matches nothing", "shadowed", "nothing to scale"]
    """`nothing to scale` is a `scale` that matches nothing which the rules above it train."""
    by: tuple[CheckedRule, ...] = ()
    """The rules below it that decide all it matches, if it is `shadowed`."""


@dataclass(frozen=True, kw_only=True)
class FixedCondition:
    """A condition, or a test in one, that is always the same where the targets match."""

    statement: CheckedRule | CheckedGuard
    test: str
    """The condition or test, as written."""
    always: bool
    """Its constant value."""
    span: Span


@dataclass(frozen=True, kw_only=True)
class Order:
    """The finding on the order of the rules."""

    free: bool | None
    """True if the rules can be in any order; None where that is not known, since rules ask for `trained`."""
    pair: tuple[CheckedRule, CheckedRule] | None = None
    """Two rules that overlap and disagree."""


@dataclass(frozen=True, kw_only=True)
class RulePlaces:
    """The places that a rule decides, in words; for the rule None, those that no rule matches."""

    rule: CheckedRule | None
    places: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ProofReport:
    """The findings about a policy that are true in all conversations.

    With `undecided` set (to why), nothing else is known: every guard is `undecided`.

    >>> from policy_engine.lang.check import check_text
    >>> from policy_engine.proof.policy_proof import prove
    >>> report = prove(check_text("train assistant; never train user", name="chat.policy"))
    >>> report, report.exit_code
    (<ProofReport chat.policy: `never train user` holds; 0 dead rules>, 0)
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
        """True if it is proven that the rules can be in any order."""
        return self.order.free is True

    @property
    def holds(self) -> bool:
        """True if every guard is proven."""
        return all(g.verdict == "holds" for g in self.guards)

    @property
    def fails(self) -> tuple[GuardFinding, ...]:
        """The guards that a conversation breaks."""
        return tuple(g for g in self.guards if g.verdict == "fails")

    @property
    def exit_code(self) -> ExitCode:
        """0 if all guards hold, 1 if one fails, 3 if one is possible or undecided."""
        # 3 says that nothing is wrong as far as is known; scripts may treat it either way.
        return 1 if self.fails else 0 if self.holds and self.undecided is None else 3


DiffVerdict = Literal["equal", "trains more", "trains less", "incomparable", "possibly different", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Change:
    """Places where two policies differ.

    `old` and `new` are the weights there, as products of numbers and fields: `0.5 × message.weight`.
    """

    kind: Literal["trains more", "trains less", "differs"]
    old: str
    new: str
    places: tuple[str, ...]
    witness: Witness | None
    """A conversation on which the two differ, with the new policy's decision; None if the search found no such one."""


@dataclass(frozen=True, kw_only=True)
class SettingChange:
    """A setting (or what `never` guards keep masked in tokens) that differs."""

    name: str
    old: str
    new: str


@dataclass(frozen=True, kw_only=True)
class Diff:
    """The comparison of two policies over all conversations.

    *Trains more* means that no character gets a weight of smaller magnitude, and some a greater one. `possibly
    different`: it depends on regexes or data for which no conversation was found; `changes` lists what was found.
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
        """0 if the two are equal, 1 if a conversation shows a difference, 3 if that is not known."""
        if self.verdict == "undecided":
            return 3
        if self.verdict == "possibly different":
            return 1 if any(change.witness is not None for change in self.changes) else 3
        return 0 if self.verdict == "equal" else 1
