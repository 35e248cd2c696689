"""The command line: `policy-engine VERB`. One file per verb."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from policy_engine._version import __version__
from policy_engine.cli.outcome import Exit, failed
from policy_engine.cli.reporters import write
from policy_engine.cli.usage import format_of, usage_error, verb_of
from policy_engine.cli.verbs import (
    apply,
    audit,
    check,
    demo,
    diff,
    doctor,
    explain,
    fmt,
    import_,
    init,
    lsp,
    policies,
    prove,
    show,
    template,
    test,
)

# Typer carries a click of its own in some releases and uses the installed one in others; this names the base class of
# its usage errors in both.
_USAGE_ERROR: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

app = typer.Typer(
    name="policy-engine",
    help="Decide which chat tokens carry loss: policies that are checked, explained and applied exactly.",
    epilog="Exit codes: 0 holds, 1 does not hold, 2 could not answer (bad input), 3 undecided.",
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"policy-engine {__version__}")
        raise typer.Exit(0)


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


_VERBS = (
    init, check, fmt, show, explain, apply, audit, doctor, prove, diff, test, template, import_, policies, lsp, demo,
)  # fmt: skip
for _verb in _VERBS:
    _verb.register(app)


def main() -> None:
    """Entry point of the `policy-engine` script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code."""
    # transformers says on import that it found no torch, which nothing here needs.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a narrow locale shows less, but never ends a run
    try:
        code = app(args=list(arguments), prog_name="policy-engine", standalone_mode=False)
    except _USAGE_ERROR as error:
        verbs = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
        outcome = failed(usage_error(error, arguments, verbs))
        write(verb_of(arguments), outcome, format_of(arguments))
        return int(outcome.exit)
    except typer.Abort:
        return int(Exit.INTERRUPTED)
    return code if isinstance(code, int) else 0
