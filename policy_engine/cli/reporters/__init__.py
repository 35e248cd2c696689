"""How an outcome is told: as text for people, or as one document for machines, valid also when the run failed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import Enum

from policy_engine.cli.outcome import Outcome
from policy_engine.cli.reporters.github import github_commands
from policy_engine.cli.reporters.json import json_document
from policy_engine.cli.reporters.sarif import sarif_log
from policy_engine.cli.reporters.text import write_text


class Format(str, Enum):
    """Values of `--format`."""

    text = "text"
    json = "json"
    sarif = "sarif"
    github = "github"


_MACHINE: dict[Format, Callable[[str, Outcome], str]] = {
    Format.json: json_document,
    Format.sarif: sarif_log,
    Format.github: github_commands,
}


def write(verb: str, outcome: Outcome, format: Format) -> None:
    """Tells an outcome. Machine formats go to standard output whole; text puts findings on standard error."""
    if format is Format.text:
        write_text(outcome)
    else:
        sys.stdout.write(_MACHINE[format](verb, outcome))
        sys.stdout.flush()
