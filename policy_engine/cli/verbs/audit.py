"""`audit DATA -p POLICY -t TOKENIZER`: what labels that somebody else made really train."""

from __future__ import annotations

from typing import Annotated

import typer

from policy_engine.cli.options import DatasetOption, FormatOption, PolicyOption, TemplateOption, TokenizerOption
from policy_engine.cli.outcome import Outcome
from policy_engine.cli.reporters import Format
from policy_engine.cli.run import finish


def register(app: typer.Typer) -> None:
    """Adds the verb."""

    @app.command()
    def audit(
        data: Annotated[
            str, typer.Argument(metavar="DATA", help="A prepared dataset: `input_ids` with `labels` or a mask.")
        ],
        policy: PolicyOption = None,
        tokenizer: TokenizerOption = None,
        template: TemplateOption = None,
        dataset: DatasetOption = None,
        limit: Annotated[int | None, typer.Option("--limit", min=1, help="Look at the first rows, this many.")] = None,
        format: FormatOption = Format.text,
    ) -> None:
        """Hold labels that somebody else made (axolotl, TRL, …) against a policy, and say what they train."""

        def work() -> Outcome:
            # Imported here, so that the verbs that need no tokenizer start without what loads one.
            from policy_engine.cli.work.audit import audit_rows
            from policy_engine.cli.work.inputs import load_inputs

            return audit_rows(data, load_inputs(policy, tokenizer, template, dataset), limit=limit)

        finish("audit", format, work)
