"""No shipped policy trains what its name does not say, on any template (row 8)."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
from hypothesis import assume, given

from policy_engine.chat.conversation import Conversation
from policy_engine.chat.segments import RenderedChat
from policy_engine.chat.tokenize import ChatTokenizer, load_tokenizer
from policy_engine.core.errors import AttributionError, TemplateError
from policy_engine.core.vocabulary import BODY, EOS
from policy_engine.lang.library import shipped
from policy_engine.mask.apply import apply_program
from policy_engine.rules.load import load_policy
from policy_engine.rules.program import Program
from policy_engine.testing import strategies
from policy_engine.testing.templates import installed_templates

WRITTEN = BODY | EOS
"""What the model writes of its turns. Any policy that may train more is listed with a reason."""
TRAINS_ALL = {"everything"}
"""Policies that train all text, as their name says."""
BY_FLAG = {"train_flags"}
"""Policies that train a message of any role if its data says so."""
ENDS = {"default", "all_assistants", "no_reasoning", "tool_context"}
"""Policies that train the end marker of every assistant turn."""

program = functools.cache(load_policy)


@functools.lru_cache(maxsize=64)
def template_named(name: str) -> ChatTokenizer:
    return load_tokenizer("builtin", template=installed_templates()[name])


def flagged(chat: RenderedChat, turn: int) -> bool:
    message = chat.messages[turn]
    return message.get("train") is True or message.get("training") is True


def wrongly_trained(name: str, chat: RenderedChat, compiled: Program) -> Iterator[str]:
    for piece in compiled.decide(chat).pieces:
        segment = chat.segments[piece.segment]
        role = chat.role(segment)
        if name in TRAINS_ALL:
            continue
        if piece.weight and not (
            segment.turn is not None
            and segment.part in WRITTEN
            and (role == "assistant" or (name in BY_FLAG and flagged(chat, segment.turn)))
        ):
            yield f"{name} trains {segment.part} of {role}: {chat.text[piece.start : piece.end]!r}"
        if name in ENDS and role == "assistant" and segment.part == "eot" and not piece.weight:
            yield f"{name} masks the end of message {segment.turn}"


@pytest.mark.parametrize("name", shipped())
@given(template=strategies.template_names(), conversation=strategies.conversations(most=4))
def test_only_what_the_name_says_is_trained(name: str, template: str, conversation: Conversation) -> None:
    tokenizer = template_named(template)
    try:
        chat = tokenizer.template.render(conversation)
        tokenized = tokenizer.encode(chat)
    except (TemplateError, AttributionError):
        assume(False)
    compiled = program(name)
    assert list(wrongly_trained(name, chat, compiled)) == []
    # A token with a character of somebody else's data, or of two owners with different decisions, is not trained.
    mask = apply_program(compiled, tokenized)
    owner = [s for s in chat.segments for _ in range(s.start, s.end)]
    for token in mask.weights_T.nonzero()[0].tolist():
        touched = owner[tokenized.starts_T[token] : tokenized.ends_T[token]]
        for segment in touched if name not in TRAINS_ALL | BY_FLAG else ():
            assert chat.role(segment) == "assistant"
            assert segment.part in WRITTEN


def test_the_lists_name_shipped_policies() -> None:
    assert set(shipped()) >= TRAINS_ALL | BY_FLAG | ENDS
