"""SARIF 2.1.0, for code scanning services."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from policy_engine._version import __version__
from policy_engine.cli.outcome import VERDICTS, Exit, Outcome
from policy_engine.cli.reporters.json import location_json, location_of, message_of, safe_json
from policy_engine.core.diagnostics import Diagnostic

_LEVELS = {"error": "error", "warning": "warning", "info": "note"}


def sarif_log(verb: str, outcome: Outcome) -> str:
    """A log with one run. Findings without a place in a file are results without a location.

    >>> import json
    >>> json.loads(sarif_log("check", Outcome()))["runs"][0]["invocations"]
    [{'executionSuccessful': True, 'exitCode': 0, 'exitCodeDescription': 'holds'}]
    """
    codes = sorted({d.code for d in outcome.diagnostics})
    run = {
        "tool": {
            "driver": {
                "name": "policy-engine",
                "semanticVersion": __version__,
                "rules": [{"id": code} for code in codes],
            }
        },
        # Columns count characters, as Python does; the default of SARIF are UTF-16 units.
        "columnKind": "unicodeCodePoints",
        "invocations": [
            {
                "executionSuccessful": outcome.exit not in (Exit.NO_ANSWER, Exit.INTERRUPTED, Exit.TERMINATED),
                "exitCode": int(outcome.exit),
                "exitCodeDescription": VERDICTS[outcome.exit],
            }
        ],
        "results": [_result(d, codes) for d in outcome.diagnostics],
        "properties": {"verb": verb},
    }
    return safe_json({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]})


_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def _result(diagnostic: Diagnostic, codes: list[str]) -> dict[str, Any]:
    message = message_of(diagnostic)
    text = message if diagnostic.help is None else f"{message}\nhelp: {diagnostic.help}"
    place = location_of(diagnostic)
    result: dict[str, Any] = {
        "ruleId": diagnostic.code,
        "ruleIndex": codes.index(diagnostic.code),
        "level": _LEVELS[diagnostic.severity],
        "message": {"text": text},
    }
    if place is not None:
        result["locations"] = [_location(place)]
    if diagnostic.related:
        result["relatedLocations"] = [
            {"id": index, "message": {"text": related.message}, **_location(location_json(related.span))}
            for index, related in enumerate(diagnostic.related)
        ]
    return result


def _location(place: Mapping[str, Any]) -> dict[str, Any]:
    path = Path(place["file"])
    # A relative path stays relative: services resolve it against the repository.
    uri = path.as_uri() if path.is_absolute() else quote(path.as_posix())
    region = {
        "startLine": place["line"],
        "startColumn": place["column"],
        "endLine": place["end_line"],
        "endColumn": place["end_column"],
    }
    known = {name: value for name, value in region.items() if value is not None}
    return {"physicalLocation": {"artifactLocation": {"uri": uri}, **({"region": known} if known else {})}}
