"""Findings of an audit for machines: code scanning services and build logs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from policy_engine.audit.audit import Audit, Breach, Smell
from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.source import Place
from policy_engine.core.wording import counted

BREACHES: Final = 5
"""Rows that break the policy of which each is named; the others are counted."""


def audit_findings(data: str, found: Audit, where: Callable[[int], Place]) -> tuple[Diagnostic, ...]:
    """The smells, the rows that break the policy, and those that no verdict covers.

    `where` gives the place of a row by its number.

    >>> found = audit_findings("x", Audit(rows=2), lambda number: Place(file="x", number=number))
    >>> [(f.code, f.message) for f in found]
    [('PE705', 'x: 2 of 2 rows were not found again')]
    """
    smells = (
        Diagnostic(
            code="PE703",
            severity="info" if smell.asked else "error",
            message=f"{data}: {smell_text(smell)}",
            help=None if smell.asked else smell.help,
        )
        for smell in found.smells
    )
    return (*smells, *_breaches(found, where), *_without_verdict(data, found))


def smell_text(smell: Smell) -> str:
    """A smell in words, with the rows that show it.

    >>> smell_text(Smell(code="user-trained", message="words of users are trained", help="", rows=2, of=2, asked=True))
    'words of users are trained [user-trained]: 2 of 2 rows; the policy asks for it'
    """
    asked = "; the policy asks for it" if smell.asked else ""
    return f"{smell.message} [{smell.code}]: {smell.rows:,} of {counted(smell.of, 'row')}{asked}"


def tokens_of(breach: Breach) -> str:
    """The first tokens that differ, in words.

    >>> tokens_of(Breach(row=1, differing=1, tokens=((3, "Hi", "trained"),)))
    "'Hi' is trained (token 3)"
    """
    return ", ".join(f"{text!r} is {effect} (token {at})" for at, text, effect in breach.tokens)


def why_not_found(found: Audit) -> str:
    """The likely reason why rows were not found again.

    >>> why_not_found(Audit(rows=2))
    'is this the tokenizer and the template that made them?'
    """
    if not found.recovered:
        return "is this the tokenizer and the template that made them?"
    return "cut, made by another template, or ambiguous in their ids alone; keep `messages` beside them"


def _breaches(found: Audit, where: Callable[[int], Place]) -> Iterator[Diagnostic]:
    for breach in found.breaches[:BREACHES]:
        yield Diagnostic(
            code="PE704",
            message=f"{counted(breach.differing, 'token')} not as the policy says: {tokens_of(breach)}",
            help="mask the data with the policy (`policy-engine apply`), or change the policy",
            place=where(breach.row),
        )
    more = len(found.breaches) - BREACHES
    if more > 0:
        breaks = "breaks" if more == 1 else "break"
        yield Diagnostic(code="PE704", message=f"{counted(more, 'more row')} {breaks} the policy")


def _without_verdict(data: str, found: Audit) -> Iterator[Diagnostic]:
    if lost := found.rows - found.recovered:
        were = "was" if lost == 1 else "were"
        yield Diagnostic(
            code="PE705",
            severity="warning",
            message=f"{data}: {lost:,} of {counted(found.rows, 'row')} {were} not found again",
            help=why_not_found(found),
        )
    if found.undecided:
        asked = ", ".join(f"`{name}`" for name, _ in found.untold.most_common())
        yield Diagnostic(
            code="PE705",
            severity="warning",
            message=f"{data}: {counted(found.undecided, 'row')} cannot be compared with the policy"
            + (f", which asks for {asked}" if asked else ""),
            help=f"the policy refuses {counted(found.refused, 'row')}: a guard, or `on … error`"
            if found.refused == found.undecided
            else "keep `messages` (and `tools`) beside the ids",
        )
