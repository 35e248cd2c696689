"""Programs from checked policies, and from policies in files, in the shipped library and in texts."""

from __future__ import annotations

import os

import numpy as np

from policy_engine.core.errors import ConfigError, warn_of
from policy_engine.core.schema import Schema
from policy_engine.lang.check import check_text
from policy_engine.lang.checked import CheckedPolicy
from policy_engine.lang.library import read_policy
from policy_engine.lang.lint.lint import warnings_of
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


def load_policy(path_or_name: str | os.PathLike[str], *, schema: Schema | None = None) -> Program:
    """The program of a policy file, or of a shipped policy by its bare name.

    Raises PolicySyntaxError or PolicyCheckError with everything that is wrong, and DataError if there is no such file;
    warns with PolicyWarning of what does not stop it.
    """
    program = program_of(path_or_name, schema=schema)
    warn_of(warnings_of(program.policy), stacklevel=2)
    return program


def policy_from_text(text: str, *, name: str = "<string>", schema: Schema | None = None) -> Program:
    """The program of a policy text; `name` is what errors call it, and where relative `use` paths start.

    Raises PolicySyntaxError or PolicyCheckError with everything that is wrong; warns as `load_policy` does.
    """
    program = compile_policy(check_text(text, name=name, schema=schema))
    warn_of(warnings_of(program.policy), stacklevel=2)
    return program


def program_of(path_or_name: str | os.PathLike[str], *, schema: Schema | None) -> Program:
    """The same as `load_policy`, without warnings."""
    source = read_policy(path_or_name)
    return compile_policy(check_text(source.text, name=source.name, schema=schema))
