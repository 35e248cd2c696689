"""`init DATA -t TOKENIZER`: a dataset file and a policy to start from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from policy_engine.cli.options import FormatOption, Loading, TemplateOption
from policy_engine.cli.outcome import Outcome


@dataclass(frozen=True, kw_only=True)
class _Start:
    """The files to write, and the rows to look at for them."""

    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="PATH", help="Write PATH.yaml and PATH.policy (default: named like DATA)."),
    ] = None
    limit: Annotated[int, typer.Option("--limit", min=1, help="Look at this many rows.")] = 1000
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files if they exist.")] = False


def init(
    *,
    data: Annotated[str, typer.Argument(metavar="DATA", help="A dataset: file or folder.")],
    tokenizer: Annotated[
        str,
        typer.Option(
            "-t", "--tokenizer", metavar="TOKENIZER", help="A folder or tokenizer.json, `builtin`, or a hub name."
        ),
    ],
    template: TemplateOption = None,
    start: _Start,
    loading: Loading,
    format: FormatOption = "text",
) -> Outcome:
    """Look at data and template, and write a dataset file and a policy to start from."""
    # Imported here, so that the verbs that need no tokenizer start without what loads one.
    from policy_engine.cli.work.init import write_starter

    return write_starter(data, tokenizer, template, out=start.out, limit=start.limit, overwrite=start.overwrite)
