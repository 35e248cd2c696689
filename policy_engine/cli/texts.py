"""Policy texts from what a command line names: files, shipped names, and standard input."""

from __future__ import annotations

import sys

from policy_engine.core.errors import DataError
from policy_engine.core.source import Source
from policy_engine.lang.library import read_policy

STDIN = "-"


def read_source(name: str) -> Source:
    """The text of a policy file, a shipped policy, or standard input for `-`. Raises DataError if it cannot be read."""
    if name != STDIN:
        return read_policy(name)
    try:
        return Source(name="<stdin>", text=sys.stdin.read())
    except UnicodeDecodeError as error:
        raise DataError("standard input is not UTF-8 text", help="pass the policy as UTF-8") from error
