"""Collects what a checker finds, each finding once."""

from __future__ import annotations

from policy_engine.core.diagnostics import Diagnostic, Related, Severity
from policy_engine.core.source import Span
from policy_engine.lang.split import HIDDEN


class Findings:
    """Diagnostics in the order found.

    One with the place and words of an earlier one is dropped: a `let` or a used policy is visited once per use.

    >>> from policy_engine.core.source import Source
    >>> span = Span(source=Source(name="a.policy", text="mask usr"), start=5, end=8)
    >>> findings = Findings()
    >>> findings.warn("PE251", "nothing declares a role `usr`", span)
    >>> findings.warn("PE251", "nothing declares a role `usr`", span)
    >>> len(findings.all), len(findings.errors)
    (1, 0)
    """

    def __init__(self) -> None:
        self.all: list[Diagnostic] = []
        self._seen: set[tuple[str, str, int, str]] = set()

    def error(self, code: str, message: str, span: Span, help: str | None = None, *related: Related) -> None:
        """Something that stops the policy."""
        self._add("error", code, message, span, help, related)

    def warn(self, code: str, message: str, span: Span, help: str | None = None, *related: Related) -> None:
        """Something a reader should know and the policy can live with."""
        self._add("warning", code, message, span, help, related)

    def note(self, code: str, message: str, span: Span, help: str | None = None) -> None:
        """Something worth a line that is no slip: it does not fail `--strict`."""
        self._add("info", code, message, span, help, ())

    def add(self, diagnostic: Diagnostic) -> None:
        """A diagnostic made elsewhere."""
        span = diagnostic.span
        # By name of the source, not by its text: the same file read twice is one file to the reader.
        key = (diagnostic.code, span.source.name if span else "", span.start if span else 0, diagnostic.message)
        if key not in self._seen:
            self._seen.add(key)
            self.all.append(diagnostic)

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """The errors found so far."""
        return tuple(d for d in self.all if d.is_error)

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """The warnings found so far."""
        return tuple(d for d in self.all if not d.is_error)

    def all_sorted(self) -> tuple[Diagnostic, ...]:
        """Errors and warnings, file by file in the order found, each file from top to bottom."""
        # Dicts keep the order of their keys, so a file's number is when it was first complained about.
        files = {name: i for i, name in enumerate(dict.fromkeys(d.span.source.name for d in self.all if d.span))}
        return tuple(
            # A finding without a place comes last; sorting is stable, so equal places keep the order found.
            sorted(self.all, key=lambda d: (files[d.span.source.name], d.span.start) if d.span else (len(files), 0))
        )

    def _add(
        self, severity: Severity, code: str, message: str, span: Span, help: str | None, related: tuple[Related, ...]
    ) -> None:
        # Strings of a policy may hold control characters as escapes; a terminal must not get them.
        shown = HIDDEN.sub(lambda match: f"\\u{ord(match[0]):04x}", message)
        self.add(Diagnostic(code=code, severity=severity, message=shown, span=span, help=help, related=related))
