"""One finding about a policy or a dataset file, in a form every reporter can print."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from policy_engine.core.source import Place, Span

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True, kw_only=True)
class Related:
    """A second place that a diagnostic talks about (`the guard`, `first defined here`)."""

    message: str
    span: Span


@dataclass(frozen=True, kw_only=True)
class Diagnostic:
    """What is wrong, where, and what to write instead.

    `code` is stable (`PE101`); `message` is one sentence without capital or period, with user input in backticks;
    `help` says what to write instead; `span` is where in a policy or dataset file it is, `place` which row of the data
    it is about; both are None for findings that no single place caused.
    """

    code: str
    severity: Severity
    message: str
    span: Span | None = None
    help: str | None = None
    related: tuple[Related, ...] = ()
    place: Place | None = None

    @property
    def is_error(self) -> bool:
        """Whether this finding stops a policy from compiling."""
        return self.severity == "error"


def format_diagnostic(diagnostic: Diagnostic) -> str:
    """The plain form: `file:line:column: severity[code]: message`, the quoted line, a caret, and the help.

    A finding about a row of the data begins with the row's place (`chats.jsonl:7`), and quotes nothing.
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
"""Longest stretch of a line that is quoted, in characters."""


def _quote(span: Span) -> list[str]:
    line, column = span.source.position(span.start)
    text = span.source.line(line)
    width = max(1, min(span.end - span.start, len(text) - column + 1))
    if len(text) > _WIDEST:
        # Of a long line what stands around the caret: the line number says where, and a terminal is not flooded.
        begin = max(0, min(column - 1 - _WIDEST // 3, len(text) - _WIDEST))
        end = begin + _WIDEST
        column -= begin - (begin > 0)
        text = ("…" if begin else "") + text[begin:end] + ("…" if end < len(text) else "")
        width = max(1, min(width, len(text) - column + 1))
    # Tabs are kept in the caret line, so that the caret stands under its character whatever the tab width.
    indent = "".join("\t" if c == "\t" else " " for c in text[: column - 1])
    return [f"  {line:>4} | {text}", f"       | {indent}{'^' * width}"]
