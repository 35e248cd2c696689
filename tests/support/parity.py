"""Holds traced rendering against transformers' own: the same text or the same reason, and right attribution."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from policy_engine.chat.conversation import Conversation
from policy_engine.chat.segments import RenderedChat
from policy_engine.chat.template import ChatTemplate
from policy_engine.core.errors import TemplateError
from tests.support.templates import transformers_text


def parity_problems(template: ChatTemplate, conversation: Conversation, prompt: bool) -> Iterator[str]:
    """What is wrong with a conversation's rendering, with or without a generation prompt; nothing, if all is well."""
    expected, chat = _both(template, conversation, prompt)
    if _differ(expected, chat):
        # A template that prints the time may have been caught at the turn of a minute: both are asked once more.
        expected, chat = _both(template, conversation, prompt)
    if _differ(expected, chat):
        yield f"expected {expected!r}, got {chat!r}"
    if isinstance(chat, RenderedChat):
        yield from _badly_attributed(chat, conversation)


def _both(
    template: ChatTemplate, conversation: Conversation, prompt: bool
) -> tuple[str | Exception, RenderedChat | TemplateError]:
    expected: str | Exception
    chat: RenderedChat | TemplateError
    try:
        expected = transformers_text(
            template.source, conversation, special_tokens=template.special_tokens, add_generation_prompt=prompt
        )
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
        if segment.turn is not None and not 0 <= segment.turn < len(conversation.messages):
            yield f"{segment} has an owner that is not there"
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
