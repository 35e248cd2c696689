"""`test FILE…`: a policy's own tests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from policy_engine.cli.options import FormatOption, Loading, TokenizerOption
from policy_engine.cli.outcome import Outcome


def test(
    *,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Dataset files with `tests:`, or folders of them.")
    ],
    tokenizer: TokenizerOption = None,
    coverage: Annotated[
        bool, typer.Option("--coverage", help="List rules and conditions that no test has tried.")
    ] = False,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE.xml", help="Write the results as JUnit XML too.")
    ] = None,
    update: Annotated[
        bool,
        typer.Option("--update", help="Write what the policies give into the files, where tests expect another text."),
    ] = False,
    loading: Loading,
    format: FormatOption = "text",
) -> Outcome:
    """Run the tests that dataset files bring along for their policies."""
    # Imported here, so that the verbs that need no tokenizer start without what loads one.
    from policy_engine.cli.work.test import run_files

    return run_files(files, tokenizer=tokenizer, coverage=coverage, junit=junit, update=update)
