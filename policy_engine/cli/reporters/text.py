"""Text for people: results on standard output, findings on standard error."""

from __future__ import annotations

import sys
from dataclasses import replace

from rich.text import Text

from policy_engine.cli.outcome import Outcome
from policy_engine.cli.reporters.console import Block, print_all
from policy_engine.core.diagnostics import Diagnostic, format_diagnostic
from policy_engine.core.source import Span
from policy_engine.report.styles import BAD, DOUBT, HINT
from policy_engine.report.visible import one_line, spelled

_STYLES = {"error": BAD, "warning": f"bold {DOUBT}", "info": HINT}


def write_text(outcome: Outcome) -> None:
    """Prints head, notes, findings and result: findings are above the result on a terminal."""
    if outcome.head:
        print_all(outcome.head)
    if outcome.notes:
        print_all(outcome.notes, stderr=True)
    if outcome.diagnostics:
        print_all((Block(diagnostic_text(d)) for d in outcome.diagnostics), stderr=True)
    if outcome.raw is not None:
        # A pipe gets the result as it is.
        sys.stdout.write(spelled(outcome.raw) if sys.stdout.isatty() else outcome.raw)
        sys.stdout.flush()
    if outcome.body:
        print_all(outcome.body)


def diagnostic_text(diagnostic: Diagnostic) -> Text:
    """A finding with its severity, carets and help in colour.

    >>> diagnostic_text(Diagnostic(code="PE502", severity="error", message="no `role`", help="give one")).plain
    'error[PE502]: no `role`\\n  help: give one'
    """
    text = Text()
    head = f"{diagnostic.severity}[{diagnostic.code}]: "
    for number, line in enumerate(format_diagnostic(_on_one_line(diagnostic)).split("\n")):
        if number:
            text.append("\n")
        # `file:line:column: ` may come before the severity.
        if number == 0 and head in line:
            before, after = line.split(head, 1)
            text.append(before, style="bold")
            text.append(head, style=_STYLES[diagnostic.severity])
            text.append(after, style="bold")
        elif line.lstrip().startswith("| ") and line.rstrip().endswith("^"):
            text.append(line, style=_STYLES[diagnostic.severity])
        elif line.startswith("  help: "):
            text.append("  help: ", style=HINT)
            text.append(line.removeprefix("  help: "))
        else:
            text.append(line)
    return text


def _on_one_line(diagnostic: Diagnostic) -> Diagnostic:
    """The finding with line breaks of the data shown; those of the help are the verb's own."""
    place, span = diagnostic.place, diagnostic.span
    return replace(
        diagnostic,
        message=one_line(diagnostic.message),
        span=None if span is None else _named_on_one_line(span),
        place=place if place is None or place.file is None else replace(place, file=one_line(place.file)),
        related=tuple(
            replace(r, message=one_line(r.message), span=_named_on_one_line(r.span)) for r in diagnostic.related
        ),
    )


def _named_on_one_line(span: Span) -> Span:
    return replace(span, source=replace(span.source, name=one_line(span.source.name)))
