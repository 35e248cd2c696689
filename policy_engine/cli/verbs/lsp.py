"""`lsp`: the language server, for editors."""

from __future__ import annotations

import gc

from policy_engine.cli.options import FormatWithoutFindingsOption
from policy_engine.cli.outcome import Outcome
from policy_engine.core.errors import ConfigError
from policy_engine.core.wording import install


def lsp(format: FormatWithoutFindingsOption = "text") -> Outcome:
    """Serve editors over standard input and output (needs the `lsp` extra)."""
    try:
        from policy_engine.lsp.server import server
    except ModuleNotFoundError as error:
        # Another missing module is a defect, and not an extra that was left out.
        if (error.name or "").partition(".")[0] not in ("pygls", "lsprotocol"):
            raise
        raise ConfigError(
            "the language server needs pygls, which is not installed",
            help=f"install the extra: {install('lsp')}",
        ) from error
    # A long policy is a hundred thousand objects at each edit, hardly one in a cycle: Python would look through all of
    # them again and again.
    gc.set_threshold(100_000, 50, 50)
    server.start_io()
    return Outcome()
