"""A verb's answer before it is printed: the verdict, the findings and the result."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from policy_engine.core.diagnostics import Diagnostic, Severity
from policy_engine.core.errors import DatasetFileError, PolicyEngineError, PolicyError
from policy_engine.core.source import Place
from policy_engine.core.wording import counted

if TYPE_CHECKING:
    from rich.console import RenderableType


ReportFormat = Literal["text", "json", "sarif", "github"]
ReportFormatWithoutFindings = Literal["text", "json", "github"]
"""Formats of verbs that examine nothing, so that a code scanning service has nothing to take from them."""
FORMATS: Final[tuple[ReportFormat, ...]] = get_args(ReportFormat)


class Exit(IntEnum):
    """Exit codes, the same for every verb."""

    HOLDS = 0
    FAILS = 1
    """The answer is no: a guard that breaks, rows that fail, a file that is not laid out as `fmt` would."""
    NO_ANSWER = 2
    """Bad input: a policy that means nothing, a file that is not there, an option that does not exist."""
    UNDECIDED = 3
    INTERRUPTED = 130
    """Ctrl-C, as shells report it."""
    TERMINATED = 143
    """SIGTERM, as shells report it."""


VERDICTS = {
    Exit.HOLDS: "holds",
    Exit.FAILS: "does not hold",
    Exit.NO_ANSWER: "could not answer",
    Exit.UNDECIDED: "undecided",
    Exit.INTERRUPTED: "interrupted",
    Exit.TERMINATED: "terminated",
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A verb's answer.

    `data` is the verb's own part of the JSON document; `body` is the same for people, printed on standard output in
    order: a `str` or `Text` is one line, and a line break of the data in it is shown as `↵`. `raw` is text that is the
    result itself (a formatted policy), printed as it is.
    """

    exit: Exit = Exit.HOLDS
    diagnostics: tuple[Diagnostic, ...] = ()
    findings: tuple[Diagnostic, ...] = ()
    """Findings that `body` has in words of its own; formats for machines have them behind `diagnostics`."""
    data: Mapping[str, Any] = field(default_factory=dict)
    head: tuple[RenderableType, ...] = ()
    """Lines before the findings for people: how the rows were read, which findings are about."""
    notes: tuple[str, ...] = ()
    """Sentences on how the work was done, for standard error; `data` has them for machines."""
    body: tuple[RenderableType, ...] = ()
    raw: str | None = None


def diagnostics_of(error: PolicyEngineError, *, place: Place | None = None) -> tuple[Diagnostic, ...]:
    """The findings of an exception; if it has no list of them, one made of its message and help.

    It is about the row at `place`, or at the error's own place.

    >>> [(found.code, found.message) for found in diagnostics_of(PolicyEngineError("it is empty"))]
    [('PE000', 'it is empty')]
    """
    if isinstance(error, PolicyError | DatasetFileError) and error.diagnostics:
        return error.diagnostics
    place = place or error.place
    message = error.message if place is None else place.beside(error.message)
    return (Diagnostic(code=error.code, message=message, help=error.help, place=place),)


def grouped(rows: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Findings about rows, three of each kind and a count of the rest.

    Findings are of a kind if they differ in numbers only.

    >>> rows = [Diagnostic(code="PE501", severity="error", message=f"row {n} has no `input_ids`") for n in range(9)]
    >>> [found.message for found in grouped(rows)][2:]
    ['row 2 has no `input_ids`', '6 more rows fail like the 3 above']
    """
    kinds: dict[tuple[str, str], list[Diagnostic]] = {}
    for found in rows:
        kinds.setdefault((found.code, re.sub(r"\d+", "N", found.message)), []).append(found)
    shown: list[Diagnostic] = []
    for alike in kinds.values():
        shown += alike[:_ALIKE]
        shown += more_alike(alike[0].code, len(alike) - _ALIKE, _ALIKE, alike[0].severity)
    return tuple(shown)


def more_alike(code: str, more: int, shown: int, severity: Severity = "error") -> list[Diagnostic]:
    """The finding that counts rows that fail like those shown; empty for no more rows."""
    if more <= 0:
        return []
    message = f"{counted(more, 'more row')} {'fails' if more == 1 else 'fail'} like the {shown} above"
    return [Diagnostic(code=code, severity=severity, message=message)]


_ALIKE = 3
"""Findings of a kind that are shown in full."""
_GUARD_FAILS = "PE303"


def failed(error: PolicyEngineError) -> Outcome:
    """The outcome of a verb that an error ended: it could not answer, or the answer is no.

    A policy that is refused because a guard does not hold is an answer, the same one from every verb.
    """
    diagnostics = diagnostics_of(error)
    # Only where every error is a guard: with another error beside it the policy means nothing, and proves nothing.
    refused = {d.code for d in diagnostics if d.is_error} == {_GUARD_FAILS}
    return Outcome(exit=Exit.FAILS if refused else Exit.NO_ANSWER, diagnostics=diagnostics)
