"""`explain DATA --row N -p POLICY -t TOKENIZER`: the decisions about a row, with reasons."""

from __future__ import annotations

from typing import Annotated

import typer

from policy_engine.cli.options import (
    DataArgument,
    DatasetOption,
    FormatOption,
    MediaRootOption,
    MediaUrlsOption,
    NoCacheOption,
    PolicyOption,
    TemplateOption,
    TokenizerOption,
    TrustEncoderOption,
)
from policy_engine.cli.outcome import Outcome
from policy_engine.cli.run import finish
from policy_engine.core.choices import Side


def register(app: typer.Typer) -> None:
    """Adds the verb."""

    @app.command()
    def explain(
        data: DataArgument,
        policy: PolicyOption = None,
        tokenizer: TokenizerOption = None,
        template: TemplateOption = None,
        dataset: DatasetOption = None,
        media_root: MediaRootOption = None,
        media_urls: MediaUrlsOption = False,
        row: Annotated[int | None, typer.Option("--row", min=1, help="Which row, from 1 (default: the first).")] = None,
        token: Annotated[
            list[int] | None, typer.Option("--token", min=0, help="Explain this token (from 0); may be repeated.")
        ] = None,
        at: Annotated[
            str | None, typer.Option("--at", metavar="TEXT", help="Explain the tokens where this text first occurs.")
        ] = None,
        turn: Annotated[
            int | None, typer.Option("--turn", min=0, help="Only the segments of this message (from 0).")
        ] = None,
        trust_encoder: TrustEncoderOption = False,
        no_cache: NoCacheOption = False,
        side: Annotated[
            Side | None, typer.Option("--side", help="Which of a pair of answers (default: the chosen one).")
        ] = None,
        format: FormatOption = "text",
    ) -> None:
        """Explain one row: the rule for each segment or token, its conditions, the rules that lost."""

        def work() -> Outcome:
            # Imported here, so that the verbs that need no tokenizer start without what loads one.
            from policy_engine.cli.work.explain import explain_row
            from policy_engine.cli.work.inputs import Inputs, answered, load_inputs, media_options

            def load(known_fast: bool) -> Inputs:
                media = media_options(media_root, media_urls)
                return load_inputs(policy, tokenizer, template, dataset, media=media, known_fast=known_fast)

            def explained(inputs: Inputs) -> Outcome:
                asked = tuple(token or ())
                machine = format != "text"
                return explain_row(data, inputs, number=row, tokens=asked, at=at, turn=turn, side=side, machine=machine)

            return answered(data, load, explained)

        finish("explain", format, work)
