"""Conversations with media made at random, and a masked row beside the processor's own ids."""

from __future__ import annotations

import copy
import random
from typing import Any

from policy_engine import Masker
from policy_engine.mask.row import MaskedRow
from tests.support.pictures import picture, tone

_WORDS = ("zebra", "is", "it", "a b", "naïve", "日本語", "🙂 ", "x=1;", "\n", " two  blanks", "<b>", "What", "of?")
_SIZES = ((64, 48), (48, 64), (100, 100), (33, 90), (200, 60), (31, 31), (120, 77))


def words(rng: random.Random) -> str:
    return "".join(rng.choice(_WORDS) + rng.choice((" ", "")) for _ in range(rng.randint(1, 8))).strip() or "so"


def medium(rng: random.Random, *, audio: bool = False, video: bool = False) -> dict[str, Any]:
    """A content part with a picture, a sound or a few frames."""
    if audio:
        return {"type": "audio", "audio": tone(rng.uniform(0.2, 1.5))}
    width, height = rng.choice(_SIZES)
    if video:
        return {"type": "video", "video": [picture(64, 48, rng.randrange(99)) for _ in range(rng.choice((2, 4, 5)))]}
    return {"type": "image", "image": picture(width, height, rng.randrange(99))}


def media_chat(
    rng: random.Random, *, audio: bool = False, video: bool = False, most: int = 4, quoted: str | None = None
) -> list[dict[str, Any]]:
    """A conversation of 1 to 3 rounds with 0 to `most` media in user turns; `quoted` stands in some text."""
    left = rng.randint(0, most)
    messages: list[dict[str, Any]] = []
    if rng.random() < 0.3:
        messages.append({"role": "system", "content": [{"type": "text", "text": words(rng)}]})
    rounds = rng.randint(1, 3)
    for at in range(rounds):
        count = left if at == rounds - 1 else rng.randint(0, left)
        left -= count
        parts = [medium(rng, audio=audio, video=video) for _ in range(count)]
        parts += [{"type": "text", "text": words(rng)} for _ in range(rng.randint(1, 2))]
        rng.shuffle(parts)
        messages.append({"role": "user", "content": parts})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": words(rng)}]})
    if quoted is not None:
        texts = [p for m in messages for p in m["content"] if p["type"] == "text"]
        chosen = rng.choice(texts)
        chosen["text"] += quoted
    return messages


def beside(masker: Masker, messages: list[dict[str, Any]]) -> MaskedRow:
    """The masked row, its ids and columns asserted to be those of the processor's own call."""
    assert masker.tokenizer.media is not None
    processor = masker.tokenizer.media.processor
    truth = processor.apply_chat_template(copy.deepcopy(messages), tokenize=True, return_dict=True)
    row = masker(messages)
    assert row.input_ids == list(truth["input_ids"][0])
    for name in masker.tokenizer.media.columns:
        expected = list(map(int, truth[name][0])) if name in truth else [0] * len(row.input_ids)
        assert row[name] == expected, name
    per_token = {name for name in truth if len(truth[name]) == 1 and _length(truth[name][0]) == len(row.input_ids)}
    assert per_token <= {"input_ids", "attention_mask", *masker.tokenizer.media.columns}
    return row


def _length(value: Any) -> int | None:
    flat = getattr(value, "ndim", 1) == 1 and hasattr(value, "__len__")
    return len(value) if flat else None
