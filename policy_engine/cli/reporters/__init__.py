"""An outcome as text for people, or as one document for machines.

The document is valid also when the run failed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Literal, get_args

from policy_engine.cli.outcome import Outcome
from policy_engine.cli.reporters.github import github_commands
from policy_engine.cli.reporters.json import json_document
from policy_engine.cli.reporters.sarif import sarif_log
from policy_engine.cli.reporters.text import write_text

ReportFormat = Literal["text", "json", "sarif", "github"]
ReportFormatWithoutFindings = Literal["text", "json", "github"]
"""Formats of verbs that examine nothing, so that a code scanning service has nothing to take from them."""
FORMATS: Final[tuple[ReportFormat, ...]] = get_args(ReportFormat)

_MACHINE: dict[ReportFormat, Callable[[str, Outcome], str]] = {
    "json": json_document,
    "sarif": sarif_log,
    "github": github_commands,
}


def write(verb: str, outcome: Outcome, format: ReportFormat) -> None:
    """Prints an outcome.

    Machine formats go to standard output whole; text puts findings on standard error.
    """
    if format == "text":
        write_text(outcome)
    else:
        # Not by `print_all`: machine formats escape what is unsafe in ways of their own.
        outcome = replace(outcome, diagnostics=(*outcome.diagnostics, *outcome.findings))
        sys.stdout.write(_MACHINE[format](verb, outcome))
        sys.stdout.flush()
