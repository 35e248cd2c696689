"""Text for people: results on standard output, findings on standard error."""

from __future__ import annotations

import os
import sys

from rich.console import Console
from rich.text import Text

from policy_engine.cli.outcome import Outcome
from policy_engine.core.diagnostics import Diagnostic, format_diagnostic
from policy_engine.report.visible import one_line

_STYLES = {"error": "bold red", "warning": "bold yellow", "info": "bold cyan"}
_PIPED_WIDTH = 140


def console(*, stderr: bool = False) -> Console:
    """A console on standard output or error, without guesses (highlighting, emoji codes, markup): data is data."""
    stream = sys.stderr if stderr else sys.stdout
    # A pipe has no width of its own, and 80 columns would cut tables that nobody needs cut.
    width = None if stream.isatty() or "COLUMNS" in os.environ else _PIPED_WIDTH
    return Console(file=stream, highlight=False, emoji=False, markup=False, width=width)


def write_text(outcome: Outcome) -> None:
    """Findings first, so that they stand above the result on a terminal."""
    if outcome.diagnostics:
        errors = console(stderr=True)
        for diagnostic in outcome.diagnostics:
            errors.print(diagnostic_text(diagnostic), soft_wrap=True)
    if outcome.raw is not None:
        sys.stdout.write(outcome.raw)
        sys.stdout.flush()
    if outcome.body:
        out = console()
        for renderable in outcome.body:
            # Sentences, paths and commands are left to the terminal to wrap, so that they can be copied whole.
            out.print(renderable, soft_wrap=isinstance(renderable, Text | str))


def diagnostic_text(diagnostic: Diagnostic) -> Text:
    """A finding with its severity, carets and help in colour."""
    text = Text()
    head = f"{diagnostic.severity}[{diagnostic.code}]: "
    for number, line in enumerate(format_diagnostic(diagnostic).split("\n")):
        line = "\t".join(one_line(piece) for piece in line.split("\t"))
        if number:
            text.append("\n")
        if number == 0 and head in line:
            before, after = line.split(head, 1)
            text.append(before, style="bold")
            text.append(head, style=_STYLES[diagnostic.severity])
            text.append(after, style="bold")
        elif line.lstrip().startswith("| ") and line.rstrip().endswith("^"):
            text.append(line, style=_STYLES[diagnostic.severity])
        elif line.startswith("  help: "):
            text.append("  help: ", style="bold cyan")
            text.append(line.removeprefix("  help: "))
        else:
            text.append(line)
    return text
