"""`demo`: the embedded sample, masked by the built-in tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from policy_engine.cli.options import FormatWithoutFindingsOption
from policy_engine.cli.outcome import Outcome


def demo(
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="FOLDER", help="Where masked.parquet and masked.html go.")
    ] = Path("demo-out"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files if they exist.")] = False,
    format: FormatWithoutFindingsOption = "text",
) -> Outcome:
    """Mask the embedded sample dataset, show some of it, and write Parquet and a page."""
    # Imported here, so that the verbs that need no tokenizer start without what loads one.
    from policy_engine.cli.work.demo import tour

    return tour(out, overwrite=overwrite, machine=format != "text")
