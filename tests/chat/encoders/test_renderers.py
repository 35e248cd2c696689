"""Renderers of the package `renderers`: run by `make encoders`."""

from __future__ import annotations

import copy
import itertools
import pickle
import unicodedata
from typing import Any

import pytest

from policy_engine.chat.segments import RenderedChat
from policy_engine.chat.template import ChatTemplate
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import TemplateError
from policy_engine.data.conversation import Conversation
from policy_engine.testing.choices import RandomChoices
from tests.properties.encoders import FAMILIES, encoder_case
from tests.support.renderer_tokenizers import renderer
from tests.support.templates import trl_templates

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


def test_thinking_in_an_answer_has_the_parts_that_the_jinja_template_gives() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "find", "arguments": '{"a": 1}'}}
    conversation = Conversation(
        messages=(
            {"role": "user", "content": "Cafe\u0301? </think>"},
            {"role": "assistant", "content": "<think>\nHm.\n</think>\n\nYes.", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "a", "content": " 17\n"},
            {"role": "assistant", "content": "<think>So.</think> Done. "},
        )
    )
    made = ChatTokenizer.from_encoder(renderer("qwen3"))
    jinja = ChatTemplate(dict(trl_templates())["trl/qwen3"], tokens=["<|im_start|>", "<|im_end|>"])
    own, expected = (chat.render(conversation) for chat in (made.template_for(conversation), jinja))
    # The renderer's text is read from its ids, which compose the accent.
    assert own.text == unicodedata.normalize("NFC", expected.text)
    assert labels(expected) == labels(own)
    assert ("reasoning.text", 3, "So.") in labels(own)


def labels(chat: RenderedChat) -> list[tuple[str, int | None, str]]:
    """Part, message and text, neighbours of one part together."""
    found = itertools.groupby(chat.segments, lambda s: (s.part, s.turn))
    return [(*key, unicodedata.normalize("NFC", "".join(map(chat.segment_text, group)))) for key, group in found]


@pytest.mark.parametrize("family", ["glm-4.5", "gemma4", "qwen3.5", "deepseek-v4"])
def test_arguments_in_json_text_are_written_value_by_value(family: str) -> None:
    arguments = '{"a": "x\\ud83d\\ude42", "n": [70, -1.5e3, true, null], "deep": {"b": "y"}}'
    call = {"id": "a", "type": "function", "function": {"name": "find", "arguments": arguments}}
    conversation = Conversation(
        messages=({"role": "user", "content": "a"}, {"role": "assistant", "content": "", "tool_calls": [call]})
    )
    chat = ChatTokenizer.from_encoder(renderer(family)).template_for(conversation).render(conversation)
    # Numbers and brackets are the renderer's own text there, and nothing is lost.
    assert () == chat.unrendered


def test_kimi_writes_the_id_in_place_of_the_name() -> None:
    call = {"id": "functions.find:0", "type": "function", "function": {"name": "find", "arguments": '{"a": 1}'}}
    result = {"role": "tool", "tool_call_id": "functions.find:0", "content": "17"}
    conversation = Conversation(
        messages=({"role": "user", "content": "a"}, {"role": "assistant", "content": "", "tool_calls": [call]}, result)
    )
    chat = ChatTokenizer.from_encoder(renderer("kimi-k2")).template_for(conversation).render(conversation)
    assert not chat.unrendered
    named = [(s.part, s.turn, s.field) for s in chat.segments if chat.segment_text(s) == call["id"]]
    assert [("tool_call", 1, ("tool_calls", 0, "id")), ("header", 2, ("tool_call_id",))] == named


def test_what_is_refused() -> None:
    made = ChatTokenizer.from_encoder(renderer("glm-4.5"))
    asked = Conversation(messages=({"role": "user", "content": "a"},), template_kwargs={"enable_thinking": False})
    with pytest.raises(TemplateError, match="takes no argument `enable_thinking` for a row"):
        made.template_for(asked).render(asked)


def test_a_renderer_that_changes_what_it_is_given_changes_no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "find", "arguments": {"q": "rain"}}}
    messages = (
        {"role": "user", "content": [{"type": "text", "text": "Rain?"}]},
        {"role": "assistant", "content": "", "tool_calls": [call]},
    )
    before = copy.deepcopy(messages)
    made = renderer("qwen3")
    expected = ChatTokenizer.from_encoder(made).template_for(Conversation(messages=messages))
    text = expected.render(Conversation(messages=messages)).text

    def changing(own: Any) -> Any:
        def render(given: Any, **more: Any) -> Any:
            found = own(copy.deepcopy(given), **more)
            given[0]["content"][0]["text"] = "changed"
            given[1]["tool_calls"][0]["function"]["name"] = "changed"
            return found

        return render

    for name in ("render", "render_ids"):
        monkeypatch.setattr(made, name, changing(getattr(made, name)))
    template = ChatTokenizer.from_encoder(made).template_for(Conversation(messages=messages))
    assert text == template.render(Conversation(messages=messages)).text
    assert before == messages
