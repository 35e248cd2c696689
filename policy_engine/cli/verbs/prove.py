"""`prove FILE…`: what holds for all conversations, with a conversation where it does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from policy_engine.cli.options import DatasetOption, FormatOption, PolicyFilesArgument
from policy_engine.cli.outcome import Exit, Outcome, diagnostics_of
from policy_engine.cli.reporters.json import location_json
from policy_engine.cli.work.inputs import policy_files, read_checked, read_schema
from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.errors import PolicyEngineError
from policy_engine.core.wording import counted
from policy_engine.lang.checked import CheckedRule, roles_of
from policy_engine.report.styles import BAD, DOUBT, GOOD
from policy_engine.report.visible import pointed

if TYPE_CHECKING:
    from policy_engine.proof.results import GuardFinding, ProofReport, Witness

_STYLES = {"holds": GOOD, "fails": BAD, "possible": DOUBT, "undecided": DOUBT}


def prove(
    files: PolicyFilesArgument,
    dataset: DatasetOption = None,
    rules: Annotated[bool, typer.Option("--rules", help="Also say in words what each rule decides.")] = False,
    format: FormatOption = "text",
) -> Outcome:
    """Decide for all conversations which guards hold and which rules do nothing."""
    # Imported here: proofs bring chat templates, which most verbs do without.
    from policy_engine.proof.policy_proof import prove as proved
    from policy_engine.proof.proof_diagnostics import report_diagnostics

    schema = read_schema(dataset)
    diagnostics: list[Diagnostic] = []
    facts: list[dict[str, Any]] = []
    body: list[RenderableType] = []
    codes: set[int] = set()
    for name in policy_files(files):
        try:
            report = proved(read_checked(name, schema))
        except PolicyEngineError as error:
            diagnostics += diagnostics_of(error)
            facts.append({"file": name, "valid": False})
            codes.add(Exit.NO_ANSWER)
            continue
        found = report_diagnostics(report)
        diagnostics += found
        codes.add(report.exit_code)
        facts.append(report_facts(name, report))
        body += _lines(name, report, rules)
    # Over several files the least certain answer counts, in this order.
    code = next((c for c in (Exit.NO_ANSWER, Exit.FAILS, Exit.UNDECIDED) if c in codes), Exit.HOLDS)
    return Outcome(exit=code, diagnostics=tuple(diagnostics), data={"files": facts}, body=tuple(body))


def report_facts(name: str, report: ProofReport) -> dict[str, Any]:
    """A report as JSON data."""
    return {
        "file": name,
        "valid": True,
        "undecided": report.undecided,
        "guards": [
            {
                "guard": g.guard.span.one_line,
                "location": location_json(g.guard.span),
                "verdict": g.verdict,
                "vacuous": g.vacuous,
                "undeclared_roles": _undeclared(g, report),
                "places": list(g.places),
                "rules": [_rule(rule) for rule in g.rules],
                "witness": witness_facts(g.witness),
            }
            for g in report.guards
        ],
        "dead": [{**_rule(d.rule), "why": d.why, "by": [_rule(rule) for rule in d.by]} for d in report.dead],
        "fixed_conditions": [
            {"test": f.test, "always": f.always, "location": location_json(f.span)} for f in report.fixed
        ],
        "order_free": report.order.free,
        "rules": [{**_rule(r.rule), "decides": list(r.places)} for r in report.decided],
    }


def witness_facts(witness: Witness | None) -> dict[str, Any] | None:
    """A witness as JSON data: the conversation, its text, and the place in it to look at."""
    if witness is None:
        return None
    return {
        "messages": [dict(message) for message in witness.conversation.messages],
        "sample": dict(witness.conversation.sample),
        "text": witness.chat.text,
        "start": witness.place.start,
        "end": witness.place.end,
        "part": witness.place.part,
        "message": witness.place.turn,
        "weight": witness.weight,
        "rule": witness.rule,
        "by_template": witness.by_template,
    }


def witness_lines(witness: Witness) -> Iterator[Text]:
    """The text of a witness, the characters to look at in colour and in ⟦ ⟧."""
    place = witness.place
    for line in pointed(witness.chat.text, place.start, place.end, style=BAD).split("\n"):
        yield Text("      ").append_text(line)


def _undeclared(found: GuardFinding, report: ProofReport) -> list[str]:
    """Roles of a guard that the data may not have: what holds of them may hold of nothing."""
    return sorted(roles_of(found.guard.targets) & report.policy.undeclared)


def _rule(rule: CheckedRule | None) -> dict[str, Any]:
    if rule is None:
        return {"rule": None, "index": None, "location": None}
    return {"rule": rule.span.one_line, "index": rule.index, "location": location_json(rule.span)}


def _lines(name: str, report: ProofReport, rules: bool) -> Iterator[RenderableType]:
    yield Text.assemble((name, "bold"), f": {_summary(report)}")
    for g in report.guards:
        unknown = ", ".join(f"`{role}`" for role in _undeclared(g, report))
        note = f"  (nothing declares {unknown})" if unknown else ""
        yield Text.assemble("  ", (g.verdict, _STYLES[g.verdict]), f"  {g.guard.span.one_line}", (note, DOUBT))
        if g.witness is not None:
            yield from witness_lines(g.witness)
    if not rules:
        return
    for r in report.decided:
        line = "no rule" if r.rule is None else r.rule.span.one_line
        yield Text.assemble("  ", (line, "bold"))
        for place in r.places or ("nothing",):
            yield Text(f"      {place}")


def _summary(report: ProofReport) -> str:
    if report.undecided is not None:
        return f"undecided: {report.undecided}"
    facts = [counted(len(report.guards), "guard")]
    if report.dead:
        facts.append(f"{counted(len(report.dead), 'rule')} without effect")
    if report.order.free is not None:
        facts.append("the order of its rules " + ("does not matter" if report.order.free else "matters"))
    return ", ".join(facts)
