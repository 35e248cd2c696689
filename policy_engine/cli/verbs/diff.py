"""`diff OLD NEW`: two policies compared, for all conversations or on data, or two templates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from policy_engine.cli.options import DatasetOption, FormatOption, Loading, Named
from policy_engine.cli.outcome import Exit, Outcome, diagnostics_of
from policy_engine.cli.verbs.prove import witness_facts, witness_lines
from policy_engine.cli.work.inputs import STDIN, load_chat_tokenizer, masker_for, read_checked, read_schema
from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.errors import ConfigError
from policy_engine.lang.checked import CheckedPolicy
from policy_engine.report.styles import BAD, DOUBT, GOOD

if TYPE_CHECKING:
    from policy_engine.mask.compare.fates import RowFates
    from policy_engine.proof.results import Diff

_LISTED = 5
"""Rows that are listed by default, of those that change."""
_PLACES = 3
"""Places of a change that a finding names."""
_STYLES = {"equal": GOOD, "trains more": DOUBT, "trains less": DOUBT, "incomparable": BAD}


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """The rows to compare on, and what masks them."""

    data: Annotated[
        str | None,
        typer.Option("--data", metavar="DATA", help="Mask these rows on both sides, and show what changes."),
    ] = None
    tokenizer: Annotated[
        list[str] | None,
        typer.Option(
            "-t",
            "--tokenizer",
            metavar="TOKENIZER",
            help="A tokenizer, as other verbs take it. Given twice: the old side's, then the new one's.",
        ),
    ] = None
    template: Annotated[
        list[str] | None,
        typer.Option(
            "--template",
            metavar="FILE",
            help="A chat template file, in place of the tokenizer's own. Given twice: the old side's, then the new "
            "one's.",
        ),
    ] = None
    dataset: DatasetOption = None
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="With --data: take the first N rows only.")
    ] = None
    listed: Annotated[
        int | None,
        typer.Option("--list", min=0, metavar="N", help="With --data: list the first N rows that change (default: 5)."),
    ] = None

    @property
    def unused(self) -> str | None:
        """The first option about rows, if any is given.

        Without rows it is an error: whoever gives it expects rows to be compared.
        """
        given = {"-t": self.tokenizer, "--template": self.template, "--limit": self.limit, "--list": self.listed}
        return next((name for name, value in given.items() if value is not None), None)

    @property
    def sides(self) -> list[Named]:
        """The tokenizer and template of both sides, or of the old and the new one.

        Raises ConfigError for an option that is given three times.
        """
        given = {"-t": self.tokenizer or (), "--template": self.template or ()}
        for name, values in given.items():
            if len(values) > 2:
                raise ConfigError(
                    f"{name} is given {len(values)} times", help="give it once for both sides, or once for each"
                )
        sides = [
            Named(
                tokenizer=self.tokenizer[at] if self.tokenizer else None,
                template=self.template[at] if self.template else None,
                dataset=self.dataset,
            )
            for at in (0, -1)
        ]
        return sides if any(len(values) == 2 for values in given.values()) else sides[:1]


@dataclass(frozen=True, kw_only=True)
class _Side:
    """One of the two policies, with its name on the command line."""

    name: str
    policy: CheckedPolicy


def diff(
    *,
    old: Annotated[str, typer.Argument(metavar="OLD", help="A policy file, or a shipped policy by its name.")],
    new: Annotated[
        str | None,
        typer.Argument(metavar="NEW", help="The policy to compare with it (default: OLD, for two templates)."),
    ] = None,
    rows: _Rows,
    loading: Loading,
    format: FormatOption = "text",
) -> Outcome:
    """Compare two policies over all conversations, and policies or templates on given data."""
    sides = rows.sides
    if new is None and len(sides) == 1:
        raise ConfigError(
            "there is nothing to compare with",
            help="name a second policy, or give --template or -t twice: the old side's, then the new one's",
        )
    if rows.data is None and rows.unused is not None:
        raise ConfigError(f"{rows.unused} means nothing without data", help="name the rows to compare on with --data")
    if old == new == STDIN:
        raise ConfigError("both policies are standard input, which can be read once", help="give one of them as a file")
    # So each is read here, and once.
    schema = read_schema(rows.dataset)
    before = _Side(name=old, policy=read_checked(old, schema))
    after = before if new is None else _Side(name=new, policy=read_checked(new, schema))
    if rows.data is None:
        return _compare(before, after)
    return _on_data(before, after, rows) if len(sides) == 1 else _with_templates(before, after, rows, sides)


def _with_templates(old: _Side, new: _Side, rows: _Rows, sides: Sequence[Named]) -> Outcome:
    """The same rows with two templates or tokenizers, and perhaps two policies."""
    assert rows.data is not None
    from policy_engine.cli.work.diff_templates import (
        diff_templates,
        template_facts,
        template_findings,
        template_lines,
    )

    # One policy is equal to itself, which nobody asks.
    nothing: dict[str, Any] = {"undecided": None, "changes": [], "settings": []}
    compared = Outcome(exit=Exit.HOLDS, data={"old": old.name, "new": old.name, "comparison": "equal", **nothing})
    if new is not old:
        compared = _compare(old, new)
    before, after = (
        masker_for(side.policy, load_chat_tokenizer(named), rows.dataset) for side, named in zip((old, new), sides)
    )
    listed = _LISTED if rows.listed is None else rows.listed
    found = diff_templates(rows.data, before, after, limit=rows.limit, listed=listed)
    return _with_rows(
        compared,
        found,
        findings=template_findings(found),
        facts=template_facts(rows.data, found),
        lines=template_lines(rows.data, found),
    )


def _on_data(old: _Side, new: _Side, rows: _Rows) -> Outcome:
    assert rows.data is not None
    # Imported here, so that a comparison without data loads no tokenizer.
    from policy_engine.cli.work.diff import data_facts, data_findings, data_lines, diff_rows

    compared = _compare(old, new)
    policies = old.policy, new.policy
    loaded = load_chat_tokenizer(rows.sides[0])
    before, after = (masker_for(policy, loaded, rows.dataset) for policy in policies)
    listed = _LISTED if rows.listed is None else rows.listed
    found = diff_rows(rows.data, before, after, limit=rows.limit, listed=listed)
    return _with_rows(
        compared,
        found,
        findings=data_findings(found),
        facts=data_facts(rows.data, found, *policies),
        lines=data_lines(rows.data, found, *policies),
    )


def _with_rows(
    compared: Outcome,
    found: RowFates,
    *,
    findings: Iterable[Diagnostic],
    facts: dict[str, Any],
    lines: Iterable[RenderableType],
) -> Outcome:
    """The comparison for all conversations, and what the rows show."""
    # What the data shows is shown, whatever the proof could not decide.
    differs = found.rows_changed or found.failed
    return replace(
        compared,
        exit=Exit.FAILS if differs else compared.exit,
        diagnostics=tuple(d for place, error in found.failures for d in diagnostics_of(error, place=place)),
        findings=(*compared.findings, *findings),
        data={**compared.data, "data": facts},
        body=(*compared.body, *([Text("")] if compared.body else ()), *lines),
    )


def _compare(old: _Side, new: _Side) -> Outcome:
    # Imported here: proofs bring chat templates, which most verbs do without.
    from policy_engine.proof.policy_diff import compare

    found = compare(old.policy, new.policy)
    return Outcome(
        exit=Exit(found.exit_code),
        data={
            "old": old.name,
            "new": new.name,
            "comparison": found.verdict,
            "undecided": found.undecided,
            "changes": [
                {
                    "kind": change.kind,
                    "old_weight": change.old,
                    "new_weight": change.new,
                    "places": list(change.places),
                    "witness": witness_facts(change.witness),
                }
                for change in found.changes
            ],
            "settings": [{"name": s.name, "old": s.old, "new": s.new} for s in found.settings],
        },
        findings=tuple(_findings(old.name, new.name, found)),
        body=tuple(_lines(old.name, new.name, found)),
    )


def _findings(old: str, new: str, found: Diff) -> Iterator[Diagnostic]:
    for change in found.changes:
        where = "; ".join(change.places[:_PLACES]) + ("; …" if len(change.places) > _PLACES else "")
        message = f"{new} against {old}: {change.kind}, {change.old} → {change.new}: {where}"
        yield Diagnostic(code="PE706", message=message, help="`policy-engine diff` prints a conversation that shows it")
    for setting in found.settings:
        change_of = f"{setting.old} → {setting.new}" if setting.old else "differ"
        yield Diagnostic(code="PE706", message=f"{new} against {old}: {setting.name}: {change_of}")
    if found.undecided is not None:
        yield Diagnostic(code="PE706", severity="warning", message=f"{new} against {old}: {found.undecided}")


def _lines(old: str, new: str, found: Diff) -> Iterator[RenderableType]:
    verdict = {"equal": f"{new} is equal to {old}", "incomparable": f"{new} trains more and less than {old}"}.get(
        found.verdict, f"{new} against {old}: {found.verdict}"
    )
    if found.verdict in ("trains more", "trains less"):
        verdict = f"{new} {found.verdict} than {old}"
    yield Text(verdict, style=f"bold {_STYLES.get(found.verdict, 'yellow')}")
    if found.undecided is not None:
        yield Text(f"  {found.undecided}")
    for change in found.changes:
        yield Text.assemble("  ", (change.kind, "bold"), f": {change.old} → {change.new}")
        for place in change.places:
            yield Text(f"    {place}")
        if change.witness is None:
            yield Text("    (possible: no conversation was found that shows it)", style="dim")
        else:
            yield from witness_lines(change.witness)
    for setting in found.settings:
        yield Text.assemble(
            "  ", (setting.name, "bold"), f": {setting.old} → {setting.new}" if setting.old else ": differ"
        )
