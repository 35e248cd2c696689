"""Ids, columns and masks of processors, beside their own `apply_chat_template`."""

from __future__ import annotations

import copy
import functools
import pickle
import random
from typing import Any

import pytest

from policy_engine import Masker, policy_from_text
from policy_engine.chat.media.by_size import BySize
from policy_engine.chat.media.encode import MediaEncoder
from policy_engine.chat.media.processor import MediaProcessor
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import MediaError, TokenizerError
from policy_engine.core.vocabulary import MEDIA
from tests.support.media_chats import beside, media_chat
from tests.support.pictures import WITHOUT_TORCH, picture, processor, tone

POLICY = policy_from_text("train assistant; train eos after assistant; never train user; never train media")


def _pictures(encoder: MediaEncoder) -> BySize:
    measured = encoder.texts.measured(["image"])
    assert measured is not None
    assert measured.pictures is not None
    return measured.pictures


@functools.cache
def masker(name: str) -> Masker:
    return Masker(POLICY, processor(name))


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_ids_and_columns_are_the_processors(name: str) -> None:
    made = masker(name)
    rng = random.Random(name)
    for _ in range(4):  # `make media-parity` has 500
        messages = media_chat(rng, audio="audio" in name)
        beside(made, messages)


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_answers_are_trained_and_media_are_not(name: str) -> None:
    made = masker(name)
    medium = {"type": "audio", "audio": tone()} if "audio" in name else {"type": "image", "image": picture()}
    messages = [
        {"role": "user", "content": [medium, {"type": "text", "text": "What is zebra?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "A quokka."}]},
    ]
    row = made(messages)
    trained = "".join(made.tokenizer.decode_token(i) for i in row.labels if i != -100)
    assert "quokka" in trained
    assert "zebra" not in trained
    parts = {row.chat.segments[s].part for s in row.mask.segments_T[row.mask.weights_T != 0].tolist()}
    assert not parts & MEDIA
    assert [m["count"] > 0 for m in row["media"]] == [True]
    assert set(row.keys()) == {"input_ids", "labels", "attention_mask", "media", *made.tokenizer.media.columns}


def test_a_medium_knows_its_tokens_and_its_size() -> None:
    row = masker("qwen2_vl")(
        [
            {
                "role": "user",
                "content": [{"type": "text", "text": "Look:"}, {"type": "image", "image": picture(112, 56)}],
            },
            {"role": "assistant", "content": "A cat."},
        ]
    )
    (medium,) = row["media"]
    assert medium == {
        "kind": "image", "turn": 0, "item": 1, "source": None, "width": 112, "height": 56, "first": medium["first"],
        "count": 8,
    }  # fmt: skip
    ids = row.input_ids[medium["first"] : medium["first"] + 8]
    assert ids == [processor("qwen2_vl").image_token_id] * 8
    assert row["mm_token_type_ids"][medium["first"] - 1 : medium["first"] + 9] == [0, *[1] * 8, 0]


def test_wrapper_tokens_are_media_and_can_be_trained_by_name() -> None:
    messages = [
        {"role": "user", "content": [{"type": "image", "image": picture()}, {"type": "text", "text": "?"}]},
        {"role": "assistant", "content": "A cat."},
    ]
    row = Masker(policy_from_text("train media.image of user"), processor("qwen2_vl"))(messages)
    tok = processor("qwen2_vl").tokenizer
    assert tok.decode([i for i in row.labels if i != -100]) == (
        "<|vision_start|>" + "<|image_pad|>" * row["media"][0]["count"] + "<|vision_end|>"
    )


@pytest.mark.parametrize("name", ["qwen2_vl", "llava", "idefics3", "gemma3"])
def test_a_placeholder_in_data_is_refused_by_message_and_field(name: str) -> None:
    token = processor(name).image_token
    for turn in (0, 1):
        messages: list[dict[str, Any]] = [
            {"role": "user", "content": [{"type": "image", "image": picture()}, {"type": "text", "text": "Hi"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "Yes."}]},
        ]
        messages[turn]["content"][-1]["text"] += f" {token}?"
        with pytest.raises(
            MediaError, match=rf"`content.*text` of messages\[{turn}\] .* writes `{token}`".replace("|", "\\|")
        ):
            masker(name)(messages)


def test_a_tokenizer_with_media_is_refused_unless_the_policy_ignores_them() -> None:
    tok = processor("qwen2_vl").tokenizer
    messages = [
        {"role": "user", "content": [{"type": "image", "image": "cat.png"}, {"type": "text", "text": "?"}]},
        {"role": "assistant", "content": "A cat."},
    ]
    with pytest.raises(MediaError, match="a tokenizer is given") as caught:
        Masker(POLICY, tok)(messages)
    assert caught.value.code == "PE532"
    ignoring = policy_from_text("train assistant; train eos after assistant; on media ignore")
    row = Masker(ignoring, tok)(messages)
    assert row.input_ids.count(processor("qwen2_vl").image_token_id) == 1
    assert "media" not in row


def test_images_are_given_beside_the_messages() -> None:
    made = masker("qwen3_vl")
    parts = [
        {"role": "user", "content": [{"type": "image", "image": picture(seed=3)}, {"type": "text", "text": "What?"}]},
        {"role": "assistant", "content": "A cat."},
    ]
    marked = [{"role": "user", "content": "<image>What?"}, {"role": "assistant", "content": "A cat."}]
    bare = copy.deepcopy(parts)
    bare[0]["content"][0] = {"type": "image"}
    expected = made(parts).input_ids
    assert made(marked, images=[picture(seed=3)]).input_ids == expected
    assert made(bare, images=[picture(seed=3)]).input_ids == expected
    with pytest.raises(MediaError, match="has 2 images, and the messages have 1 place for them"):
        made(marked, images=[picture(), picture()])


def test_measured_and_decoded_pictures_give_the_same() -> None:
    """Where a processor counts tokens itself, pictures are measured; what it is asked then is held to its own call."""
    for name in ("qwen2_vl", "idefics3", "gemma3", "llava_next"):
        made = masker(name).tokenizer._media_encoder
        assert made is not None
        pictures = _pictures(made)
        repeated = pictures.repeated
        assert (repeated is not None) == (name != "idefics3")
        for size in ((70, 50), (51, 300), (640, 111)):
            token = made.media.tokens["image"]
            assert pictures.text(*size) == made.media.write(token, {"image": [picture(*size)]}).texts[0]


def test_refused_classes_are_named_with_the_reason() -> None:
    from transformers import CLIPProcessor, Idefics2Processor

    for cls, reason in (
        (CLIPProcessor, "it puts no placeholders"),
        (Idefics2Processor, "expands placeholders on its own"),
    ):
        made = cls.__new__(cls)
        made.tokenizer = processor("qwen2_vl").tokenizer
        with pytest.raises(TokenizerError, match=f"{cls.__name__} cannot be used: .*{reason}"):
            Masker(POLICY, made)


def test_a_processor_that_writes_text_of_its_own_is_refused() -> None:
    with pytest.raises(TokenizerError, match="PaliGemmaProcessor cannot be used: it takes no text without media"):
        masker("paligemma")([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}])


def test_special_tokens_are_added_as_the_processor_adds_them() -> None:
    """LLaVA-NeXT lets its tokenizer write `<s>`, on rows of text too; the tokenizer's own chat template does not."""
    messages = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]},
                {"role": "assistant", "content": [{"type": "text", "text": "Ho"}]}]  # fmt: skip
    row = masker("llava_next")(messages)
    truth = processor("llava_next").apply_chat_template(messages, tokenize=True, return_dict=True)
    assert row.input_ids == list(truth["input_ids"][0])
    assert row.chat.segments[0].part == "bos"
    assert row.input_ids[0] == processor("llava_next").tokenizer.bos_token_id
    assert row.labels[0] == -100


def test_a_masker_with_a_processor_pickles() -> None:
    made = masker("qwen2_vl")
    messages = [
        {"role": "user", "content": [{"type": "image", "image": picture()}, {"type": "text", "text": "?"}]},
        {"role": "assistant", "content": "A cat."},
    ]
    again = pickle.loads(pickle.dumps(made))
    assert again(messages).labels == made(messages).labels
    assert again.fingerprint == made.fingerprint


def test_labels_of_text_are_those_without_media_shifted() -> None:
    for name in ("qwen2_vl", "llava_next", "idefics3", "gemma3"):
        made = masker(name)
        rng = random.Random(5)
        for _ in range(5):
            messages = media_chat(rng)
            bare = [{**m, "content": [p for p in m["content"] if p["type"] == "text"]} for m in messages]
            with_media, without = made(messages), made(bare)
            assert _trained_text(made, with_media) == _trained_text(made, without)


def _trained_text(made: Masker, row: Any) -> list[str]:
    return [made.tokenizer.decode_token(i) for i in row.labels if i != -100]


def test_what_a_template_sees_of_a_medium_is_no_object() -> None:
    """A template could call methods of a picture, such as `save`."""
    tokenizer = ChatTokenizer.from_processor(
        processor("qwen2_vl"), "{% for m in messages %}{% for c in m.content %}{{ c.image }}|{% endfor %}{% endfor %}"
    )
    from policy_engine.data.conversation import Conversation

    chat = Conversation(messages=({"role": "user", "content": [{"type": "image", "image": picture()}]},))
    assert tokenizer.template_for(chat).render(chat).text == "medium|"


@pytest.mark.parametrize("name", ["qwen2_vl", "llava_onevision", "idefics3", "aya_vision"])
def test_pictures_that_are_measured_give_the_row_of_pictures_that_are_decoded(name: str) -> None:
    measuring, decoding = Masker(POLICY, processor(name)), Masker(POLICY, processor(name))
    encoders = measuring.tokenizer._media_encoder, decoding.tokenizer._media_encoder
    assert encoders[0] is not None
    assert encoders[1] is not None
    pictures = _pictures(encoders[0])
    # Texts that follow from no count of tokens are trusted after three rows.
    assert pictures.to_compare == (0 if name in ("qwen2_vl", "llava_onevision") else 3)
    pictures.to_compare = 0
    assert pictures.blank._quick is not None
    encoders[1].texts.measures = False
    parts = [{"type": "image", "image": picture(*size)} for size in ((200, 60), (48, 64), (200, 60))]
    for count in (1, 2, 3):
        content = [*parts[:count], {"type": "text", "text": "What is \u00e9?"}]
        messages = [
            {"role": "user", "content": content},
            {"role": "assistant", "content": [{"type": "text", "text": "A."}]},
        ]
        first, second = measuring(messages), decoding(messages)
        assert dict(first) == dict(second)
        assert first.tokenized.starts_T.tolist() == second.tokenized.starts_T.tolist()
        assert first.tokenized.ends_T.tolist() == second.tokenized.ends_T.tolist()


def test_texts_by_size_are_given_after_pictures_of_the_data_agree() -> None:
    """The first rows with pictures are decoded; one that differs from a blank picture ends measuring."""
    made = Masker(POLICY, processor("aya_vision"))
    encoder = made.tokenizer._media_encoder
    assert encoder is not None
    pictures = _pictures(encoder)
    asked: list[Any] = []

    def chat(seed: int) -> list[dict[str, Any]]:
        part = {"type": "image", "image": picture(60, 40 + seed, seed)}
        return [{"role": "user", "content": [part]}, {"role": "assistant", "content": "A."}]

    for seed in range(4):
        assert pictures.to_compare == 3 - min(seed, 3)
        beside(made, chat(seed))
    pictures.to_compare = 1
    encoder.texts.measured(["image"]).given = False  # type: ignore[union-attr]
    pictures.text = lambda width, height: asked.append((width, height)) or "another"  # type: ignore[method-assign]
    assert made(chat(5)).input_ids == beside(made, chat(5)).input_ids
    assert (asked, encoder.texts.measures) == ([(60, 45)], False)


def test_replacements_are_taken_from_a_class_that_does_not_give_them() -> None:
    """NemotronH Omni's call keeps to itself what it writes for placeholders."""
    made = copy.copy(processor("qwen2_vl"))
    called = type(made).__call__

    class Silent(type(made)):  # type: ignore[misc]
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            found = called(self, *args, **kwargs)  # goes through get_text_with_replacements
            found.pop("text_replacement_offsets", None)
            return found

    made.__class__ = Silent
    written = MediaProcessor(processor=made).write(f"a{made.image_token}b", {"image": [picture()]})
    assert written.texts == [made.image_token * 4]


def test_pixels_are_scaled_where_text_depends_on_it() -> None:
    """A processor that writes another text for floats than for bytes is called as it is."""
    made = copy.copy(processor("qwen2_vl"))
    plain = MediaProcessor(processor=made)
    assert plain._quick
    called = type(made).__call__

    class Strange(type(made)):  # type: ignore[misc]
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            scaled = kwargs.get("images_kwargs", {}).get("do_rescale", True)
            found = called(self, *args, **kwargs)  # get_text_with_replacements is what it goes through
            return found if scaled else {**found, "input_ids": [[*found["input_ids"][0], 1]]}

    made.__class__ = Strange
    strange = MediaProcessor(processor=made)
    assert not strange._quick
    text = f"a {made.image_token}"
    assert strange.write_quickly(text, {"image": [picture()]}).equals(plain.write(text, {"image": [picture()]}))


def _with_column(name: str) -> Any:
    """Qwen2-VL's processor with a further column of a number for each token, as ERNIE 4.5 VL's has."""
    made = copy.copy(processor("qwen2_vl"))
    called = type(made).__call__

    class Further(type(made)):  # type: ignore[misc]
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            found = called(self, *args, **kwargs)  # goes through get_text_with_replacements
            found[name] = [[7] * len(found["input_ids"][0])]
            return found

    made.__class__ = Further
    return made


def test_a_further_column_of_tokens_is_kept_or_refused() -> None:
    kept = MediaProcessor(processor=_with_column("moe_mm_token_type_ids"))
    assert set(kept.columns) == {"mm_token_type_ids", "moe_mm_token_type_ids"}
    assert not kept.unknown_columns
    assert MediaProcessor(processor=_with_column("other_ids")).unknown_columns == {"other_ids"}
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    with pytest.raises(TokenizerError, match="and rows would lose them: `other_ids`"):
        Masker(POLICY, _with_column("other_ids"))(messages)
    row = Masker(POLICY, _with_column("moe_mm_token_type_ids"))(messages)
    assert row["moe_mm_token_type_ids"] == [7] * len(row.input_ids)
