"""An outcome as text for people, or as one document for machines.

The document is valid also when the run failed.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from policy_engine.cli.outcome import Outcome, ReportFormat


def write(verb: str, outcome: Outcome, format: ReportFormat) -> None:
    """Prints an outcome.

    Machine formats go to standard output whole; text puts findings on standard error.
    """
    # Only the form that is asked for is imported.
    if format == "text":
        from policy_engine.cli.reporters.text import write_text

        write_text(outcome)
        return
    # Not by `print_all`: machine formats escape what is unsafe in ways of their own.
    outcome = replace(outcome, diagnostics=(*outcome.diagnostics, *outcome.findings))
    sys.stdout.write(_document(verb, outcome, format))
    sys.stdout.flush()


def _document(verb: str, outcome: Outcome, format: ReportFormat) -> str:
    if format == "json":
        from policy_engine.cli.reporters.json import json_document

        return json_document(verb, outcome)
    if format == "sarif":
        from policy_engine.cli.reporters.sarif import sarif_log

        return sarif_log(verb, outcome)
    from policy_engine.cli.reporters.github import github_commands

    return github_commands(verb, outcome)
