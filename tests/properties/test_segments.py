"""Segments partition the text, and there is one decision per token of its one tokenization (row 3)."""

from __future__ import annotations

import functools

import pytest
from hypothesis import assume, given

from policy_engine.chat.loading import load_tokenizer
from policy_engine.chat.template import ChatTemplate
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import AttributionError, TemplateError
from policy_engine.data.conversation import Conversation
from policy_engine.mask.apply_program import apply_program
from policy_engine.rules.compile import compile_text
from policy_engine.testing import strategies
from policy_engine.testing.templates import installed_templates
from tests.support.templates import SPECIAL_TOKENS
from tests.support.tokenizers import chat_tokenizer, load

POLICY = "train assistant; mask system, user; train eos after assistant"


@functools.lru_cache(maxsize=256)
def template_named(name: str) -> ChatTemplate:
    return ChatTemplate(installed_templates()[name], special_tokens=SPECIAL_TOKENS)


@given(strategies.template_names(), strategies.conversations(most=4))
def test_segments_partition_the_text(name: str, conversation: Conversation) -> None:
    template = template_named(name)
    try:
        chat = template.render(conversation)
    except TemplateError:
        assume(False)
    assert [s.start for s in chat.segments] == [0, *(s.end for s in chat.segments)][: len(chat.segments)]
    assert all(s.start < s.end for s in chat.segments)
    assert (chat.segments[-1].end if chat.segments else 0) == len(chat.text)
    assert chat.text == template.render_plain(conversation)
    for segment in chat.segments:
        assert segment.turn is None or 0 <= segment.turn < len(conversation.messages)


@functools.cache
def tokenizer_named(name: str) -> ChatTokenizer:
    return load_tokenizer("builtin") if name == "builtin" else chat_tokenizer(name)


@pytest.mark.parametrize("name", ["builtin", "qwen", "mistral-v3"])
@given(conversation=strategies.conversations(most=4))
def test_tokens_are_those_of_one_tokenization(name: str, conversation: Conversation) -> None:
    tokenizer = tokenizer_named(name)
    try:
        tokenized = tokenizer.encode(tokenizer.template.render(conversation))
    except (TemplateError, AttributionError):
        assume(False)
    mask = apply_program(compile_text(POLICY), tokenized)
    size = len(tokenized.input_ids)
    assert len(tokenized.starts_T) == len(tokenized.ends_T) == size
    assert len(mask.weights_T) == len(mask.rules_T) == len(mask.reasons_T) == len(mask.segments_T) == size
    if name != "builtin":
        assert tokenized.input_ids == load(name).encode(tokenized.chat.text, add_special_tokens=False)
    covered = 0
    for start, end in zip(tokenized.starts_T.tolist(), tokenized.ends_T.tolist()):
        assert covered >= start or not tokenized.chat.text[covered:start].strip()
        covered = max(covered, end)
