"""Media that cannot be used: each is an error of its row that names the file, and what is wrong with it."""

from __future__ import annotations

import base64
import functools
import importlib.util
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from policy_engine import Masker, MediaError, MediaOptions
from policy_engine.chat.media.misplaced import misplaced
from policy_engine.chat.media.open_media import open_image
from policy_engine.chat.media.sounds import open_sound
from tests.chat.media.bad_files import POLICY, folder, masker
from tests.support.pictures import picture, png, processor, tone, wav

BAD: dict[str, tuple[Any, str]] = {
    "missing": ("none.png", r"`none.png` of messages\[0\].content\[0\] does not exist below"),
    "a folder": ("folder", "`folder` of .* is a folder"),
    "empty": ("empty.png", "`empty.png` is empty"),
    "another type": ("text.png", "`text.png` is not an image that Pillow reads"),
    "cut PNG": ("cut.png", "`cut.png` is broken"),
    "cut JPEG": ("cut.jpeg", "`cut.jpeg` is broken"),
    "cut WEBP": ("cut.webp", "`cut.webp` is (broken|not an image)"),
    "cut BMP": ("cut.bmp", "`cut.bmp` is broken"),
    "cut TIFF": ("cut.tiff", "`cut.tiff` is (broken|not an image)"),
    "a flipped byte": ("flipped.png", "`flipped.png` is broken"),
    "one pixel": ("pixel.png", "`pixel.png` has 1 × 1 pixels: nothing to see"),
    "20,000 × 20,000": ("huge.png", "`huge.png` (has 20000 × 20000 pixels, more than|is too large)"),
    "more bytes than may be": ("big.png", "`big.png` has .* bytes, more than 1,000,000"),
    "animated": ("moving.gif", "`moving.gif` has 3 frames"),
    "animated WebP": ("moving.webp", "`moving.webp` has 3 frames"),
    "animated AVIF": ("moving.avif", "`moving.avif` has 3 frames"),
    "HEIC": ("photo.heic", "`photo.heic` is not an image that Pillow reads"),
    "SVG": ("lines.svg", "`lines.svg` is not an image that Pillow reads"),
    "no width": (Image.new("RGB", (0, 5)), "the image of .* has 0 × 5 pixels: nothing to see"),
    "an array of floats": (np.zeros((8, 8, 3)), "the array of .* is not an image"),
    "an array with its channels first": (np.zeros((3, 8, 8), dtype=np.uint8), "the array of .* is not an image"),
    "an object in an object": ({"path": {"a": 1}}, "has neither a path nor bytes"),
    "CMYK": ("print.jpg", "`print.jpg` is in CMYK"),
    "a shape the processor refuses": ("thin.png", "refuses a picture of 3000 × 4 pixels"),
    "a URL": (
        "https://example.org/a.png",
        "`https://example.org/a.png` is not fetched: rows may not reach the network",
    ),
    "another protocol": ("ftp://example.org/a.png", "only http and https are"),
    "a path outside": ("../outside.png", r"`../outside.png` of .* leads out of the media root"),
    "an absolute path": ("/etc/passwd", "`/etc/passwd` of .* leads out of the media root"),
    "a link outside": ("out.png", "`out.png` of .* leads out of the media root"),
    "a path with NUL": ("a\0.png", "is not a path below"),
    "broken bytes": (
        {"bytes": b"\x89PNG\r\n\x1a\nrest", "path": "x.png"},
        r"the bytes of .* \(`x.png`\) is (broken|not an)",
    ),
    "text for bytes": ({"bytes": "text"}, "are a str, not bytes"),
    "broken base64": ("data:image/png;base64,@@@", "the base64 text of .* is not base64"),
    "base64 without its padding": ({"base64": "UE5HMg"}, "the base64 text of .* is not base64: Incorrect padding"),
    "base64 that is bytes": ({"base64": b"UE5H"}, "the base64 text of .* is a bytes, not text"),
    "a data URL that is text": ("data:image/png,abcd", "the data URL of .* is not base64: it begins with `data:image/"),
    "base64 in place of a path": (base64.b64encode(bytes(4000)).decode(), "`A{200}…` of .* cannot be read: File name"),
    "a name that is too long": ("a/" * 5000, "cannot be read: File name too long"),
    "a name with a line break": ("a\nb.png", r"`a\\nb.png` of .* does not exist"),
    "a pipe": ("pipe.png", "`pipe.png` of .* is not a file"),
    "a link to itself": ("loop.png", "`loop.png` of .* cannot be read: Too many levels of symbolic links"),
    "16 bits a channel": ("deep.png", "`deep.png` has more than 8 bits a channel"),
    "floats": ("float.tiff", "`float.tiff` has more than 8 bits a channel"),
    "an object with two sources": ({"path": "good.png", "url": "https://a"}, "under several keys: `url`, `path`"),
    "an object without a source": ({"detail": "low"}, r"messages\[0\].content\[0\] has no data"),
    "no name": ("", "is of type `image` and has no data"),
    "a number": (7, "is a number, which is not a medium"),
    "an array of no picture": (np.zeros((2, 3, 4, 5)), "is not an image"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_picture_is_an_error_of_its_row(kind: str) -> None:
    source, expected = BAD[kind]
    bad = [
        {"role": "user", "content": [{"type": "image", "image": source}, {"type": "text", "text": "?"}]},
        {"role": "assistant", "content": "Yes."},
    ]
    good = [{**bad[0], "content": [{"type": "image", "image": "good.png"}, *bad[0]["content"][1:]]}, bad[1]]
    with pytest.raises(MediaError, match=expected):
        masker()(bad)
    from policy_engine.data.conversation import Conversation

    first, second, third = masker().mask_batch(Conversation(messages=tuple(m)) for m in (good, bad, good))
    assert isinstance(second, MediaError)
    assert first.labels == third.labels  # type: ignore[union-attr]


def test_bad_pictures_fail_a_processor_that_decodes_too() -> None:
    made = Masker(POLICY, processor("llava_onevision"), media=MediaOptions(root=folder(), max_bytes=1_000_000))
    made.tokenizer._media_encoder.texts.measures = False  # type: ignore[union-attr]  # as without sizes alone
    for kind in ("cut PNG", "cut JPEG", "one pixel", "CMYK", "a path outside", "a URL"):
        source, expected = BAD[kind]
        with pytest.raises(MediaError, match=expected):
            made(
                [
                    {"role": "user", "content": [{"type": "image", "image": source}, {"type": "text", "text": "?"}]},
                    {"role": "assistant", "content": "Yes."},
                ]
            )


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": "image"}, r"messages\[0\].content\[0\] is of type `image` and has no data"),
        ({"type": "image", "image": "good.png", "url": "good.png"}, "has its image under several keys: `image`, `url`"),
        ({"type": "audio", "audio": tone()}, "of kind `audio`, which Qwen2VLProcessor does not take"),
        ({"image": "good.png"}, r"messages\[0\].content\[0\] has `image`, and its type is missing"),
        ({"type": "Image", "image": "good.png"}, "has `image`, and its type is `Image`"),
        ({"type": ["image"], "image": "good.png"}, r"has `image`, and its type is `\['image'\]`"),
        ({"type": "text", "text": "Hi", "image": "good.png"}, "has `image`, and its type is `text`"),
        ({"type": "images", "images": ["good.png"]}, "is of type `images`, which no processor reads"),
        ({"type": "image", "image": "good.png", "images": ["good.png"]}, "has its media under `images`"),
        (
            {"type": "tool_result", "content": [{"type": "image", "path": "good.png"}]},
            r"content\[0\] holds a part of type `image` under `content\[0\]`, which no processor reads",
        ),
        ({"type": "image", "base64": " \n"}, "the base64 text of .* is empty"),
        ({"type": "image", "image": "data:image/png;base64,"}, "the base64 text of .* is empty"),
        ({"type": "image", "image": ["good.png"]}, "is a list, which is not a medium"),
        ({"type": "image", "image": True}, "is a boolean, which is not a medium"),
    ],
)
def test_a_bad_part_is_an_error_of_its_row(part: dict[str, Any], expected: str) -> None:
    with pytest.raises(MediaError, match=expected):
        masker()([{"role": "user", "content": [part]}, {"role": "assistant", "content": "Yes."}])


@pytest.mark.parametrize("field", ["image", "images", "video", "audios"])
def test_media_beside_the_content_of_a_message_are_an_error_of_its_row(field: str) -> None:
    answer = {"role": "assistant", "content": "Yes."}
    user = {"role": "user", "content": "What is it?", field: ["good.png"]}
    with pytest.raises(MediaError, match=rf"messages\[0\] has `{field}` beside its content, which no processor reads"):
        masker()([user, answer])
    assert masker()([{**user, field: []}, answer]).labels == masker()([{**user, field: None}, answer]).labels


def test_of_several_fields_the_same_one_is_named_in_each_process() -> None:
    message = {"role": "user", "content": "Hi", "videos": ["v"], "image": "a", "images": ["b"], "audios": ["c"]}
    found = misplaced([message])
    assert found is not None
    assert found[0].startswith("messages[0] has `audios`")


@pytest.mark.parametrize("role", ["system", "assistant", "tool"])
def test_media_of_other_roles_are_found_or_refused(role: str) -> None:
    part = {"type": "image", "image": "good.png"}
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": role, "content": [part]},
        {"role": "assistant", "content": "Y"},
    ]
    if role == "system":
        messages = [messages[1], messages[0], messages[2]]
    row = masker()(messages)
    assert [(m["turn"], m["count"]) for m in row["media"]] == [(0 if role == "system" else 1, 4)]
    part["image"] = "none.png"
    with pytest.raises(MediaError, match=r"`none.png` of messages\[\d\].content\[0\] does not exist"):
        masker()(messages)


def test_files_need_a_root() -> None:
    made = Masker(POLICY, processor("qwen2_vl"))
    with pytest.raises(MediaError, match="no folder is given for files of media"):
        made(
            [
                {"role": "user", "content": [{"type": "image", "path": "good.png"}]},
                {"role": "assistant", "content": "Yes."},
            ]
        )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_picture_that_is_turned_by_its_exif_is_measured_upright(kind: str) -> None:
    # Here, since `tests.support.pictures` has to make torchvision importable first.
    from transformers.image_utils import load_image

    exif = Image.Exif()
    exif[0x0112] = 6
    data = png(picture(112, 56), kind, exif=exif.tobytes())
    row = masker()(
        [{"role": "user", "content": [{"type": "image", "bytes": data}]}, {"role": "assistant", "content": "Yes."}]
    )
    assert (row["media"][0]["width"], row["media"][0]["height"]) == (56, 112)
    opened = open_image(data, MediaOptions(), "it")
    assert (opened.size, opened.mode) == ((56, 112), "RGB")
    assert opened.tobytes() == load_image(Image.open(io.BytesIO(data))).tobytes()


def test_names_of_files_are_read_in_any_usual_spelling() -> None:
    whole = png(picture(112, 56))
    text = base64.b64encode(whole).decode()
    sources: list[Any] = [
        "good.png",
        f"file://{folder()}/good.png",
        "file://go%6fd.png",
        f"DATA:image/png;base64,{text}",
        {"base64": base64.encodebytes(whole).decode()},
        {"url": "good.png", "path": ""},
    ]
    for source in sources:
        parts = [{"type": "image", "image": source}]
        row = masker()([{"role": "user", "content": parts}, {"role": "assistant", "content": "Yes."}])
        assert row["media"][0]["count"] > 0


@functools.cache
def listening() -> Masker:
    return Masker(POLICY, processor("qwen2_audio"))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"array": tone(rate=8000), "sampling_rate": 8000}, "has 8000 samples a second, and the processor takes 16000"),
        ({"bytes": wav(tone())[:200]}, "is broken"),
        ({"bytes": b"RIFF....WAVEjunk"}, "cannot be read as sound|nothing is installed that reads it"),
        ({"bytes": b"ID3 no sound"}, "cannot be read as sound|is no WAV file .*, and nothing is installed"),
        (np.array([], dtype=np.float32), "has no samples"),
        (np.array([np.nan], dtype=np.float32), "samples that are not numbers"),
        (np.zeros((2, 100), dtype=np.float32), "has 2 × 100 samples, not those of one channel"),
        ({"bytes": wav(np.zeros(0, dtype=np.float32))}, "the bytes of .* has no samples"),
        (np.zeros(1, dtype=np.float32), "the processor writes no token for .*: it is too short"),
        ((tone() * 32767).astype(np.int16), "has samples up to 32,767, and a processor takes them from -1 to 1"),
        (
            {"array": [0.1] * 40_000, "sampling_rate": 16000},
            "2.5 s, of which Qwen2Audio.* the first 2 s alone",
        ),
        ({"array": [0.0] * 9, "sampling_rate": "16000"}, "`sampling_rate` of the sound of .* is text, not a number"),
        ({"array": ["a"], "sampling_rate": 16_000}, "is not a list of samples: could not convert"),
        ({"array": [0.0] * 9, "sampling_rate": 0}, "has 0 samples a second, and the processor takes 16000"),
        (True, "is a boolean, which is not a medium"),
    ],
)
def test_a_bad_sound_is_an_error_of_its_row(source: Any, expected: str) -> None:
    made = listening()
    with pytest.raises(MediaError, match=expected):
        made(
            [
                {"role": "user", "content": [{"type": "audio", "audio": source}, {"type": "text", "text": "?"}]},
                {"role": "assistant", "content": "Yes."},
            ]
        )


def test_a_sound_is_read_from_a_wav_file_and_from_samples() -> None:
    made = listening()
    rows = [
        made(
            [
                {"role": "user", "content": [{"type": "audio", "audio": source}, {"type": "text", "text": "?"}]},
                {"role": "assistant", "content": "Yes."},
            ]
        )
        for source in ({"bytes": wav(tone(0.7))}, {"array": tone(0.7), "sampling_rate": 16_000}, tone(0.7))
    ]
    assert rows[0].input_ids == rows[1].input_ids == rows[2].input_ids
    assert rows[0]["media"][0]["count"] > 5


def test_a_sound_of_another_rate_is_read_or_the_library_is_named() -> None:
    data = {"bytes": wav(tone(0.7, rate=22_050), 22_050)}
    if importlib.util.find_spec("soundfile") is None or importlib.util.find_spec("soxr") is None:
        with pytest.raises(MediaError, match=r"is no WAV file of integers .* with 16,000 samples a second") as caught:
            open_sound(data, MediaOptions(), "it", rate=16_000)
        assert "soundfile soxr" in str(caught.value.help)
        return
    made = open_sound(data, MediaOptions(), "it", rate=16_000)
    assert abs(len(made) - 0.7 * 16_000) < 2
    assert 0.9 < float(np.abs(made).max()) < 1.1


def test_a_rate_may_be_a_number_of_numpy() -> None:
    for rate in (np.int64(16_000), np.float32(16_000)):
        source = {"array": [0.5] * 9, "sampling_rate": rate}
        assert open_sound(source, MediaOptions(), "a row", rate=16_000).tolist() == [0.5] * 9


def test_openai_gives_sounds_as_base64() -> None:
    made = Masker(POLICY, processor("qwen2_audio"))
    text = base64.b64encode(wav(tone(0.7))).decode()
    part = {"type": "input_audio", "input_audio": {"data": text, "format": "wav"}}
    row = made([{"role": "user", "content": [part]}, {"role": "assistant", "content": "Yes."}])
    assert [("audio", None)] == [(m["kind"], m["source"]) for m in row["media"]]
    assert row["media"][0]["count"] > 5
