"""A policy with its names resolved: `use` spliced, `let` expanded, roles and parts known.

This is what compiles to a program and what the proof reasons about. Rules keep the order in which they decide.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.source import Source, Span
from policy_engine.core.vocabulary import RelationKind
from policy_engine.core.wording import counted
from policy_engine.lang.ast import Expr, Field, Which


@dataclass(frozen=True, kw_only=True)
class TurnSet:
    """Turns of a role, and which of them. `role` None means turns of any role."""

    role: str | None
    which: Which | None = None


@dataclass(frozen=True, kw_only=True)
class TurnRelation:
    """A relation of a segment's turn to other turns.

    It is strictly `after` the earliest of `turns`, strictly `before` the latest, or `right after` one of them.
    """

    kind: RelationKind
    turns: TurnSet


@dataclass(frozen=True, kw_only=True)
class Atom:
    """Segments of some turns and some parts, for whose turn all `relations` hold.

    `train assistant.text after user` has the turns `assistant`, the part `text` and one relation.

    >>> from policy_engine.lang.check import check_text
    >>> atom = check_text("train assistant.text after user").rules[0].targets[0]
    >>> atom.turns.role, sorted(atom.parts), atom.relations[0].kind
    ('assistant', ['text'], 'after')
    """

    turns: TurnSet | None
    """None asks nothing of the turn: text that no message owns matches too, unless there are `relations`."""
    parts: frozenset[str]
    """Parts without parts below them, expanded for the verb: `train assistant` has those of the body."""
    relations: tuple[TurnRelation, ...] = ()
    span: Span


@dataclass(frozen=True, kw_only=True)
class Spans:
    """Characters that a regex matches, a data field lists, or a model sampled, within runs.

    A run is as many neighbouring characters of one turn as `inside` selects. Exactly one of `pattern`, `field` and
    `sampled` is set.

    >>> from policy_engine.lang.check import check_text
    >>> check_text("mask /[0-9]+/ in assistant").rules[0].targets[0].pattern
    '[0-9]+'
    """

    pattern: str | None = None
    flags: str = ""
    field: Field | None = None
    sampled: bool = False
    inside: tuple[CheckedTarget, ...]
    span: Span


CheckedTarget = Atom | Spans


@dataclass(frozen=True, kw_only=True)
class CheckedRule:
    """A `train`, `mask` or `scale` rule.

    It matches where any target matches and its `condition`, if it has one, is true.

    `weight` is the rule's number or field: the weight for `train` (1 unless written), the factor for `scale`;
    `mask` has weight 0.

    >>> from policy_engine.lang.check import check_text
    >>> check_text("train assistant").rules[0]
    <CheckedRule <string>:1:1 `train assistant`>
    """

    index: int
    effect: Literal["train", "mask", "scale"]
    targets: tuple[CheckedTarget, ...]
    condition: Expr | None
    weight: int | float | Field
    span: Span

    def __repr__(self) -> str:
        return f"<CheckedRule {_said(self.span)}>"


@dataclass(frozen=True, kw_only=True)
class CheckedGuard:
    """An obligation on the whole policy: `never` or `always` train what the targets select."""

    index: int
    kind: Literal["never", "always"]
    targets: tuple[CheckedTarget, ...]
    condition: Expr | None
    span: Span

    def __repr__(self) -> str:
        return f"<CheckedGuard {_said(self.span)}>"


def _said(span: Span) -> str:
    return f"{span} `{span.one_line}`"


CheckedStatement = CheckedRule | CheckedGuard


@dataclass(frozen=True, kw_only=True)
class CheckedPolicy:
    """A policy that means something. `warnings` are the findings that did not stop it."""

    rules: tuple[CheckedRule, ...]
    guards: tuple[CheckedGuard, ...]
    settings: dict[str, str]
    """Only the settings that are written; the including file's win over those of what it uses."""
    roles: frozenset[str]
    """Every role the policy names."""
    source: Source
    warnings: tuple[Diagnostic, ...] = ()
    undeclared: frozenset[str] = frozenset()
    """The roles among them that are neither usual nor declared in a schema: the data may have them, or they are
    misspelt."""

    def __repr__(self) -> str:
        return f"<CheckedPolicy {self.description}>"

    @property
    def statements(self) -> tuple[CheckedStatement, ...]:
        """The rules, then the guards.

        >>> from policy_engine.lang.check import check_text
        >>> check_text("never train user; train assistant").statements
        (<CheckedRule <string>:1:19 `train assistant`>, <CheckedGuard <string>:1:1 `never train user`>)
        """
        return (*self.rules, *self.guards)

    @property
    def description(self) -> str:
        """The policy in a few words: `my.policy: 3 rules, 1 guard`.

        >>> from policy_engine.lang.check import check_text
        >>> check_text("train assistant; never train user").description
        '<string>: 1 rule, 1 guard'
        """
        counts = ((len(self.rules), "rule"), (len(self.guards), "guard"))
        return f"{self.source.name}: " + ", ".join(counted(n, noun) for n, noun in counts)


def atoms_of(target: CheckedTarget) -> Iterable[Atom]:
    """The atoms of a target, those inside spans too.

    >>> from policy_engine.lang.check import check_text
    >>> [atom.turns.role for atom in atoms_of(check_text("mask /x/ in (assistant, tool)").rules[0].targets[0])]
    ['assistant', 'tool']
    """
    if isinstance(target, Atom):
        yield target
    else:
        for inner in target.inside:
            yield from atoms_of(inner)


def roles_of(targets: tuple[CheckedTarget, ...]) -> frozenset[str]:
    """The roles that targets name, in relations too.

    >>> from policy_engine.lang.check import check_text
    >>> sorted(roles_of(check_text("train assistant, tool").rules[0].targets))
    ['assistant', 'tool']
    """
    found: set[str] = set()
    for target in targets:
        # Relations of spans were moved inside when names were resolved, so there is nothing to add for them.
        if isinstance(target, Spans):
            found |= roles_of(target.inside)
            continue
        turns = [relation.turns for relation in target.relations]
        turns += [] if target.turns is None else [target.turns]
        found |= {turn.role for turn in turns if turn.role is not None}
    return frozenset(found)
