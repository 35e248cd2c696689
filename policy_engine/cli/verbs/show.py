"""`show DATA -p POLICY -t TOKENIZER`: the tokens of some rows, by what decided them."""

from __future__ import annotations

from pathlib import Path
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
from policy_engine.core.choices import ColorBy


def register(app: typer.Typer) -> None:
    """Adds the verb."""

    @app.command()
    def show(
        data: DataArgument,
        policy: PolicyOption = None,
        tokenizer: TokenizerOption = None,
        template: TemplateOption = None,
        dataset: DatasetOption = None,
        media_root: MediaRootOption = None,
        media_urls: MediaUrlsOption = False,
        row: Annotated[
            list[int] | None, typer.Option("--row", min=1, help="Show this row (from 1); may be repeated.")
        ] = None,
        limit: Annotated[int, typer.Option("--limit", min=1, help="Show the first rows, this many.")] = 5,
        color_by: Annotated[ColorBy, typer.Option("--color-by", help="What colours tell apart.")] = "effect",
        ids: Annotated[bool, typer.Option("--ids", help="Print each token's id behind its text.")] = False,
        html: Annotated[
            Path | None, typer.Option("--html", metavar="FILE", help="Write one self-contained page instead.")
        ] = None,
        overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the page if it exists.")] = False,
        trust_encoder: TrustEncoderOption = False,
        no_cache: NoCacheOption = False,
        format: FormatOption = "text",
    ) -> None:
        """Show which tokens of a few rows are trained, and by which rule."""

        def work() -> Outcome:
            # Imported here, so that the verbs that need no tokenizer start without what loads one.
            from policy_engine.cli.work.inputs import Inputs, answered, load_inputs, media_options
            from policy_engine.cli.work.show import show_rows

            def load(known_fast: bool) -> Inputs:
                media = media_options(media_root, media_urls)
                return load_inputs(policy, tokenizer, template, dataset, media=media, known_fast=known_fast)

            def shown(inputs: Inputs) -> Outcome:
                return show_rows(
                    data,
                    inputs,
                    limit=limit,
                    numbers=row or (),
                    color_by=color_by,
                    ids=ids,
                    html=html,
                    overwrite=overwrite,
                    machine=format != "text",
                )

            return answered(data, load, shown)

        finish("show", format, work)
