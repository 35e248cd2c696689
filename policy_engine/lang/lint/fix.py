"""Edits that settle a warning and leave every decision as it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.source import Span
from policy_engine.lang import ast


@dataclass(frozen=True, kw_only=True)
class Edit:
    """Put `text` in place of the characters of `span`."""

    span: Span
    text: str


def edits(policy: ast.Policy, diagnostics: Iterable[Diagnostic]) -> tuple[Edit, ...]:
    """Edits of a policy's own text, in order, for the diagnostics that can be fixed safely.

    A `let` that nothing uses is removed (`PE253`); a target whose relation is its own gets brackets (`PE252`).

    >>> from policy_engine.lang.parse import parse
    >>> policy = parse("let a = user\\ntrain assistant")
    >>> warning = Diagnostic(code="PE253", severity="warning", message="", span=policy.statements[0].span)
    >>> [(edit.span.text, edit.text) for edit in edits(policy, [warning])]
    [('let a = user\\n', '')]
    """
    found: list[Edit] = []
    for diagnostic in diagnostics:
        # A policy that is used has warnings too; its file is not the one that is edited.
        if diagnostic.span is None or diagnostic.span.source != policy.source:
            continue
        if diagnostic.code == "PE253":
            found += [_removal(s) for s in policy.statements if s.span == diagnostic.span]
        elif diagnostic.code == "PE252":
            found += [edit for s in policy.statements for edit in _brackets(s, diagnostic.span)]
    return tuple(sorted(found, key=lambda e: e.span.start))


def apply_edits(text: str, edits: Iterable[Edit]) -> str:
    """The text with all edits made. They do not overlap.

    >>> apply_edits("train asistant", [])
    'train asistant'
    """
    # From the end, so that the places of the edits before stay right.
    for edit in sorted(edits, key=lambda e: e.span.start, reverse=True):
        text = text[: edit.span.start] + edit.text + text[edit.span.end :]
    return text


def _removal(statement: ast.Statement) -> Edit:
    """A statement with the `;` or the newline that ends it; a comment behind it stays."""
    span = statement.span
    text = span.source.text
    end = span.end
    # A comment ends this too: it may be about the statement, but that is for its author to say.
    while text[end : end + 1] in (" ", "\t", "\r"):
        end += 1
    ended = text[end : end + 1] in (";", "\n")
    return Edit(span=Span(source=span.source, start=span.start, end=end + ended), text="")


def _brackets(statement: ast.Statement, relation: Span) -> list[Edit]:
    if not isinstance(statement, ast.Rule | ast.Scale | ast.Guard):
        return []
    # PE252 is about the last target only, see `check._warn_binding`.
    target = statement.targets[-1]
    if not any(r.span == relation for r in target.relations):
        return []
    return [Edit(span=target.span, text=f"({target.span.text})")]
