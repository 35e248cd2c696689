"""`apply DATA -p POLICY -t TOKENIZER -o OUT`: a dataset masked into a file for the trainer."""

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
from policy_engine.core.choices import Backend, Engine, Keep, PairColumns


def register(app: typer.Typer) -> None:
    """Adds the verb."""

    @app.command()
    def apply(
        data: DataArgument,
        out: Annotated[
            str,
            typer.Option(
                "-o",
                "--out",
                metavar="OUT",
                help="Output file (.parquet, .jsonl, .jsonl.gz, .jsonl.zst), or a folder of Parquet shards: NAME/.",
            ),
        ],
        policy: PolicyOption = None,
        tokenizer: TokenizerOption = None,
        template: TemplateOption = None,
        dataset: DatasetOption = None,
        media_root: MediaRootOption = None,
        media_urls: MediaUrlsOption = False,
        overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
        strict: Annotated[bool, typer.Option("--strict", help="The first row that fails ends the run.")] = False,
        limit: Annotated[
            int | None, typer.Option("--limit", min=1, metavar="N", help="Take the first N rows only.")
        ] = None,
        max_length: Annotated[
            int | None, typer.Option("--max-length", min=1, metavar="TOKENS", help="At most this many tokens a row.")
        ] = None,
        truncate: Annotated[
            Keep | None,
            typer.Option(
                "--truncate",
                help="What stays of a longer row: its start, its end, whole turns from the start, or nothing.",
            ),
        ] = None,
        pack: Annotated[
            bool, typer.Option("--pack", help="Put several rows in one sequence of --max-length tokens.")
        ] = False,
        unroll: Annotated[
            bool,
            typer.Option("--unroll", help="A sample per trained turn, in its context at inference, where they differ."),
        ] = False,
        pairs: Annotated[
            PairColumns | None,
            typer.Option("--pairs", help="Trainer of TRL that columns of preferences are for (dpo; labels: kto)."),
        ] = None,
        no_row_numbers: Annotated[
            bool,
            typer.Option(
                "--no-row-numbers", help="Leave out the column `row`, for trainers that pass on every column."
            ),
        ] = False,
        no_prove: Annotated[
            bool,
            typer.Option("--no-prove", help="Run even a policy whose guards some conversation breaks; its rows fail."),
        ] = False,
        workers: Annotated[
            int, typer.Option("--workers", min=1, metavar="N", help="Processes; the output is the same for any number.")
        ] = 1,
        resume: Annotated[
            bool, typer.Option("--resume", help="Go on with a run into a folder that was stopped or killed.")
        ] = False,
        backend: Annotated[
            Backend,
            typer.Option(
                "--backend",
                help="Where ids come from: the tokenizer itself, or a faster package that passed a check against it.",
            ),
        ] = "reference",
        engine: Annotated[
            Engine, typer.Option("--engine", help="What runs the workers: this machine's processes, or a Ray cluster.")
        ] = "local",
        trust_encoder: TrustEncoderOption = False,
        no_cache: NoCacheOption = False,
        format: FormatOption = "text",
    ) -> None:
        """Mask a dataset into Parquet or JSONL, and account for every row and token."""

        def work() -> Outcome:
            # Imported here, so that the verbs that need no tokenizer start without what loads one.
            from policy_engine.cli.work.apply import Request, apply_request, truncation_of
            from policy_engine.cli.work.inputs import load_inputs, media_options
            from policy_engine.run.options import RunOptions

            keep = None if truncate is None else truncate
            options = RunOptions(
                strict=strict,
                limit=limit,
                truncation=truncation_of(max_length, keep, packed=pack),
                packed=pack,
                row_numbers=not no_row_numbers,
                backend=backend,
                overwrite=overwrite,
                resume=resume,
                workers=workers,
            )
            request = Request(data=data, out=out, options=options, unroll=unroll, ray=engine == "ray")
            # Before the tokenizer is loaded: an output that exists is reported at once.
            request.check()
            return apply_request(
                request,
                load_inputs(
                    policy,
                    tokenizer,
                    template,
                    dataset,
                    prove=not no_prove,
                    media=media_options(media_root, media_urls),
                    pairs=pairs,
                ),
            )

        finish("apply", format, work)
