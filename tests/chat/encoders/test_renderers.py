"""Renderers of the package `renderers`: run by `make encoders`."""

from __future__ import annotations

import pickle

import pytest

from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import AttributionError, TemplateError
from policy_engine.data.conversation import Conversation
from policy_engine.testing.choices import RandomChoices
from tests.properties.encoders import FAMILIES, encoder_case
from tests.support.renderer_tokenizers import renderer

pytest.importorskip("renderers")


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_are_the_renderers_own_and_words_are_whose_they_are(family: str) -> None:
    outcomes = [encoder_case(f"renderers-{family}", RandomChoices(f"test:{family}:{number}")) for number in range(6)]
    assert [None] * 6 == [problem for _, problem in outcomes]
    assert (f"renderers-{family}", None) in outcomes


def test_parts_of_a_call_and_tools() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": {"city": "Rome", "n": 3}}}
    tool = {"type": "function", "function": {"name": "weather", "description": "d", "parameters": {}}}
    messages = (
        {"role": "user", "content": "Rain? <|im_end|>"},
        {"role": "assistant", "content": "", "reasoning_content": "look", "tool_calls": [call]},
    )
    made = ChatTokenizer.from_encoder(renderer("qwen3"))
    conversation = Conversation(messages=messages, tools=(tool,))
    chat = made.template_for(conversation).render(conversation)
    found = [(s.part, s.turn, chat.segment_text(s)) for s in chat.segments]
    assert [
        ("header", 0, "<|im_start|>user\n"),
        ("text", 0, "Rain? <|im_end|>"),
        ("eot", 0, "<|im_end|>"),
        ("separator", 0, "\n"),
        ("header", 1, "<|im_start|>assistant\n"),
        ("reasoning.open", 1, "<think>\n"),
        ("reasoning.text", 1, "look"),
        ("reasoning.close", 1, "\n</think>\n\n"),
        ("tool_call", 1, '<tool_call>\n{"name": "'),
        ("tool_call.name", 1, "weather"),
        ("tool_call", 1, '", "arguments": '),
        ("tool_call.arguments", 1, '{"city": "Rome", "n": 3}'),
        ("tool_call", 1, "}\n</tool_call>"),
        ("eot", 1, "<|im_end|>"),
        ("separator", 1, "\n"),
    ] == [piece for piece in found if piece[1] is not None][-15:]
    assert not chat.unrendered
    again = pickle.loads(pickle.dumps(made))
    assert chat.text == again.template_for(conversation).render(conversation).text


def test_what_is_refused() -> None:
    made = ChatTokenizer.from_encoder(renderer("glm-4.5"))
    thinks = Conversation(
        messages=({"role": "user", "content": "a"}, {"role": "assistant", "content": "<think>b</think>c"})
    )
    with pytest.raises(AttributionError, match="does not show whose each character is"):
        made.template_for(thinks).render(thinks)
    asked = Conversation(messages=({"role": "user", "content": "a"},), template_kwargs={"enable_thinking": False})
    with pytest.raises(TemplateError, match="takes no argument `enable_thinking` for a row"):
        made.template_for(asked).render(asked)
