"""Options of one verb that its work takes as they are, declared for both.

explain chats.jsonl --row 3 --at Paris   →   ExplainOptions(row=3, at="Paris")
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from policy_engine.core.choices import Collator, ColorBy, Denominator, Side, Trainer

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class ExplainOptions:
    """The row, and what of it."""

    row: Annotated[int | None, typer.Option("--row", min=1, help="Which row, from 1 (default: the first).")] = None
    token: Annotated[
        list[int] | None, typer.Option("--token", min=0, help="Explain this token (from 0); may be repeated.")
    ] = None
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            metavar="TEXT",
            help="Explain the tokens where this text first occurs, be it in the system prompt or in tool schemas; with "
            "--turn, in that message.",
        ),
    ] = None
    turn: Annotated[
        int | None,
        typer.Option("--turn", min=0, help="Only the segments of this message (from 0); with --at, its tokens there."),
    ] = None
    side: Annotated[
        Side | None, typer.Option("--side", help="Which of a pair of answers (default: the chosen one).")
    ] = None


@dataclass(frozen=True, kw_only=True)
class ShowOptions:
    """The rows to show, and the form: a page if `html` names one, else text for the terminal."""

    row: Annotated[list[int] | None, typer.Option("--row", min=1, help="Show this row (from 1); may be repeated.")] = (
        None
    )
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Show the first rows, this many.")] = 5
    color_by: Annotated[ColorBy, typer.Option("--color-by", help="What colours tell apart.")] = "effect"
    ids: Annotated[bool, typer.Option("--ids", help="Print each token's id behind its text.")] = False
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write one self-contained page instead.")
    ] = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the page if it exists.")] = False


@dataclass(frozen=True, kw_only=True)
class DoctorOptions:
    """The trainer, its settings, and the batch."""

    trainer: Annotated[Trainer, typer.Option("--trainer", help="Whose collator and loss.")]
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="The trainer's own settings, as YAML or JSON."),
    ] = None
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the trainer (nested: a.b); may be repeated."),
    ] = None
    collator: Annotated[
        Collator,
        typer.Option("--collator", help="For transformers: padding is policy-engine's, the others its own."),
    ] = "padding"
    denominator: Annotated[
        Denominator | None,
        typer.Option("--denominator", help="Train with `weighted_trainer`, dividing by the weights or the tokens."),
    ] = None
    rows: Annotated[int, typer.Option("--rows", min=1, metavar="N", help="Rows of the batch.")] = 8


@dataclass(frozen=True, kw_only=True)
class PlayOptions:
    """The address of the page."""

    host: Annotated[
        str, typer.Option("--host", help="Address to serve on; any but this machine's own lets others in.")
    ] = LOOPBACK
    port: Annotated[
        int | None,
        typer.Option("--port", min=1, max=65535, help="Port to serve on; otherwise a free one from 7860 on."),
    ] = None
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True
