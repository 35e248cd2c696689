"""Labels of rows with media that somebody else made."""

from __future__ import annotations

import random
from typing import Any

import pytest

from policy_engine import Masker, policy_from_text
from policy_engine.audit.audit import Auditor
from policy_engine.chat.tokenizer import ChatTokenizer
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


@pytest.mark.parametrize(("name", "fewest"), [("qwen2_vl", 8), ("aya_vision", 8), ("gemma3", 7), ("llava_next", 6)])
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


def test_trained_placeholders_are_named() -> None:
    good = row()
    assert not smells(good) & {"media-trained", "media-unknown"}
    assert "media-trained" in smells({**good, "labels": good["input_ids"]})


def test_rows_without_their_files_are_named() -> None:
    bare = {name: values for name, values in row().items() if name != "media"}
    assert "media-unknown" in smells(bare)
