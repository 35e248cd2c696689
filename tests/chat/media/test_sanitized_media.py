"""Control tokens and placeholders that data quotes, beside real media."""

from __future__ import annotations

import pytest

from policy_engine import Masker
from policy_engine.core.errors import MediaError
from tests.chat.media.test_processor_ids import POLICY, masker
from tests.support.pictures import picture, processor


@pytest.mark.parametrize("name", ["qwen2_vl", "gemma3"])
def test_control_tokens_in_the_data_are_plain_text_beside_a_picture(name: str) -> None:
    made = masker(name)
    marks = sorted(made.tokenizer.media.tokens.values())
    end = str(processor(name).tokenizer.eos_token)
    quoted = f"What is {marks[0]} and {end}? {end}"
    messages = [
        {"role": "user", "content": [{"type": "text", "text": quoted}, {"type": "image", "image": picture()}]},
        {"role": "assistant", "content": [{"type": "text", "text": f"Four {end} marks {marks[0]}."}]},
    ]
    row = made(messages, sanitize_control_tokens=True)
    own = processor(name).apply_chat_template(
        messages, tokenize=True, return_dict=True, sanitize_control_tokens=True, add_generation_prompt=False
    )["input_ids"]
    assert row.input_ids == (own[0] if isinstance(own[0], list) else own)
    # Every character of the answer is trained, the quoted control tokens too, and only the real end is the token.
    trained = [i for i in row.labels if i != -100]
    assert f"Four {end} marks {marks[0]}." in processor(name).tokenizer.decode(trained)
    picture_ids = made.tokenizer.media.ids
    assert not picture_ids & set(trained)
    with pytest.raises(MediaError, match="which the processor would take for a medium"):
        made(messages)


@pytest.mark.parametrize(("name", "reason"), [("llava", "no special tokens"), ("idefics3", "a placeholder")])
def test_processors_that_sanitize_nothing_are_named(name: str, reason: str) -> None:
    text = f"What is {processor(name).tokenizer.eos_token}?"
    messages = [
        {"role": "user", "content": [{"type": "text", "text": text}, {"type": "image", "image": picture()}]},
        {"role": "assistant", "content": [{"type": "text", "text": "An end."}]},
    ]
    made = Masker(POLICY, processor(name))
    encoder = made.tokenizer._media_encoder
    assert encoder is not None
    # Such tokenizers add tokens of their own; without them, the processor's class decides.
    encoder.__dict__["around"] = ((), ()) if reason.startswith("a placeholder") else encoder.around
    with pytest.raises(MediaError, match=f"takes no `sanitize_control_tokens` in transformers: .*{reason}"):
        made(messages, sanitize_control_tokens=True)
