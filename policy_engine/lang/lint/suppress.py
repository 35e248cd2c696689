"""`# lint: ignore PE604`: comments that say a warning is meant."""

from __future__ import annotations

import functools
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import Final

from policy_engine.core.codes import CODES
from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.source import Source
from policy_engine.core.suggest import did_you_mean
from policy_engine.lang.findings import Findings
from policy_engine.lang.split import split

_IGNORE: Final = re.compile(r"\s*lint:\s*ignore\b(?P<codes>.*)")

_OF_NO_STATEMENT: Final = "PE7"
"""Codes of findings that no statement of a policy has."""
_ASKED: Final = "; with `-p`, `audit` reports a habit that the policy itself asks for as a remark"


def unsuppressed(diagnostics: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """The diagnostics but for warnings whose code a comment ignores.

        train assistant  # lint: ignore PE604

    The comment is behind the statement, or on a line of its own before it, and lists codes. A comment without codes
    ignores nothing, and `unknown_codes` reports it. Errors cannot be ignored.
    """
    return tuple(d for d in diagnostics if d.is_error or not _is_suppressed(d))


def unknown_codes(source: Source, findings: Findings) -> None:
    """Report comments that list no code, or one that does not exist or that no statement has.

    >>> findings = Findings()
    >>> unknown_codes(Source(name="a.policy", text="train assistant  # lint: ignore PE999"), findings)
    >>> findings.warnings[0].message
    'there is no code `PE999` to ignore'
    """
    for comment in split(source).comments:
        match = _IGNORE.match(comment.text)
        if match is None:
            continue
        codes = _codes(match["codes"])
        if not codes:
            help = "list the codes: `# lint: ignore PE604`"
            findings.warn("PE608", "this comment ignores no code", comment.span, help)
        for code in codes:
            if code not in CODES:
                help = did_you_mean(code, CODES) or "codes are written `PE604`, with commas or spaces between them"
                findings.warn("PE608", f"there is no code `{code}` to ignore", comment.span, help)
            elif code.startswith(_OF_NO_STATEMENT):
                message = (
                    f"no comment ignores `{code}`: it is about tests, prepared rows or trainers, and not a statement"
                )
                help = "remove it" + _ASKED * (code == "PE703")
                findings.warn("PE608", message, comment.span, help)


def _is_suppressed(diagnostic: Diagnostic) -> bool:
    if diagnostic.span is None:
        return False
    # The last statement that begins at or before the finding is the one it is in.
    starts, ignored = _ignored(diagnostic.span.source)
    statement = bisect_right(starts, diagnostic.span.start) - 1
    return diagnostic.code in ignored.get(statement, ())


@functools.lru_cache(maxsize=64)
def _ignored(source: Source) -> tuple[list[int], Mapping[int, frozenset[str]]]:
    """The starts of the statements, and the codes ignored for each by its number."""
    parts = split(source)
    ends = [end for _, end in parts.statements]
    ignored: dict[int, frozenset[str]] = {}
    for comment in parts.comments:
        match = _IGNORE.match(comment.text)
        if match is None:
            continue
        at = comment.span.start
        statement = bisect_right(ends, at)  # the one it is in or before
        inside = statement < len(ends) and parts.statements[statement][0] < at
        if not inside and statement and "\n" not in source.text[ends[statement - 1] : at]:
            statement -= 1  # the one it is behind
        ignored[statement] = ignored.get(statement, frozenset()) | _codes(match["codes"])
    return [start for start, _ in parts.statements], ignored


def _codes(written: str) -> frozenset[str]:
    # What follows the codes may say why: `# lint: ignore PE604 (preference data)`.
    return frozenset(re.findall(r"[A-Z]+[0-9]+", written.split("(")[0]))
