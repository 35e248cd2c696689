"""Errors cross process boundaries whole, and a program decides alike wherever it runs (row 12)."""

from __future__ import annotations

import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.chat.segments import TokenizedChat
from policy_engine.core import errors
from policy_engine.core.diagnostics import Diagnostic, Related
from policy_engine.core.errors import PolicyEngineError, PolicyError
from policy_engine.core.source import Source, Span
from policy_engine.lang import ast
from policy_engine.lang.format import format_policy
from policy_engine.mask.apply_program import apply_program
from policy_engine.rules.compile import compile_text
from policy_engine.rules.program import Program
from policy_engine.testing import strategies
from policy_engine.testing.chats import tokenized_chat
from policy_engine.testing.choices import RandomChoices

POLICY = "train assistant; mask first user; train eos after assistant where turn.index > 1; scale assistant.text by 0.5"

CLASSES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type)
    and issubclass(value, PolicyEngineError)
    and not issubclass(value, (PolicyError, errors.DatasetFileError))  # made of diagnostics
]


@pytest.mark.parametrize("cls", CLASSES)
@given(message=st.text(), help=st.none() | st.text(), code=st.none() | st.just("PE999"))
def test_errors_pickle(cls: type[PolicyEngineError], message: str, help: str | None, code: str | None) -> None:
    error = cls(message, help=help, code=code)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls
    assert (again.message, again.help, again.code, again.args, str(again)) == (
        error.message, error.help, error.code, error.args, str(error),
    )  # fmt: skip


@given(text=st.text(min_size=1), message=st.text(), related=st.booleans())
def test_policy_errors_pickle_with_their_diagnostics(text: str, message: str, related: bool) -> None:
    span = Span(source=Source(name="x", text=text), start=0, end=1)
    more = (Related(message="here", span=span),) if related else ()
    diagnostic = Diagnostic(code="PE101", severity="error", message=message, span=span, related=more)
    for cls in (errors.PolicySyntaxError, errors.PolicyCheckError, errors.DatasetFileError):
        error = cls((diagnostic,))
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), again.diagnostics, str(again)) == (cls, error.diagnostics, str(error))


@given(strategies.policies(guards=False, spans=False), strategies.tokenized_chats())
def test_a_pickled_program_decides_alike(policy: ast.Policy, tokenized: TokenizedChat) -> None:
    program = compile_text(format_policy(policy))
    assert outcome(pickle.loads(pickle.dumps(program)), tokenized) == outcome(program, tokenized)


def outcome(program: Program, tokenized: TokenizedChat) -> Any:
    try:
        mask = apply_program(program, tokenized)
    except PolicyEngineError as error:
        return type(error), str(error)
    return mask.weights_T.tolist(), mask.rules_T.tolist(), mask.reasons_T.tolist()


def decide_numbered(job: tuple[Program, int]) -> Any:
    program, number = job
    return outcome(program, tokenized_chat(RandomChoices(number)))


def test_one_process_and_several_decide_alike() -> None:
    program = compile_text(POLICY)
    jobs = [(program, number) for number in range(200)]
    here = [decide_numbered(job) for job in jobs]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(decide_numbered, jobs, chunksize=50)) == here
