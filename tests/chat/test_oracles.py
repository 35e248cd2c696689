"""Ownership against locators that work in another way: generation tags in templates, and two renders that differ."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import pytest

from policy_engine.core.errors import TemplateError
from policy_engine.core.source import common_prefix
from policy_engine.core.vocabulary import BODY, EOS
from policy_engine.data.conversation import Conversation
from policy_engine.testing.templates import installed_templates
from tests.support.sentinels import SENTINELS, compiled, rendered
from tests.support.templates import SPECIAL_TOKENS

TAGGED = sorted(name for name in installed_templates() if name.startswith("trl/") and name.endswith("_training"))

COMPARED = ("system", "no_system", "tools", "consecutive")
EVERY = 1 if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 8
"""Of the templates, those with two renders compared; each shape has others."""
CONVENTIONS = frozenset({"separator", "header", "empty_reasoning"})
"""What TRL's tags train and `train assistant, assistant.eos` does not: the newline after an end marker, a header the
tag encloses (DeepSeek, gpt-oss, a prompt that opens thinking), and the empty thinking a template writes."""


def _tagged(source: str, conversation: Conversation) -> tuple[str, list[bool]]:
    """transformers' own tracker: the text, and for each character whether a generation tag encloses it."""
    from transformers.utils.chat_template_utils import render_jinja_template

    texts, spans = render_jinja_template(
        [[dict(m) for m in conversation.messages]],
        tools=None if conversation.tools is None else list(conversation.tools),
        chat_template=source,
        return_assistant_tokens_mask=True,
        **SPECIAL_TOKENS,
    )
    inside = [False] * len(texts[0])
    for start, end in spans[0]:
        inside[start:end] = [True] * (end - start)
    return texts[0], inside


UNTAGGED = frozenset({"<|tool_response>"})
"""Ends of turns that TRL's tags leave out: Gemma 4 stops at it after a call, and TRL writes it for the result."""


@pytest.mark.parametrize("name", TAGGED)
def test_body_and_end_agree_with_generation_tags(name: str) -> None:
    """What we call body or end is tagged; what is tagged and neither is one of the named conventions."""
    compared = 0
    for conversation in SENTINELS.values():
        chat = rendered(name, conversation)
        if chat is None:
            continue
        text, inside = _tagged(installed_templates()[name], conversation)
        assert text == chat.text
        for segment in chat.segments:
            ours = chat.role(segment) == "assistant" and segment.part in BODY | EOS
            theirs = inside[segment.start : segment.end]
            compared += len(theirs)
            if ours and chat.segment_text(segment) not in UNTAGGED:
                assert all(theirs), (segment, chat.segment_text(segment))
            elif any(theirs):
                assert segment.part in CONVENTIONS, (segment, chat.segment_text(segment))
                assert chat.role(segment) == "assistant"
    assert compared > 50


def _with_content(conversation: Conversation, turn: int, content: str) -> Conversation:
    messages: list[Any] = list(conversation.messages)
    messages[turn] = {**messages[turn], "content": content}
    return dataclasses.replace(conversation, messages=tuple(messages))


@pytest.mark.parametrize("shape", COMPARED)
def test_content_lies_where_two_renders_differ(shape: str) -> None:
    """Two renders that differ in one message's content differ exactly in the characters attributed to that content."""
    conversation = SENTINELS[shape]
    compared = 0
    for name in sorted(installed_templates())[COMPARED.index(shape) * EVERY // len(COMPARED) :: EVERY]:
        template = compiled(name)
        for turn, message in enumerate(conversation.messages):
            one, other = "\u4e00first\u4e01", "\u4e02the second\u4e03"
            if not message.get("content"):
                continue
            try:
                chat = template.render(_with_content(conversation, turn, one), in_other_words=False)
                text = template.render_plain(_with_content(conversation, turn, other))
            except TemplateError:
                continue
            if chat.text.count(one) != 1 or text.count(other) != 1:
                continue  # dropped, repeated or rewritten: not passed through unchanged
            start = common_prefix(chat.text, text)
            end = len(chat.text) - common_prefix(chat.text[::-1], text[::-1])
            own = [s for s in chat.segments if s.field == ("content",) and s.turn == turn and s.field_exact]
            assert [(start, end)] == [(own[0].start, own[-1].end)], name
            assert chat.text[start:end] == one
            compared += 1
    assert compared > 900 // EVERY
