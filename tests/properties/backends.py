"""The fast backend beside the tokenizer itself: ids and labels of the same conversation, over every tokenizer that
qualifies."""

from __future__ import annotations

import functools
from typing import Final

from policy_engine.chat.loading import load_tokenizer
from policy_engine.core.errors import AttributionError, TemplateError
from policy_engine.data.conversation import Conversation
from policy_engine.mask.masker import Masker
from policy_engine.rules.compile import compile_text
from policy_engine.testing.choices import Choices
from policy_engine.testing.conversations import conversation
from tests.properties.injection import hostile_conversation
from tests.support.tokenizers import NAMES, chat_tokenizer

POLICY: Final = (
    "train assistant; mask system,user; train eos after assistant; mask assistant.reasoning; on unrendered ignore"
)
ALL: Final = ("builtin", *NAMES)


@functools.cache
def maskers(name: str) -> tuple[Masker, Masker] | str:
    """A tokenizer's masker and the same with the fast backend; or why it does not qualify."""
    own = load_tokenizer("builtin") if name == "builtin" else chat_tokenizer(name)
    fast = own.qualify_fast([])
    if isinstance(fast, str):
        return fast
    policy = compile_text(POLICY)
    return Masker(policy, own), Masker(policy, own.with_fast(fast))


@functools.cache
def qualifying() -> tuple[str, ...]:
    """Names of the tokenizers that qualify."""
    return tuple(name for name in ALL if not isinstance(maskers(name), str))


def told(choices: Choices, name: str) -> Conversation:
    """A conversation in all scripts, or one that quotes the tokenizer's own control tokens."""
    found = maskers(name)
    assert not isinstance(found, str)
    if choices.chance(70):
        added = tuple(str(token) for token in found[0].tokenizer.tokenizer.added_tokens_decoder.values())
        return hostile_conversation(choices, added)
    return conversation(choices, most=6)


def backend_problem(name: str, conversation: Conversation) -> tuple[str, str | None]:
    """What a conversation came to, and the first difference of ids or labels, if there is one."""
    found = maskers(name)
    assert not isinstance(found, str)
    own, fast = found
    try:
        expected = own.mask(conversation)
    except (TemplateError, AttributionError) as error:
        try:
            fast.mask(conversation)
        except (TemplateError, AttributionError) as other:
            same = type(error) is type(other)
            return f"{name} refused", None if same else f"{name}: {error!r}, with the fast backend {other!r}"
        return f"{name} refused", f"{name}: {error!r}, and not with the fast backend"
    row = fast.mask(conversation)
    for column in ("input_ids", "labels"):
        if list(expected[column]) != list(row[column]):
            return name, f"{name}: other {column} for {expected.chat.text!r}"
    return name, None
