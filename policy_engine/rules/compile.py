"""The compiler: a checked policy, a file, a shipped policy or a text becomes a program.

`policy_engine.load_policy` compiles with this and proves the guards too; see `proof.load_policy`.
"""

from __future__ import annotations

import os

from policy_engine.core.errors import ConfigError
from policy_engine.core.schema import Schema
from policy_engine.lang.check import check_text
from policy_engine.lang.checked import CheckedPolicy
from policy_engine.lang.library import read_policy
from policy_engine.rules.program import Program

MOST_RULES = 2**15 - 1
"""A token mask names rules in int16."""


def compile_policy(checked: CheckedPolicy) -> Program:
    """The program that decides chats as the policy says.

    Raises ConfigError for a policy of more than 32,767 rules.
    """
    # Checked here, once a policy, rather than in the mask of each row.
    if len(checked.rules) > MOST_RULES:
        raise ConfigError(
            f"{checked.source.name} has {len(checked.rules)} rules, more than {MOST_RULES}",
            help="say it with conditions or spans in the data instead of one rule a case",
        )
    return Program(policy=checked)


def compile_file(path_or_name: str | os.PathLike[str], *, schema: Schema | None = None) -> Program:
    """The program of a policy file, or of a shipped policy by its bare name; no guard is proven.

    Raises PolicySyntaxError or PolicyCheckError with everything that is wrong, and DataError if there is no such file.
    """
    # The source's name is the file's path, from which relative `use` statements are found.
    source = read_policy(path_or_name)
    return compile_text(source.text, name=source.name, schema=schema)


def compile_text(text: str, *, name: str = "<string>", schema: Schema | None = None) -> Program:
    """The program of a policy text; no guard is proven.

    `name` is the text's name in errors, and the place where relative `use` paths start. Raises PolicySyntaxError or
    PolicyCheckError with everything that is wrong.

        >>> program = compile_text("train assistant; train eos of assistant")
        >>> [rule.effect for rule in program.policy.rules]
        ['train', 'train']
    """
    return compile_policy(check_text(text, name=name, schema=schema))
