"""JSON: one document per run, with the verdict, the findings and the verb's own data."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from policy_engine._version import __version__
from policy_engine.cli.outcome import VERDICTS, Outcome
from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.source import Span


def json_document(verb: str, outcome: Outcome) -> str:
    """The document as text. ASCII only, so that it is the same whatever the locale."""
    document = {
        "tool": "policy-engine",
        "version": __version__,
        "verb": verb,
        "verdict": VERDICTS[outcome.exit],
        "exit_code": int(outcome.exit),
        "diagnostics": [diagnostic_json(d) for d in outcome.diagnostics],
        **_plain(outcome.data),
    }
    return safe_json(document)


_NOT_IN_LOGS = re.compile(r"\x7f|#(?=#(?:vso|teamcity)?\[)")


def safe_json(document: Any) -> str:
    """JSON text in ASCII, without what a build log takes for a command (`##[error]`).

    >>> safe_json({"a": 1})
    '{\\n  "a": 1\\n}\\n'
    """
    # NaN is no JSON; `_plain` has made text of it.
    text = json.dumps(document, indent=2, allow_nan=False)
    return _NOT_IN_LOGS.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n"


def _plain(value: Any) -> Any:
    """A value as JSON can hold it; others of a dataset (NaN, dates, bytes) become text.

    >>> _plain({"share": float("nan"), 1: b"x"})
    {'share': 'nan', '1': "b'x'"}
    """
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)


def diagnostic_json(diagnostic: Diagnostic) -> dict[str, Any]:
    """One finding. `location` is null where no place in a file caused it."""
    return {
        "code": diagnostic.code,
        "severity": diagnostic.severity,
        "message": message_of(diagnostic),
        "help": diagnostic.help,
        "location": location_of(diagnostic),
        "related": [{"message": r.message, "location": location_json(r.span)} for r in diagnostic.related],
    }


def message_of(diagnostic: Diagnostic) -> str:
    """The message; it names the row where the location cannot.

    That is in a file without lines, and in a pipe.
    """
    place = diagnostic.place
    if place is None or diagnostic.span is not None or place.is_line or diagnostic.message.startswith("row "):
        return diagnostic.message
    return f"row {place.number}: {diagnostic.message}"


def location_of(diagnostic: Diagnostic) -> dict[str, Any] | None:
    """The place of a finding, or None.

    In a policy or dataset file it has lines and columns, in data the line, if there are lines.

    >>> from policy_engine.core.source import Place
    >>> found = Diagnostic(code="PE502", severity="error", message="no `role`", place=Place(file="a.jsonl", number=3))
    >>> location_of(found)
    {'file': 'a.jsonl', 'line': 3, 'column': None, 'end_line': 3, 'end_column': None}
    """
    if diagnostic.span is not None:
        return location_json(diagnostic.span)
    place = diagnostic.place
    if place is None or place.file is None:
        return None
    # In Parquet the number is a row's: a viewer would open the file at a line that means nothing.
    line = place.number if place.is_line else None
    return {"file": place.file, "line": line, "column": None, "end_line": line, "end_column": None}


def location_json(span: Span) -> dict[str, Any]:
    """File, lines and columns, from 1; the end column is one past the last character.

    >>> from policy_engine.core.source import Source
    >>> location_json(Span(source=Source(name="my.policy", text="train user"), start=6, end=10))
    {'file': 'my.policy', 'line': 1, 'column': 7, 'end_line': 1, 'end_column': 11}
    """
    end_line, end_column = span.source.position(span.end)
    return {
        "file": span.source.name,
        "line": span.line,
        "column": span.column,
        "end_line": end_line,
        "end_column": end_column,
    }
