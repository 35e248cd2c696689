"""GitHub workflow commands: each finding becomes an annotation at its line."""

from __future__ import annotations

from policy_engine.cli.outcome import VERDICTS, Exit, Outcome
from policy_engine.cli.reporters.json import location_json
from policy_engine.core.diagnostics import Diagnostic

_LEVELS = {"error": "error", "warning": "warning", "info": "notice"}


def github_commands(verb: str, outcome: Outcome) -> str:
    """One command a line. A run without findings that did not hold still says so."""
    lines = [_command(d) for d in outcome.diagnostics]
    if not lines and outcome.exit is not Exit.HOLDS:
        lines = [f"::error title=policy-engine {verb}::{VERDICTS[outcome.exit]}"]
    return "".join(line + "\n" for line in lines)


def _command(diagnostic: Diagnostic) -> str:
    properties = {"title": f"policy-engine {diagnostic.code}"}
    if diagnostic.span is not None:
        place = location_json(diagnostic.span)
        properties |= {"file": place["file"], "line": str(place["line"]), "col": str(place["column"])}
        # GitHub ignores an annotation whose columns are given over several lines.
        if place["line"] == place["end_line"]:
            properties |= {"endColumn": str(place["end_column"])}
        else:
            properties |= {"endLine": str(place["end_line"])}
    text = diagnostic.message if diagnostic.help is None else f"{diagnostic.message}\nhelp: {diagnostic.help}"
    listed = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
    return f"::{_LEVELS[diagnostic.severity]} {listed}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
