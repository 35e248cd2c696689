"""`check FILE…`: parse, resolve names, lint, prove guards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from policy_engine.cli.files import write_text_file
from policy_engine.cli.options import DatasetOption, FormatOption, PolicyFilesArgument
from policy_engine.cli.outcome import Exit, Outcome, diagnostics_of
from policy_engine.cli.work.inputs import policy_files, read_schema, read_source
from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.errors import PolicyEngineError
from policy_engine.core.schema import Schema
from policy_engine.core.wording import counted
from policy_engine.lang.check import check_text
from policy_engine.lang.checked import CheckedPolicy
from policy_engine.lang.lint.fix import apply_edits, edits
from policy_engine.lang.lint.lint import warnings_of
from policy_engine.lang.lint.suppress import unsuppressed
from policy_engine.lang.parse import parse
from policy_engine.report.styles import BAD, DOUBT, GOOD

_UNPROVEN = ("PE304", "PE305")
"""Findings of the proof that leave a guard open: possible, but not realised; and undecided."""


def check(
    files: PolicyFilesArgument,
    dataset: DatasetOption = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings make the answer no.")] = False,
    prove: Annotated[
        bool, typer.Option("--prove/--no-prove", help="Prove guards and find rules without effect.")
    ] = True,
    fix: Annotated[
        bool, typer.Option("--fix", help="Settle in the files what can be settled without changing a decision.")
    ] = False,
    format: FormatOption = "text",
) -> Outcome:
    """Parse and check policies; every finding of every file at once."""
    schema = read_schema(dataset)
    files = policy_files(files)
    # First all edits, then the findings: what was fixed is not reported any more.
    if fix:
        for name in files:
            _fix(name, schema)
    results = [_check_one(name, schema, prove) for name in files]
    diagnostics = tuple(d for _, found in results for d in found)
    # The worst decides: a file that is no policy gives no answer, whatever the others are.
    unusable = any(policy is None for policy, _ in results)
    doubtful = any(d.severity == "warning" for d in diagnostics)
    # Errors of a policy that checks are guards that do not hold.
    broken = any(d.is_error for policy, found in results if policy is not None for d in found)
    fails = broken or (strict and doubtful)
    unproven = any(d.code in _UNPROVEN for d in diagnostics)
    return Outcome(
        exit=Exit.NO_ANSWER if unusable else Exit.FAILS if fails else Exit.UNDECIDED if unproven else Exit.HOLDS,
        diagnostics=diagnostics,
        data={"files": [_facts(name, policy, found) for name, (policy, found) in zip(files, results, strict=True)]},
        body=tuple(_line(name, policy, found) for name, (policy, found) in zip(files, results, strict=True)),
    )


def _check_one(name: str, schema: Schema | None, prove: bool) -> tuple[CheckedPolicy | None, tuple[Diagnostic, ...]]:
    try:
        source = read_source(name)
        policy = check_text(source.text, name=source.name, schema=schema)
    except PolicyEngineError as error:
        return None, diagnostics_of(error)
    return policy, (*warnings_of(policy), *(unsuppressed(_proven(policy)) if prove else ()))


def _fix(name: str, schema: Schema | None) -> None:
    """Writes the safe edits of a file's own findings into it, if the file checks."""
    path = Path(name)
    if not path.is_file():
        return
    try:
        source = read_source(name)
        policy = check_text(source.text, name=source.name, schema=schema)
    except PolicyEngineError:
        return
    # Only a policy that checks is edited: what a fix keeps is known of meanings, not of texts.
    made = edits(parse(source.text, name=source.name), warnings_of(policy))
    if made:
        write_text_file(path, apply_edits(source.text, made), overwrite=True)


def _proven(policy: CheckedPolicy) -> tuple[Diagnostic, ...]:
    # Imported here: proofs bring chat templates, which most verbs do without.
    from policy_engine.proof.policy_proof import prove
    from policy_engine.proof.proof_diagnostics import report_diagnostics

    return report_diagnostics(prove(policy, places=False))


def _facts(name: str, policy: CheckedPolicy | None, found: tuple[Diagnostic, ...]) -> dict[str, Any]:
    facts: dict[str, Any] = {"file": name, "valid": policy is not None, "findings": len(found)}
    if policy is not None:
        facts |= {
            "rules": len(policy.rules),
            "guards": len(policy.guards),
            "roles": sorted(policy.roles),
            "settings": dict(policy.settings),
        }
    return facts


def _line(name: str, policy: CheckedPolicy | None, found: tuple[Diagnostic, ...]) -> Text:
    if policy is None:
        errors = sum(1 for d in found if d.is_error)
        return Text.assemble((name, "bold"), ": ", (counted(errors, "error"), BAD))
    parts = [counted(len(policy.rules), "rule"), counted(len(policy.guards), "guard")]
    errors = sum(1 for d in found if d.is_error)
    verdict = (f"{counted(errors, 'guard')} {'does' if errors == 1 else 'do'} not hold", BAD)
    line = Text.assemble((name, "bold"), ": ", verdict if errors else ("valid", GOOD), f", {', '.join(parts)}")
    warnings = sum(d.severity == "warning" for d in found)
    return line.append(f", {counted(warnings, 'warning')}", style=DOUBT) if warnings else line
