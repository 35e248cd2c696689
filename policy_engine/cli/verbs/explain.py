"""`explain DATA --row N -p POLICY -t TOKENIZER`: the decisions about a row, with reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from policy_engine.cli.options import DataArgument, FormatOption, Loading, Named
from policy_engine.cli.outcome import Outcome
from policy_engine.cli.run import finish
from policy_engine.cli.signature import spread
from policy_engine.core.choices import Side


@dataclass(frozen=True, kw_only=True)
class _About:
    """The row, and what of it."""

    row: Annotated[int | None, typer.Option("--row", min=1, help="Which row, from 1 (default: the first).")] = None
    token: Annotated[
        list[int] | None, typer.Option("--token", min=0, help="Explain this token (from 0); may be repeated.")
    ] = None
    at: Annotated[
        str | None, typer.Option("--at", metavar="TEXT", help="Explain the tokens where this text first occurs.")
    ] = None
    turn: Annotated[int | None, typer.Option("--turn", min=0, help="Only the segments of this message (from 0).")] = (
        None
    )
    side: Annotated[
        Side | None, typer.Option("--side", help="Which of a pair of answers (default: the chosen one).")
    ] = None


def register(app: typer.Typer) -> None:
    """Adds the verb."""

    @app.command()
    @spread
    def explain(
        data: DataArgument,
        named: Named,
        about: _About,
        loading: Loading,
        format: FormatOption = "text",
    ) -> None:
        """Explain one row: the rule for each segment or token, its conditions, the rules that lost."""

        def work() -> Outcome:
            # Imported here, so that the verbs that need no tokenizer start without what loads one.
            from policy_engine.cli.work.explain import Asked, explain_row
            from policy_engine.cli.work.inputs import Inputs, answered, load_inputs

            asked = Asked(
                number=about.row, tokens=tuple(about.token or ()), at=about.at, turn=about.turn, side=about.side
            )

            def load(known_fast: bool) -> Inputs:
                return load_inputs(named, few_rows=True, known_fast=known_fast)

            return answered(data, load, lambda inputs: explain_row(data, inputs, asked, machine=format != "text"))

        finish("explain", format, work)
