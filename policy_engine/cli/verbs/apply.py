"""`apply DATA -p POLICY -t TOKENIZER -o OUT`: a dataset masked into a file for the trainer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from policy_engine.cli.options import DataArgument, FormatOption, Loading, Named
from policy_engine.cli.outcome import Outcome
from policy_engine.core.choices import Backend, Engine, Keep, PairColumns

if TYPE_CHECKING:
    from policy_engine.run.run_options import RunOptions


@dataclass(frozen=True, kw_only=True)
class _How:
    """The options of the run itself."""

    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False
    strict: Annotated[bool, typer.Option("--strict", help="The first row that fails ends the run.")] = False
    limit: Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="Take the first N rows only.")] = None
    max_length: Annotated[
        int | None, typer.Option("--max-length", min=1, metavar="TOKENS", help="At most this many tokens a row.")
    ] = None
    truncate: Annotated[
        Keep | None,
        typer.Option(
            "--truncate",
            help="What stays of a longer row: its start, its end, whole turns from the start, or nothing.",
        ),
    ] = None
    pack: Annotated[bool, typer.Option("--pack", help="Put several rows in one sequence of --max-length tokens.")] = (
        False
    )
    unroll: Annotated[
        bool,
        typer.Option("--unroll", help="A sample per trained turn, in its context at inference, where they differ."),
    ] = False
    pairs: Annotated[
        PairColumns | None,
        typer.Option("--pairs", help="Trainer of TRL that columns of preferences are for (dpo; labels: kto)."),
    ] = None
    no_row_numbers: Annotated[
        bool,
        typer.Option("--no-row-numbers", help="Leave out the column `row`, for trainers that pass on every column."),
    ] = False
    no_prove: Annotated[
        bool,
        typer.Option("--no-prove", help="Run even a policy whose guards some conversation breaks; its rows fail."),
    ] = False
    workers: Annotated[
        int, typer.Option("--workers", min=1, metavar="N", help="Processes; the output is the same for any number.")
    ] = 1
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run into a folder that was stopped or killed.")
    ] = False
    backend: Annotated[
        Backend,
        typer.Option(
            "--backend",
            help="Where ids come from: the tokenizer itself, or a faster package that passed a check against it.",
        ),
    ] = "reference"
    engine: Annotated[
        Engine, typer.Option("--engine", help="What runs the workers: this machine's processes, or a Ray cluster.")
    ] = "local"

    def options(self) -> RunOptions:
        """The `RunOptions` among these; the verb itself uses the others."""
        from policy_engine.cli.work.request import truncation_of
        from policy_engine.run.run_options import RunOptions

        return RunOptions(
            strict=self.strict,
            limit=self.limit,
            truncation=truncation_of(self.max_length, self.truncate, packed=self.pack),
            packed=self.pack,
            row_numbers=not self.no_row_numbers,
            backend=self.backend,
            overwrite=self.overwrite,
            resume=self.resume,
            workers=self.workers,
        )


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
    named: Named,
    how: _How,
    loading: Loading,
    format: FormatOption = "text",
) -> Outcome:
    """Mask a dataset into Parquet or JSONL, and account for every row and token."""
    # Imported here, so that the verbs that need no tokenizer start without what loads one.
    from policy_engine.cli.work.inputs import load_inputs
    from policy_engine.cli.work.request import Request

    request = Request(data=data, out=out, options=how.options(), unroll=how.unroll, ray=how.engine == "ray")
    # Before the tokenizer is loaded: an output that exists is reported at once.
    request.check()
    inputs = load_inputs(named, prove=not how.no_prove, pairs=how.pairs)
    # Imported after it: loading an unknown tokenizer is the peak of the process, which pyarrow would raise by 35 MB.
    from policy_engine.cli.work.apply import apply_request

    return apply_request(request, inputs)
