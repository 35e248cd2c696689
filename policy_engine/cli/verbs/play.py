"""`play [DATA -p POLICY -t TOKENIZER]`: a policy is edited, and the colours follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from policy_engine.cli.options import FormatWithoutFindingsOption, Named, NoCacheOption
from policy_engine.cli.outcome import Outcome
from policy_engine.cli.run import finish
from policy_engine.cli.signature import spread

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class _Where:
    """The address of the page."""

    host: Annotated[
        str, typer.Option("--host", help="Address to serve on; any but this machine's own lets others in.")
    ] = LOOPBACK
    port: Annotated[
        int | None,
        typer.Option("--port", min=1, max=65535, help="Port to serve on; otherwise a free one from 7860 on."),
    ] = None
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True


def register(app: typer.Typer) -> None:
    """Adds the verb."""

    @app.command()
    @spread
    def play(
        data: Annotated[
            str | None, typer.Argument(metavar="DATA", help="A dataset; without one, the embedded sample.")
        ] = None,
        named: Named = Named(),
        limit: Annotated[int, typer.Option("--limit", min=1, help="Load the first rows, this many.")] = 200,
        where: _Where = _Where(),
        no_cache: NoCacheOption = False,
        format: FormatWithoutFindingsOption = "text",
    ) -> None:
        """Edit a policy on a page of this machine while the tokens follow (needs the `play` extra)."""

        def work() -> Outcome:
            # Imported here, so that the verbs that need no tokenizer start without what loads one.
            from policy_engine.cli.work.play import Served, play_on

            served = Served(host=where.host, port=where.port, browser=where.browser)
            return play_on(data, named, served, limit=limit)

        finish("play", format, work)
