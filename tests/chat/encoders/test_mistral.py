"""Mistral's own encoder: ids, owners, parts, and what it refuses."""

from __future__ import annotations

import functools
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
from mistral_common.tokens.tokenizers.instruct import InstructTokenizerV3
from transformers import MistralCommonBackend

from policy_engine import Masker, load_tokenizer, policy_from_text
from policy_engine.chat.encoders import tint
from policy_engine.chat.encoders.tint import Tinting
from policy_engine.chat.segments import RenderedChat
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import AttributionError, MediaError, TemplateError, TokenizerError
from policy_engine.data.conversation import Conversation
from policy_engine.testing.choices import RandomChoices
from tests.properties.encoders import ENCODERS, encoder_case
from tests.support.tokenizers import package

# Each of the later versions is a file of 15 MB that is made first; the nightly run has all of them.
MISTRAL = [name for name in ENCODERS if name.startswith("mistral") and name not in ("mistral-v11", "mistral-v13")]
TEKKEN = package("mistral_common") / "data" / "tekken_240718.json"
TOOL = {"type": "function", "function": {"name": "weather", "description": "d", "parameters": {}}}


@functools.cache
def chat_tokenizer(name: str) -> ChatTokenizer:
    return ENCODERS[name][0]()[0]


def call(name: str, arguments: Any, id: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi [/INST]"},
    {"role": "assistant", "content": "Hello "},
    {"role": "user", "content": "Rain?"},
    {
        "role": "assistant",
        "tool_calls": [
            call("weather", {"city": "Rome", "n": 3}, "abcdefghi"),
            call("weather", '{"n": 4}', "abcdefghj"),
        ],
    },
    {"role": "tool", "tool_call_id": "abcdefghi", "content": '{"t": 21,"s":"dry"}'},
    {"role": "tool", "tool_call_id": "abcdefghj", "content": "17"},
    {"role": "assistant", "content": "No."},
]


def render(name: str, messages: list[dict[str, Any]], tools: Any = (TOOL,)) -> RenderedChat:
    conversation = Conversation(messages=tuple(messages), tools=tools)
    return chat_tokenizer(name).template_for(conversation).render(conversation)


def parts(chat: RenderedChat) -> list[tuple[str, int | None, str]]:
    return [(s.part, s.turn, chat.segment_text(s)) for s in chat.segments if s.part != "preamble.tools"]


@pytest.mark.parametrize("name", MISTRAL)
def test_ids_are_the_encoders_own_and_words_are_whose_they_are(name: str) -> None:
    for number in range(12):
        assert encoder_case(name, RandomChoices(f"test:{name}:{number}")) == (name, None)


def test_a_conversation_in_parts() -> None:
    assert [
        ("bos", None, "<s>"),
        ("header", 1, "[INST]"),
        ("text", 1, "Hi [/INST]"),
        ("eot", 1, "[/INST]"),
        ("text", 2, "Hello"),
        ("eot", 2, "</s>"),
        ("header", 3, "[AVAILABLE_TOOLS]"),
        ("header", 3, "[/AVAILABLE_TOOLS][INST]"),
        ("text", 0, "Be kind."),
        ("header", 3, "\n\n"),
        ("text", 3, "Rain?"),
        ("eot", 3, "[/INST]"),
        ("tool_call", 4, '[TOOL_CALLS][{"name": "'),
        ("tool_call.name", 4, "weather"),
        ("tool_call", 4, '", "arguments": '),
        ("tool_call.arguments", 4, '{"city": "Rome", "n": 3}'),
        ("tool_call", 4, ', "id": "abcdefghi"}, '),
        ("tool_call", 4, '{"name": "'),
        ("tool_call.name", 4, "weather"),
        ("tool_call", 4, '", "arguments": '),
        ("tool_call.arguments", 4, '{"n": 4}'),
        ("tool_call", 4, ', "id": "abcdefghj"}]'),
        ("eot", 4, "</s>"),
        ("header", 5, '[TOOL_RESULTS]{"content": '),
        ("text", 5, '{"t": 21, "s": "dry"}'),
        ("markup", 5, ', "call_id": "abcdefghi"}'),
        ("eot", 5, "[/TOOL_RESULTS]"),
        ("header", 6, '[TOOL_RESULTS]{"content": '),
        ("text", 6, "17"),
        ("markup", 6, ', "call_id": "abcdefghj"}'),
        ("eot", 6, "[/TOOL_RESULTS]"),
        ("text", 7, "No."),
        ("eot", 7, "</s>"),
    ] == parts(render("mistral-tekken", CHAT))


def test_calls_and_places_in_fields() -> None:
    chat = render("mistral-tekken", CHAT)
    arguments = [s for s in chat.segments if s.part == "tool_call.arguments"]
    assert [(0, False), (1, True)] == [(s.call, s.field_exact) for s in arguments]
    (system,) = [s for s in chat.segments if s.turn == 0]
    assert (("content",), 0, True) == (system.field, system.field_start, system.field_exact)


def test_questions_that_the_encoder_joins_stay_two_messages() -> None:
    chat = render(
        "mistral-v3",
        [
            {"role": "user", "content": "One"},
            {"role": "user", "content": "Two"},
            {"role": "assistant", "content": "Three"},
        ],
        None,
    )
    assert "<s>[INST]One\n\nTwo[/INST]Three</s>" == chat.text
    assert [("text", 0, "One"), ("text", 1, "Two")] == [p for p in parts(chat) if p[:2] in (("text", 0), ("text", 1))]
    assert ("eot", 1, "[/INST]") in parts(chat)


def test_the_empty_question_that_the_encoder_adds_is_nobodys() -> None:
    chat = render("mistral-v3", [{"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Hi"}], None)
    assert "<s>[INST][/INST]Hello</s>[INST]Hi[/INST]" == chat.text
    assert [None, 0, 1] == list(dict.fromkeys(s.turn for s in chat.segments))


def test_text_that_spells_a_control_token_is_encoded_as_text() -> None:
    chat = render("mistral-tekken", CHAT)
    row = chat_tokenizer("mistral-tekken").encode(chat)
    end = chat_tokenizer("mistral-tekken").tokenizer.added_tokens_decoder
    (inst,) = [i for i, text in end.items() if text == "[/INST]"]
    assert 2 == row.input_ids.count(inst)
    assert 3 == chat.text.count("[/INST]")


@pytest.mark.parametrize("name", ["mistral-v1", "mistral-tekken"])
def test_tokens_cover_the_characters_that_they_spell(name: str) -> None:
    chat = render(
        name, [{"role": "user", "content": "naïve 🙂 日本"}, {"role": "assistant", "content": "é\n\n x"}], None
    )
    row = chat_tokenizer(name).encode(chat)
    assert (0, len(chat.text)) == (row.starts_T[0], row.ends_T[-1])
    covered = {at for start, end in zip(row.starts_T, row.ends_T) for at in range(start, end)}
    assert set(range(len(chat.text))) == covered


def test_images_are_refused_by_name() -> None:
    picture = [{"type": "image", "path": "a.png"}, {"type": "text", "text": "What?"}]
    messages = [{"role": "user", "content": picture}, {"role": "assistant", "content": "A cat."}]
    for statement in ("", "on media ignore\n"):
        masker = Masker(policy_from_text(f"{statement}train turn of assistant"), chat_tokenizer("mistral-tekken"))
        with pytest.raises((MediaError, TemplateError), match="images, sounds or videos"):
            masker(messages)


def test_what_the_encoder_refuses_has_its_reason() -> None:
    with pytest.raises(TemplateError, match="Tool call id was call_1 but must be") as caught:
        render("mistral-v3", [CHAT[3], {"role": "assistant", "tool_calls": [call("f", "{}", "call_1")]}])
    assert "mistral-common" in caught.value.message


def test_private_use_characters_of_planes_15_and_16_are_refused() -> None:
    with pytest.raises(AttributionError, match="private-use characters"):
        render("mistral-v3", [{"role": "user", "content": "a\U000f0041"}, {"role": "assistant", "content": "b"}], None)


def test_long_conversations_are_tinted_in_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = render("mistral-tekken", CHAT)
    asked: list[int] = []
    own = Tinting.messages
    monkeypatch.setattr(tint, "MOST", 7)
    monkeypatch.setattr(Tinting, "messages", lambda self, given: asked.append(self.first) or own(self, given))
    found = render("mistral-tekken", CHAT)
    assert expected == found
    assert list(range(0, 63, 7)) == asked[-9:]


def test_ids_that_are_not_those_of_the_whole_conversation_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    own = InstructTokenizerV3.encode_instruct

    def other(self: Any, request: Any) -> Any:
        made = own(self, request)
        if type(self.tokenizer).__name__ == "Tekkenizer":
            made.tokens.insert(1, 3)
        return made

    monkeypatch.setattr(InstructTokenizerV3, "encode_instruct", other)
    with pytest.raises(AttributionError, match="gives other ids for the whole conversation"):
        render("mistral-tekken", CHAT)


def test_it_pickles_and_knows_itself() -> None:
    made = chat_tokenizer("mistral-tekken")
    again = pickle.loads(pickle.dumps(made))
    conversation = Conversation(messages=tuple(CHAT), tools=(TOOL,))
    ids = made.encode(made.template_for(conversation).render(conversation)).input_ids
    assert ids == again.encode(again.template_for(conversation).render(conversation)).input_ids
    assert made.fingerprint == again.fingerprint != chat_tokenizer("mistral-v3").fingerprint


def test_transformers_backend_is_the_same() -> None:
    backend = MistralCommonBackend(tokenizer_path=str(TEKKEN))
    policy = policy_from_text("train turn of assistant")
    row = Masker(policy, backend)(CHAT, [TOOL])
    assert Masker(policy, chat_tokenizer("mistral-tekken"))(CHAT, [TOOL]).labels == row.labels
    openai = [{**CHAT[1]}, {"role": "assistant", "content": "Hello"}]
    own = backend.apply_chat_template([*openai, CHAT[3]])["input_ids"]
    assert list(own) == Masker(policy, backend)([*openai, CHAT[3]]).input_ids
    with pytest.raises(TokenizerError, match="renders chats by itself"):
        Masker(policy, backend, template="{{ messages[0].content }}")


def test_a_file_or_a_folder_of_it_alone_is_loaded_and_others_are_told_of_it(tmp_path: Path) -> None:
    shutil.copy(TEKKEN, tmp_path / "tekken.json")
    for name in (tmp_path, tmp_path / "tekken.json"):
        assert load_tokenizer(name).encoder is not None
    (tmp_path / "tokenizer.json").write_text((package("policy_engine") / "builtin" / "tokenizer.json").read_text())
    with pytest.raises(TokenizerError, match="has no chat template") as caught:
        _ = load_tokenizer(tmp_path).template
    assert f"name the file, {tmp_path / 'tekken.json'}" in str(caught.value.help)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "tekken.json").write_text("{}")
    with pytest.raises(TokenizerError, match="mistral-common cannot read"):
        load_tokenizer(tmp_path / "bad")
