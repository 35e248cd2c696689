"""Labels of rows with media that somebody else made."""

from __future__ import annotations

import random
from typing import Any

import pytest

from policy_engine import Masker, policy_from_text
from policy_engine.audit.audit import Auditor
from policy_engine.audit.media_text import find_media, shape_of
from policy_engine.audit.recover import Recoverer
from policy_engine.chat.media.in_messages import media_of
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.vocabulary import MEDIA
from tests.support.media_chats import media_chat
from tests.support.pictures import picture, processor

POLICY = policy_from_text("train assistant; train eos after assistant; never train user")


def row() -> dict[str, Any]:
    made = Masker(POLICY, processor("qwen2_vl"))(
        [
            {"role": "user", "content": [{"type": "image", "image": picture()}, {"type": "text", "text": "What?"}]},
            {"role": "assistant", "content": "A cat."},
        ]
    )
    return dict(made)


def smells(*rows: dict[str, Any]) -> set[str]:
    auditor = Auditor(ChatTokenizer.from_processor(processor("qwen2_vl")), presets=())
    for number, each in enumerate(rows, 1):
        auditor.add(number, each)
    return {smell.code for smell in auditor.finish().smells}


@pytest.mark.parametrize(
    ("name", "fewest"), [("qwen2_vl", 8), ("aya_vision", 8), ("gemma3", 7), ("llava_next", 8), ("idefics3", 8)]
)
def test_conversations_with_media_are_found_again(name: str, fewest: int) -> None:
    masker = Masker(POLICY, processor(name))
    auditor = Auditor(ChatTokenizer.from_processor(processor(name)), masker.program, presets=())
    rng = random.Random(name)
    for number in range(1, 9):
        auditor.add(number, dict(masker(media_chat(rng))))
    found = auditor.finish()
    assert (8, 0) == (found.rows, found.exact)
    assert fewest <= found.recovered
    assert not found.smells
    assert 0 < found.masked["user", "media.image"]
    assert (found.recovered, []) == (found.compared, found.breaches)


@pytest.mark.parametrize("name", ["idefics3", "aya_vision", "qwen2_audio"])
def test_rows_of_the_processor_alone_are_found_again(name: str) -> None:
    """Without a policy there is no column that says where the media are."""
    tokenizer = ChatTokenizer.from_processor(processor(name))
    recoverer = Recoverer(tokenizer)
    rng = random.Random(name)
    for _ in range(4):
        messages = media_chat(rng, audio="audio" in name)
        ids = processor(name).apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"][0]
        chat = recoverer.recover(ids)
        assert chat is not None
        assert chat.input_ids == list(ids)
        media = [part["type"] for message in messages for part in message["content"] if part["type"] != "text"]
        assert media == [medium.kind for medium in media_of(chat.chat.messages)]
        assert sum(s.part in MEDIA for s in chat.chat.segments) >= len(media)


def test_two_pictures_that_meet_are_two() -> None:
    shape = shape_of(ChatTokenizer.from_processor(processor("idefics3")).media, "image")
    made = processor("idefics3")(
        text="<image><image>", images=[[picture(100, 100), picture(20, 20)]], return_text_replacement_offsets=True
    )
    texts = [offset["replacement"] for offset in made["text_replacement_offsets"][0]]
    found = find_media("\n" + "".join(texts) + "\n", [shape])
    assert [(1, 1 + len(texts[0])), (1 + len(texts[0]), 1 + len("".join(texts)))] == [(m.start, m.end) for m in found]


def test_trained_placeholders_are_named() -> None:
    good = row()
    assert not smells(good) & {"media-trained", "media-unknown"}
    assert "media-trained" in smells({**good, "labels": good["input_ids"]})


def test_rows_without_their_files_are_named() -> None:
    bare = {name: values for name, values in row().items() if name != "media"}
    assert "media-unknown" in smells(bare)
