"""`show DATA -p POLICY -t TOKENIZER`: the tokens of some rows, by what decided them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from policy_engine.cli.options import DataArgument, FormatOption, Loading, Named
from policy_engine.cli.outcome import Outcome
from policy_engine.cli.run import finish
from policy_engine.cli.signature import spread
from policy_engine.core.choices import ColorBy


@dataclass(frozen=True, kw_only=True)
class _Which:
    """The rows to show, and the form to show them in."""

    row: Annotated[list[int] | None, typer.Option("--row", min=1, help="Show this row (from 1); may be repeated.")] = (
        None
    )
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show the first rows, this many.")] = 5
    color_by: Annotated[ColorBy, typer.Option("--color-by", help="What colours tell apart.")] = "effect"
    ids: Annotated[bool, typer.Option("--ids", help="Print each token's id behind its text.")] = False
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write one self-contained page instead.")
    ] = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the page if it exists.")] = False


def register(app: typer.Typer) -> None:
    """Adds the verb."""

    @app.command()
    @spread
    def show(
        data: DataArgument,
        named: Named,
        which: _Which,
        loading: Loading,
        format: FormatOption = "text",
    ) -> None:
        """Show which tokens of a few rows are trained, and by which rule."""

        def work() -> Outcome:
            # Imported here, so that the verbs that need no tokenizer start without what loads one.
            from policy_engine.cli.work.inputs import Inputs, answered, load_inputs
            from policy_engine.cli.work.show import View, show_rows

            view = View(
                limit=which.limit,
                numbers=tuple(which.row or ()),
                color_by=which.color_by,
                ids=which.ids,
                html=which.html,
                overwrite=which.overwrite,
                machine=format != "text",
            )

            def load(known_fast: bool) -> Inputs:
                return load_inputs(named, few_rows=True, known_fast=known_fast)

            return answered(data, load, lambda inputs: show_rows(data, inputs, view))

        finish("show", format, work)
