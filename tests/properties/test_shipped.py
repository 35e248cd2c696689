"""No shipped policy trains what its name does not say, on any template (row 8)."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from hypothesis import assume, given

from policy_engine.chat.loading import load_tokenizer
from policy_engine.chat.segments import RenderedChat
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import AttributionError, TemplateError
from policy_engine.core.vocabulary import BODY, EOS
from policy_engine.data.conversation import Conversation
from policy_engine.lang.library import shipped
from policy_engine.mask.apply_program import apply_program
from policy_engine.rules.compile import compile_file
from policy_engine.testing import strategies
from policy_engine.testing.templates import installed_templates

OTHERS = {
    "axolotl_eos_all", "axolotl_inputs", "everything", "llamafactory_prompt", "swift_all", "tinker_all_messages",
    "tinker_all_tokens", "tinker_user_and_system", "torchtune_all",
}  # fmt: skip
"""Policies whose names say that they train text which is not the model's. Every other policy trains none."""
HEADERS = {"torchtune", "torchtune_last"}
"""Policies that train the header of the model's turns, as the system does that they are named for."""
OWN = {"default", "all_assistants", "last_assistant", "no_reasoning", "tool_context", "train_flags"}
"""Policies of the project itself: of the model's turns, body and ends only."""
ENDS = {"default", "all_assistants", "no_reasoning", "tool_context"}
"""Policies that train the end marker of every turn of the model."""
WRITTEN = BODY | EOS

program = functools.cache(compile_file)


@functools.lru_cache(maxsize=64)
def tokenizer_with(template: str) -> ChatTokenizer:
    return load_tokenizer("builtin", template=installed_templates()[template])


def allowed(name: str, chat: RenderedChat, index: int) -> bool:
    """Whether a policy of that name may train a segment."""
    segment = chat.segments[index]
    if name in OTHERS:
        return True
    if segment.turn is None:
        return False
    if chat.role(segment) != "assistant":
        flags = chat.messages[segment.turn]
        return name == "train_flags" and (flags.get("train") is True or flags.get("training") is True)
    parts = WRITTEN if name in OWN else WRITTEN | {"empty_reasoning", "separator"}
    return segment.part in parts or (name in HEADERS and segment.part == "header")


def problems(name: str, chat: RenderedChat) -> Iterator[str]:
    for piece in program(name).decide(chat).pieces:
        segment = chat.segments[piece.segment]
        what = f"{segment.part} of {chat.role(segment)}: {chat.text[piece.start : piece.end]!r}"
        if piece.weight and not allowed(name, chat, piece.segment):
            yield f"{name} trains {what}"
        if name in ENDS and chat.role(segment) == "assistant" and segment.part == "eot" and not piece.weight:
            yield f"{name} masks {what}"


@given(template=strategies.template_names(), conversation=strategies.conversations(most=4))
def test_only_what_the_name_says_is_trained(template: str, conversation: Conversation) -> None:
    tokenizer = tokenizer_with(template)
    try:
        chat = tokenizer.template_for(conversation).render(conversation)
        tokenized = tokenizer.encode(chat)
    except (TemplateError, AttributionError):
        assume(False)
    assert [problem for name in shipped() for problem in problems(name, chat)] == []
    owner = [index for index, s in enumerate(chat.segments) for _ in range(s.start, s.end)]
    for name in sorted(OWN):
        # No trained token has a character of text that may not be trained.
        weights_T = apply_program(program(name), tokenized).weights_T
        for token in weights_T.nonzero()[0].tolist():
            touched = owner[tokenized.starts_T[token] : tokenized.ends_T[token]]
            assert all(allowed(name, chat, index) for index in touched), (name, token)


def test_the_lists_name_shipped_policies() -> None:
    assert set(shipped()) >= OTHERS | HEADERS | OWN | ENDS
