"""Sounds whose tokens are known from their number of samples, beside the processor's own call."""

from __future__ import annotations

import copy
import io
import wave
from typing import Any

import numpy as np
import pytest

from policy_engine import Masker, MediaOptions, policy_from_text
from policy_engine.chat.media.by_length import ByLength, by_length
from policy_engine.chat.media.processor import MediaProcessor
from policy_engine.chat.media.sounds import open_sound, read_sound
from policy_engine.chat.media.texts import MediaTexts
from policy_engine.core.errors import MediaError
from tests.support.media_chats import beside
from tests.support.pictures import processor, tone, wav

POLICY = policy_from_text("train assistant; never train media")


def _texts(masker: Masker) -> MediaTexts:
    assert masker.tokenizer._media_encoder is not None
    return masker.tokenizer._media_encoder.texts


def _sounds(masker: Masker) -> ByLength:
    measured = _texts(masker).measured(["audio"])
    assert measured is not None
    assert measured.sounds is not None
    return measured.sounds


def _chat(*lengths: int, answer: str = "A.") -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [{"type": "audio", "audio": tone(1.0)[:length]} for length in lengths]
    parts.append({"type": "text", "text": "What is \u00e9?"})
    return [{"role": "user", "content": parts}, {"role": "assistant", "content": [{"type": "text", "text": answer}]}]


def test_sounds_that_are_measured_give_the_row_of_sounds_that_are_decoded() -> None:
    made = Masker(POLICY, processor("qwen2_audio"))
    sounds = _sounds(made)
    assert (sounds.unit, sounds.before, sounds.after, sounds.alone) == ("<|AUDIO|>", "", "", False)
    assert sounds.to_compare == 3
    decoding = Masker(POLICY, processor("qwen2_audio"), media=MediaOptions(measure=False))
    assert _texts(decoding).measured(["audio"]) is None
    # Around the edge of a token of 640 samples, and several in a row.
    for at, lengths in enumerate([(16_000,), (9_000, 9_600), (3_000,), (6_560,), (6_561,), (6_720, 1_600)]):
        messages = _chat(*lengths, answer=f"It is {at}.")
        first, second = beside(made, messages), decoding(messages)
        assert dict(first) == dict(second)
        assert first.tokenized.starts_T.tolist() == second.tokenized.starts_T.tolist()
    assert sounds.to_compare == 0
    assert _texts(made).measured(["audio"]).given  # type: ignore[union-attr]


def test_a_count_of_samples_is_the_processors_at_every_edge() -> None:
    media = MediaProcessor(processor=processor("qwen2_audio"))
    found = by_length(media)
    assert found is not None
    assert (found.shortest, found.longest) == (1_600, 32_000)
    edges = [at for at in range(1_601, 32_001) if found.count(at) != found.count(at - 1)]
    assert np.diff(edges).tolist() == [640] * (len(edges) - 1)
    for at in (edges[0] - 1, edges[0], edges[20] - 1, edges[20], edges[-1] - 1, edges[-1]):
        assert found.text(at) == media.write("<|AUDIO|>", {"audio": [tone(2.0)[:at]]}).texts[0]
    assert found.text(1_599) is None
    assert found.text(32_001) is None


def _strange(count: Any) -> Any:
    """Qwen2-Audio's processor with another number of tokens for a sound."""
    made = copy.copy(processor("qwen2_audio"))

    class Strange(type(made)):  # type: ignore[misc]
        def _process_audio(self, audio: Any, **kwargs: Any) -> Any:
            found, _ = super()._process_audio(audio, **kwargs)
            return found, [self.audio_token * count(sound) for sound in audio]

    made.__class__ = Strange
    return made


@pytest.mark.parametrize(
    "count",
    [
        lambda sound: len(sound) // 640 + int(sound[0] == 0),  # silence has another number
        lambda sound: int(np.sqrt(len(sound))),  # tokens of growing length
        lambda sound: len(sound) // 640 + (len(sound) > 31_000),  # one more at the end
    ],
)
def test_sounds_whose_length_does_not_decide_are_decoded(count: Any) -> None:
    assert by_length(MediaProcessor(processor=_strange(count))) is None
    assert by_length(MediaProcessor(processor=_strange(lambda sound: len(sound) // 700))) is not None


def test_a_row_that_differs_ends_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Masker(POLICY, processor("qwen2_audio"))
    sounds = _sounds(made)
    sounds.count = lambda samples: 1
    # The first rows are compared, so that no wrong row is given.
    beside(made, _chat(16_000))
    assert not _texts(made).measures

    made = Masker(POLICY, processor("qwen2_audio"))
    for at in range(5):
        made(_chat(8_000 + at))
    _sounds(made).count = lambda samples: 1
    monkeypatch.setattr("policy_engine.chat.media.measured.is_sampled", lambda text, one_in: True)
    with pytest.raises(MediaError, match=r"writes another text for the media of the row .* rows before may have wrong"):
        made(_chat(16_000))
    beside(made, _chat(16_000))


def test_a_picture_that_shows_another_text_ends_quick_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.support.pictures import picture

    def chat(seed: int) -> list[dict[str, Any]]:
        part = {"type": "image", "image": picture(60, 40 + seed, seed)}
        return [{"role": "user", "content": [part]}, {"role": "assistant", "content": [{"type": "text", "text": "A"}]}]

    made = Masker(POLICY, processor("llava_next"))
    _texts(made).measures = False
    for seed in range(5):
        beside(made, chat(seed))
    media = made.tokenizer.media
    assert media is not None
    assert media._quick == {"do_rescale": False, "do_normalize": False, "resample": 0}
    monkeypatch.setattr("policy_engine.chat.media.texts.is_sampled", lambda text, one_in: True)
    media.__dict__["_quick"] = {"size": {"shortest_edge": 112}}
    monkeypatch.setattr(
        type(media), "write_quickly", lambda self, text, given, what="": self.write(f"{text} more", given)
    )
    with pytest.raises(MediaError, match="rows before may have wrong ids"):
        made(chat(7))
    assert not media.is_quick({"image": [picture()]})


def _file(width: int, channels: int, frames: int) -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(16_000)
        file.writeframes(bytes(range(100)) * (frames * width * channels // 100))
    return stream.getvalue()


@pytest.mark.parametrize(("width", "channels"), [(1, 1), (2, 1), (2, 2), (4, 1), (4, 2)])
def test_a_file_has_as_many_samples_measured_as_decoded(width: int, channels: int) -> None:
    data = _file(width, channels, 1_000)
    opened = open_sound(data, MediaOptions(), "here", rate=16_000)
    assert read_sound(data, MediaOptions(), "here", rate=16_000).size == len(opened) == 1_000
    assert opened.dtype == np.float32


def test_a_file_is_decoded_once_also_where_its_length_was_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Masker(POLICY, processor("qwen2_audio"))
    decoding = Masker(POLICY, processor("qwen2_audio"), media=MediaOptions(measure=False))
    for at in range(4):
        made(_chat(8_000 + at))
    decoded: list[int] = []

    def decode(data: bytes, name: str, rate: int) -> Any:
        decoded.append(len(data))
        return tone(1.0)[: len(data)]

    monkeypatch.setattr("policy_engine.chat.media.sounds._decoded", decode)
    # Sounds of 0.1 s and more were compared; shorter ones go through the processor.
    for sizes in ((8_000,), (1_500,), (1_500, 8_000)):
        messages = _chat(*sizes)
        expected = decoding(messages)
        for part, size in zip(messages[0]["content"], sizes):
            part["audio"] = bytes(size)
        row = made(messages)
        assert dict(row) == {**expected, "media": row["media"]}
        assert [m["count"] for m in row["media"]] == [m["count"] for m in expected["media"]]
        assert decoded == list(sizes)
        decoded.clear()


def test_bad_sounds_fail_when_they_are_measured() -> None:
    for source, expected in (
        (wav(tone(0.5))[:-100], "is broken: 100 bytes are missing"),
        (wav(tone(0.5)[:0]), "has no samples"),
        # A part in front of the samples that says it goes on behind the file.
        (wav(tone(0.5))[:12] + b"LIST\xff\xff\xff\x7f" + wav(tone(0.5))[12:], "is broken: it ends too early"),
        ([0.0, float("nan")], "has samples that are not numbers"),
        ({"array": [0.0], "sampling_rate": 8_000}, "has 8000 samples a second"),
    ):
        with pytest.raises(MediaError, match=expected):
            read_sound(source, MediaOptions(), "messages[0].content[0]", rate=16_000)
