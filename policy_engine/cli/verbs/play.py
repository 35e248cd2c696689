"""`play [DATA -p POLICY -t TOKENIZER]`: a policy is edited, and the colours follow."""

from __future__ import annotations

from typing import Annotated

import typer

from policy_engine.cli.options import FormatWithoutFindingsOption, Named, NoCacheOption
from policy_engine.cli.outcome import Outcome
from policy_engine.cli.records import PlayOptions


def play(
    *,
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="A dataset; without one, the embedded sample.")
    ] = None,
    named: Named,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Load the first rows, this many.")] = 200,
    where: PlayOptions,
    no_cache: NoCacheOption = False,
    format: FormatWithoutFindingsOption = "text",
) -> Outcome:
    """Edit a policy on a page of this machine while the tokens follow (needs the `play` extra)."""
    # Imported here, so that the verbs that need no tokenizer start without what loads one.
    from policy_engine.cli.work.play import play_on

    return play_on(data, named, where, limit=limit)
