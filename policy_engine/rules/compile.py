"""From a checked policy to a program."""

from __future__ import annotations

import numpy as np

from policy_engine.core.errors import ConfigError
from policy_engine.lang.checked import CheckedPolicy
from policy_engine.rules.program import Program

MOST_RULES = int(np.iinfo(np.int16).max)
"""A token mask names rules in int16."""


def compile_policy(checked: CheckedPolicy) -> Program:
    """A program that decides chats as the policy says. Raises ConfigError for a policy of more than 32,767 rules."""
    if len(checked.rules) > MOST_RULES:
        raise ConfigError(
            f"{checked.source.name} has {len(checked.rules)} rules, more than {MOST_RULES}",
            help="say it with conditions or spans in the data instead of one rule a case",
        )
    return Program(policy=checked)
