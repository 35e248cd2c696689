"""Findings of a proof as diagnostics: the same for a compiler, a command line and an editor."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Final

from policy_engine.core.diagnostics import Diagnostic, Related
from policy_engine.proof.results import DeadRule, FixedCondition, GuardFinding, ProofReport, Witness

GUARD_FAILS: Final = "PE303"
GUARD_POSSIBLE: Final = "PE304"
GUARD_UNDECIDED: Final = "PE305"
GUARD_VACUOUS: Final = "PE306"
RULE_DEAD: Final = "PE311"
CONDITION_FIXED: Final = "PE312"
_LONGEST: Final = 600


def report_diagnostics(report: ProofReport) -> tuple[Diagnostic, ...]:
    """All problems of a report: those of its guards, then those of its rules and conditions."""
    return (*guard_diagnostics(report.guards, undecided=report.undecided), *rule_diagnostics(report))


def guard_diagnostics(findings: Sequence[GuardFinding], *, undecided: str | None = None) -> Iterator[Diagnostic]:
    """The problems of guards: an error for one that fails, a warning for one that is not proven.

    >>> from policy_engine.lang.check import check_text
    >>> from policy_engine.proof.policy_proof import prove
    >>> report = prove(check_text("train everything; never train user.text"))
    >>> [found.message for found in guard_diagnostics(report.guards)]
    ['`never train user.text` does not hold: trained in user: text']
    """
    for finding in findings:
        text, fails = f"`{finding.guard.span.one_line}`", finding.verdict == "fails"
        related: list[Related] = []
        if finding.verdict == "holds":
            if not finding.vacuous:
                continue
            code, message = GUARD_VACUOUS, f"{text} holds because nothing can ever match it"
            help = "check its role, parts and conditions, or remove it"
        elif finding.verdict == "undecided":
            why = undecided or "it is past the limits of the proof"
            code, message = GUARD_UNDECIDED, f"whether {text} holds is undecided: {why}"
            help = "it is still asserted on every row"
        else:
            what = "trained" if finding.guard.kind == "never" else "masked"
            decides = "this rule decides there" if fails else "this rule would decide there"
            related = [Related(message=decides, span=rule.span) for rule in finding.rules if rule is not None]
            # No rule to point at; with others beside it, pointing at these says more.
            default = " by default, where no rule matches" if None in finding.rules and not related else ""
            code, does = (GUARD_FAILS, "does not") if fails else (GUARD_POSSIBLE, "may not")
            message = f"{text} {does} hold: {what}{default} in {'; '.join(finding.places)}"
            help = _guard_help(finding)
        yield Diagnostic(
            code=code,
            severity="error" if fails else "warning",
            message=message,
            span=finding.guard.span,
            help=help,
            related=tuple(related),
        )


def _guard_help(finding: GuardFinding) -> str:
    if finding.witness is None:
        return (
            "it depends on regexes or data, and no conversation was found that breaks it; it is still asserted on "
            "every row"
        )
    change = "write a rule below that masks it" if finding.guard.kind == "never" else "write a rule that trains it"
    return f"{change}, or narrow the guard; it breaks on\n    {witness_text(finding.witness)}"


def witness_text(witness: Witness) -> str:
    """A conversation on one line, as JSON, and the characters in it to look at."""
    messages = json.dumps(list(witness.conversation.messages), ensure_ascii=False)
    sample = witness.conversation.sample
    row = f" with sample {json.dumps(dict(sample), ensure_ascii=False)}" if sample else ""
    # Terminals and editors show this on one line.
    if len(messages) > _LONGEST:
        messages = messages[:_LONGEST] + " …"
    turn = witness.place.turn
    owner = "text no message owns" if turn is None else f"message {turn}"
    return f"{messages}{row}: {owner}, {witness.place.part} {witness.text!r}"


def rule_diagnostics(report: ProofReport) -> Iterator[Diagnostic]:
    """Rules that do nothing, and conditions that always come out the same."""
    for dead in report.dead:
        yield _dead(dead)
    for fixed in report.fixed:
        yield _fixed(fixed)


def _dead(dead: DeadRule) -> Diagnostic:
    text = f"`{dead.rule.span.one_line}`"
    if dead.why == "matches nothing":
        message, help = f"{text} can never match anything", "check its role, parts and conditions, or remove it"
    elif dead.why == "nothing to scale":
        message = f"{text} scales nothing: nothing it matches is trained by the rules above it"
        help = "put it below the rules whose weight it scales, or remove it"
    else:
        message = f"{text} decides nothing: rules below it decide all it matches"
        help = "the last rule that matches decides: move it below them, or remove it"
    return Diagnostic(
        code=RULE_DEAD,
        severity="warning",
        message=message,
        span=dead.rule.span,
        help=help,
        related=tuple(Related(message="this rule decides instead", span=rule.span) for rule in dead.by),
    )


def _fixed(fixed: FixedCondition) -> Diagnostic:
    return Diagnostic(
        code=CONDITION_FIXED,
        severity="warning",
        message=f"`{fixed.test}` is {'true' if fixed.always else 'false'} wherever the targets match",
        span=fixed.span,
        help="remove it, or check the field, the value and the targets",
    )
