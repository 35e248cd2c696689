"""GitHub workflow commands: each finding becomes an annotation at its line."""

from __future__ import annotations

from policy_engine.cli.outcome import VERDICTS, Exit, Outcome
from policy_engine.cli.reporters.json import location_of, message_of
from policy_engine.core.diagnostics import Diagnostic
from policy_engine.report.visible import one_line, spelled

_LEVELS = {"error": "error", "warning": "warning", "info": "notice"}


def github_commands(verb: str, outcome: Outcome) -> str:
    """One command a line. A run without findings that did not hold still says so.

    >>> github_commands("check", Outcome(exit=Exit.FAILS))
    '::error title=policy-engine check::does not hold\\n'
    """
    lines = [_command(d) for d in outcome.diagnostics]
    # A job that fails without any annotation would give no reason.
    if not lines and outcome.exit is not Exit.HOLDS:
        lines = [f"::error title=policy-engine {verb}::{VERDICTS[outcome.exit]}"]
    return "".join(line + "\n" for line in lines)


def _command(diagnostic: Diagnostic) -> str:
    properties = {"title": f"policy-engine {diagnostic.code}"}
    place = location_of(diagnostic)
    if place is not None:
        given = {"file": place["file"], "line": place["line"], "col": place["column"]}
        # GitHub ignores an annotation whose columns are given over several lines.
        if place["line"] == place["end_line"]:
            given |= {"endColumn": place["end_column"]}
        else:
            given |= {"endLine": place["end_line"]}
        properties |= {key: str(value) for key, value in given.items() if value is not None}
    message = one_line(message_of(diagnostic))
    text = message if diagnostic.help is None else f"{message}\nhelp: {diagnostic.help}"
    listed = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
    return f"::{_LEVELS[diagnostic.severity]} {listed}::{_data(text)}"


def _data(text: str) -> str:
    # GitHub's own escapes; `%` first, since the others bring one in.
    return spelled(text).replace("%", "%25").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
