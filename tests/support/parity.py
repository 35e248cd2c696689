"""Holds traced rendering against transformers' own: the same text or the same reason, and right attribution."""

from __future__ import annotations

from collections.abc import Iterator

from policy_engine.chat.segments import RenderedChat
from policy_engine.chat.template import ChatTemplate
from policy_engine.core.errors import TemplateError
from policy_engine.data.conversation import Conversation
from policy_engine.testing.checks.conformance_laws import badly_attributed
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
        yield from badly_attributed(chat, conversation)


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
    # What the template raised is in the words of the error, or behind it.
    link: BaseException | None = chat if isinstance(chat, TemplateError) else None
    while link is not None and str(expected) not in str(link):
        link = link.__cause__
    return link is None
