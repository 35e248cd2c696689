"""Policies loaded and their guards proven: what does not hold does not compile."""

from __future__ import annotations

import os
from dataclasses import replace

from policy_engine.core.errors import PolicyCheckError, warn_of
from policy_engine.core.schema import Schema
from policy_engine.lang.lint.lint import warnings_of
from policy_engine.rules.compile import compile_file, compile_policy, compile_text
from policy_engine.rules.program import Program


def load_policy(path_or_name: str | os.PathLike[str], *, schema: Schema | None = None, prove: bool = True) -> Program:
    """The program of a policy file, or of a shipped policy by its bare name, its guards proven.

    Raises PolicySyntaxError or PolicyCheckError with everything that is wrong, a guard that some conversation breaks
    included, and DataError if there is no such file. Warns with PolicyWarning of what does not stop it: a role that
    nothing declares, a guard that could not be proven, what lint finds. With `prove=False` guards are only asserted on
    the rows that are masked.
    """
    return _finished(compile_file(path_or_name, schema=schema), prove)


def policy_from_text(text: str, *, name: str = "<string>", schema: Schema | None = None, prove: bool = True) -> Program:
    """The program of a policy text, its guards proven.

    `name` is the text's name in errors, and the place where relative `use` paths start.
    Raises PolicySyntaxError or PolicyCheckError with everything that is wrong. Warnings and `prove`: see `load_policy`.

    >>> policy_from_text("train assistant; train eos of assistant; never train user")
    <Program <string>: 2 rules, 1 guard>
    """
    return _finished(compile_text(text, name=name, schema=schema), prove)


def _finished(program: Program, prove: bool) -> Program:
    program = _proven(program) if prove else program
    # The warning shows the line that called `load_policy` or `policy_from_text`.
    warn_of(warnings_of(program.policy), stacklevel=3)
    return program


def _proven(program: Program) -> Program:
    policy = program.policy
    if not policy.guards:
        return program
    # Imported here: most policies have no guards.
    from policy_engine.proof.policy_proof import prove_guards
    from policy_engine.proof.proof_diagnostics import guard_diagnostics

    findings, undecided = prove_guards(policy)
    diagnostics = tuple(guard_diagnostics(findings, undecided=undecided))
    if any(d.is_error for d in diagnostics):
        raise PolicyCheckError(diagnostics)
    if not diagnostics:
        return program
    # Compiled again, so that whoever reads the program's policy finds these warnings too.
    return compile_policy(replace(policy, warnings=(*policy.warnings, *diagnostics)))
