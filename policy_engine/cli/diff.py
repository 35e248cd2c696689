"""`diff OLD NEW`: what a change of policy trains more and less, over all conversations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from policy_engine.cli.options import DatasetOption, FormatOption
from policy_engine.cli.outcome import Exit, Outcome
from policy_engine.cli.prove import read_checked, read_schema, witness_facts, witness_lines
from policy_engine.cli.reporters import Format
from policy_engine.cli.run import finish

if TYPE_CHECKING:
    from policy_engine.proof import Diff

_STYLES = {"equal": "green", "trains more": "yellow", "trains less": "yellow", "incomparable": "red"}


def register(app: typer.Typer) -> None:
    """Adds the verb."""

    @app.command()
    def diff(
        old: Annotated[str, typer.Argument(metavar="OLD", help="A policy file, or a shipped policy by its name.")],
        new: Annotated[str, typer.Argument(metavar="NEW", help="The policy to compare with it.")],
        dataset: DatasetOption = None,
        format: FormatOption = Format.text,
    ) -> None:
        """Compare two policies over all conversations: equal, trains more, trains less, or incomparable."""
        finish("diff", format, lambda: _diff(old, new, dataset))


def _diff(old: str, new: str, dataset: str | None) -> Outcome:
    # Imported here: proofs bring chat templates, which most verbs do without.
    from policy_engine.proof import compare

    schema = read_schema(dataset)
    found = compare(read_checked(old, schema), read_checked(new, schema))
    return Outcome(
        exit=Exit(found.exit_code),
        data={
            "old": old,
            "new": new,
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
        body=tuple(_lines(old, new, found)),
    )


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
