"""The command line: `policy-engine VERB`. One file per verb."""

from __future__ import annotations

import importlib
import io
import keyword
import os
import sys
from collections.abc import Collection, Sequence
from typing import Annotated, Final

import typer

from policy_engine._version import __version__
from policy_engine.cli.outcome import Exit, failed
from policy_engine.cli.plain_values import take_plain_values
from policy_engine.cli.reporters import write
from policy_engine.cli.run import command_of
from policy_engine.cli.signature import spread
from policy_engine.cli.usage import format_of, usage_error, verb_of

# Typer carries a click of its own in some releases and uses the installed one in others; this names the base class of
# its usage errors in both.
_USAGE_ERROR: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

VERBS: Final = {
    "init": "Look at data and template, and write a dataset file and a policy to start from.",
    "check": "Parse and check policies; every finding of every file at once.",
    "fmt": "Lay policies out in the canonical form, in place. Comments are kept, and the meaning is.",
    "show": "Show which tokens of a few rows are trained, and by which rule.",
    "explain": "Explain one row: the rule for each segment or token, its conditions, the rules that lost.",
    "apply": "Mask a dataset into Parquet or JSONL, and account for every row and token.",
    "audit": "Say what prepared labels train, what is odd, and which system made them so.",
    "doctor": "Take one batch through a trainer's own collator and loss; show if the labels survive.",
    "prove": "Decide for all conversations which guards hold and which rules do nothing.",
    "diff": "Compare two policies over all conversations, and policies or templates on given data.",
    "test": "Run the tests that dataset files bring along for their policies.",
    "template": "Property-test a chat template, with a smallest conversation for what does not hold.",
    "tag": "Write a chat template again, with `{% generation %}` around what a policy trains.",
    "import": "Turn another system's configuration into a policy and a dataset file.",
    "play": "Edit a policy on a page of this machine while the tokens follow (needs the `play` extra).",
    "policies": "List the shipped policies, or print one.",
    "cache": "Show the cache of loaded tokenizers: its folder, size and entries; or clear it.",
    "lsp": "Serve editors over standard input and output (needs the `lsp` extra).",
    "demo": "Mask the embedded sample dataset, show some of it, and write Parquet and a page.",
}
"""The verbs in the order of `--help`, each with the first sentences of its own help.

They are here so that `--help` imports no verb, and a verb imports no other.
"""
_COMPUTING: Final = frozenset({"doctor", "play"})
"""Verbs that run code of others, which may multiply matrices with numpy."""
_COMPLETION: Final = "_POLICY_ENGINE_COMPLETE"
"""Environment variable by which a shell asks for completions."""


def _version(value: bool) -> None:
    if value:
        typer.echo(f"policy-engine {__version__}")
        raise typer.Exit(0)


def app_with(verbs: Collection[str] = tuple(VERBS)) -> typer.Typer:
    """The command line with the options of these verbs, and the summaries of the others."""
    app = typer.Typer(
        name="policy-engine",
        help="Decide which chat tokens carry loss: policies that are checked, explained and applied exactly.",
        epilog="Exit codes: 0 holds, 1 does not hold, 2 could not answer (bad input), 3 undecided.",
        # `run` prints it, with an exit code (2) that does not read as success in any release of click.
        no_args_is_help=False,
        # Plain text: what rich needs to draw pages of help takes more than half of the time of `--help`.
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )

    @app.callback()
    def root(
        version: Annotated[
            bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
        ] = False,
    ) -> None:
        pass

    for verb, summary in VERBS.items():
        if verb in verbs:
            # `import` is a word of Python, so its module is `import_`.
            file = f"{verb}_" if keyword.iskeyword(verb) else verb
            work = getattr(importlib.import_module(f"policy_engine.cli.verbs.{file}"), file)
            app.command(name=verb, short_help=summary)(command_of(verb, spread(work)))
        else:
            # Only its name and summary are shown: it is not the verb that was asked for.
            app.command(name=verb, short_help=summary)(lambda: None)
    return app


def run(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code."""
    if verb_of(arguments) not in _COMPUTING:
        # numpy starts a thread for each core as it is imported, for products of matrices, which no mask needs.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Arrow's own allocators hold 20 to 40 MB more than a run needs, and save no time.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    # transformers says on import that it found no torch, which nothing here needs.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a narrow locale shows less, but never ends a run
    # One verb is imported: that is what makes `check` start fast. A shell that completes may ask about any of them.
    app = app_with(VERBS if _COMPLETION in os.environ else [verb_of(arguments)])
    try:
        command = typer.main.get_command(app)
        take_plain_values(command)
        # Not standalone: typer would print usage errors itself, in no format that was asked for.
        code = command.main(args=list(arguments) or ["--help"], prog_name="policy-engine", standalone_mode=False)
    except _USAGE_ERROR as error:
        outcome = failed(usage_error(error, arguments, VERBS))
        write(verb_of(arguments), outcome, format_of(arguments))
        return int(outcome.exit)
    except typer.Abort:
        return int(Exit.INTERRUPTED)
    # Whoever gives nothing wants to see the verbs; a script that lost its arguments has to see that nothing was done.
    if not arguments:
        return int(Exit.NO_ANSWER)
    return code if isinstance(code, int) else 0
