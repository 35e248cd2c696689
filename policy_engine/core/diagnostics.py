"""One finding about a policy or a dataset file, in a form every reporter can print."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from policy_engine.core.source import Place, Span

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True, kw_only=True)
class Related:
    """A second place that a diagnostic talks about (`the guard`, `first defined here`).

    >>> from policy_engine.core.source import Source
    >>> span = Span(source=Source(name="a.policy", text="let a = user"), start=0, end=5)
    >>> str(Related(message="first defined here", span=span).span)
    'a.policy:1:1'
    """

    message: str
    span: Span


@dataclass(frozen=True, kw_only=True)
class Diagnostic:
    """A finding: the problem, its place, and the way to fix it.

        chats.policy:2:6: error[PE202]: there is no part `txt`
             2 | mask assistant.txt
               |      ^^^^^^^^^^^^^
          help: did you mean `text`?

    A finding that no single place caused has neither `span` nor `place`.
    """

    code: str
    """Stable, and a page in the docs: `PE101`."""
    severity: Severity = "error"
    message: str
    """One sentence without capital or period; what the user wrote is in backticks."""
    span: Span | None = None
    """The characters of a policy or dataset file."""
    help: str | None = None
    """The change to make."""
    related: tuple[Related, ...] = ()
    place: Place | None = None
    """The row of the data."""

    @property
    def is_error(self) -> bool:
        """True if this finding stops a policy from compiling.

        >>> Diagnostic(code="PE503", severity="error", message="no policy").is_error
        True
        """
        return self.severity == "error"


def error_at(code: str, message: str, span: Span | None, help: str) -> Diagnostic:
    """An error at a place of a text.

    >>> error_at("PE101", "expected a role", None, "write a role").severity
    'error'
    """
    return Diagnostic(code=code, message=message, span=span, help=help)


def format_diagnostic(diagnostic: Diagnostic) -> str:
    """A finding as plain text: place, message, the quoted line with a caret, and the help.

    A finding about a row of the data begins with the row's place (`chats.jsonl:7`), and quotes nothing. `Diagnostic`
    shows an example.

    >>> print(format_diagnostic(Diagnostic(code="PE503", severity="error", message="no policy", help="name one")))
    error[PE503]: no policy
      help: name one
    """
    head = f"{diagnostic.severity}[{diagnostic.code}]: {diagnostic.message}"
    if diagnostic.span is None:
        lines = [head if diagnostic.place is None else f"{diagnostic.place}: {head}"]
    else:
        lines = [f"{diagnostic.span}: {head}", *_quote(diagnostic.span)]
    for related in diagnostic.related:
        lines += [f"  note: {related.message} ({related.span})", *_quote(related.span)]
    if diagnostic.help:
        lines.append(f"  help: {diagnostic.help}")
    return "\n".join(lines)


_WIDEST = 160
"""Most characters of a line that are quoted."""


def _quote(span: Span) -> list[str]:
    line, column = span.source.position(span.start)
    text = span.source.line(line)
    # A span may go over several lines, or be empty at the end of the text: the carets stay on this line, at least
    # one.
    width = max(1, min(span.end - span.start, len(text) - column + 1))
    if len(text) > _WIDEST:
        # A long line, such as a dataset row in YAML, would flood the terminal; the line number says where the rest is.
        # A third of what is shown is before the finding: what follows it explains it better.
        start = max(0, min(column - 1 - _WIDEST // 3, len(text) - _WIDEST))
        end = start + _WIDEST
        # The `…` before the text moves everything one column to the right again.
        column -= start - (start > 0)
        text = ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")
        width = max(1, min(width, len(text) - column + 1))
    # Tabs are kept in the caret line, so that the caret is under its character whatever the tab width.
    indent = "".join("\t" if c == "\t" else " " for c in text[: column - 1])
    return [f"  {line:>4} | {text}", f"       | {indent}{'^' * width}"]
