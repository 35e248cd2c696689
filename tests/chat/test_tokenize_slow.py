"""Tokenizers without offsets: places rebuilt from what their tokens spell, or refused."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given

from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.chat.tokens.byte_lengths import byte_level_bytes, byte_of_char, metaspace_bytes, tables_of_slow
from policy_engine.core.errors import AttributionError
from policy_engine.testing import strategies
from tests.chat.test_tokenize_ranges import HARD, chat_of
from tests.support import tokenizers


@functools.cache
def byt5() -> ChatTokenizer:
    """A slow tokenizer whose tokens are bytes."""
    from transformers import ByT5Tokenizer

    return ChatTokenizer.from_transformers(ByT5Tokenizer(), "{{ messages[0].content }}")


class Called:
    """A tokenizer seen only through what calling it gives, as a slow one is; of the ids of a fast one."""

    is_fast = False

    def __init__(self, name: str) -> None:
        self._fast = tokenizers.load(name)

    def __call__(self, text: object, **options: object) -> object:
        options.pop("return_offsets_mapping", None)
        return self._fast(text, **options)

    def __len__(self) -> int:
        return len(self._fast)

    def __getattr__(self, name: str) -> object:
        if name in ("backend_tokenizer", "_fast"):
            raise AttributeError(name)
        return getattr(self._fast, name)


@given(strategies.texts())
def test_byte_tokens_have_the_range_of_their_character(text: str) -> None:
    if text.encode("utf-8", "replace").decode() != text:
        return
    try:
        found = byt5().encode(chat_of(text))
    except AttributionError:
        # The slow tokenizer drops blanks beside its special tokens, so that the text is not spelled by its tokens.
        assert any(str(token) in text for token in byt5().tokenizer.added_tokens_decoder.values())
        return
    assert byt5().tokenizer(text, add_special_tokens=False)["input_ids"] == found.input_ids
    if all(3 <= i < 259 for i in found.input_ids):
        expected = [i for i, char in enumerate(text) for _ in char.encode()]
        assert expected == found.starts_T.tolist()
        assert [i + 1 for i in expected] == found.ends_T.tolist()


@pytest.mark.parametrize("name", ["byte-trim", "byte-roberta", "metaspace-always", "metaspace-gemma", "mistral-v1"])
def test_slow_is_placed_as_fast(name: str) -> None:
    """Without a backend and offsets, the same ids are given the same places."""
    slow = ChatTokenizer.from_transformers(Called(name))
    fast = ChatTokenizer.from_transformers(tokenizers.load(name))
    assert slow.locator.backend is None
    compared = 0
    for i in range(0, len(HARD), 5):
        text = "<|im_end|>".join(HARD[i : i + 5])
        try:
            found = slow.encode(chat_of(text))
        except AttributionError:
            continue
        expected = fast.encode(chat_of(text))
        assert expected.input_ids == found.input_ids
        table = fast.locator.pipeline.table if fast.locator.pipeline else None
        if table is not None and table.locate(text, expected.input_ids) is not None:
            assert expected.starts_T.tolist() == found.starts_T.tolist()
            assert expected.ends_T.tolist() == found.ends_T.tolist()
            compared += 1
    assert compared >= 5


@pytest.mark.parametrize("name", ["wordpiece-lower", "byte-lower", "unigram-t5"])
def test_a_slow_tokenizer_that_changes_the_text_is_refused(name: str) -> None:
    slow = ChatTokenizer.from_transformers(Called(name))
    with pytest.raises(AttributionError, match="slow tokenizer without offsets") as error:
        slow.encode(chat_of("Hello  WORLD\n\nÉ"))
    assert "fast version" in str(error.value)


def test_a_class_that_changes_what_its_backend_does_is_called() -> None:
    """Some classes prepare the text before their backend sees it; the ids are those of the class."""
    from transformers import PreTrainedTokenizerFast

    class Shouting(PreTrainedTokenizerFast):
        def _encode_plus(self, text, *args, **kwargs):
            text = [t.upper() for t in text] if isinstance(text, list) else text.upper()
            return super()._encode_plus(text, *args, **kwargs)

    tok = Shouting(tokenizer_object=tokenizers.load("byte-trim").backend_tokenizer)
    chat_tok = ChatTokenizer.from_transformers(tok)
    assert chat_tok.locator.backend is None
    found = chat_tok.encode(chat_of("HELLO"))
    assert tok("hello", add_special_tokens=False)["input_ids"] == found.input_ids
    assert 5 == found.ends_T[-1]
    with pytest.raises(AttributionError, match="cannot tell which characters"):
        chat_tok.encode(chat_of("hello"))


def test_the_byte_alphabet() -> None:
    from tokenizers import pre_tokenizers

    alphabet = byte_of_char()
    assert set(pre_tokenizers.ByteLevel.alphabet()) == {chr(c) for c in alphabet}
    assert set(range(256)) == set(alphabet.values())
    text = "\x00 é🙂\n"
    [(piece, _)] = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    assert text.encode() == byte_level_bytes(piece)
    assert byte_level_bytes("▁x") is None
    assert b"\n" == metaspace_bytes("<0x0A>")
    assert "▁a".encode() == metaspace_bytes("▁a")


def test_ids_that_do_not_spell_the_text_are_not_placed() -> None:
    for table in tables_of_slow(["a", "b", "Ġc", None], {}, unknown=None):
        assert table.locate("ab", [0, 0]) is None
        assert table.locate("ab", [0]) is None
        assert table.locate("ab", [0, 1, 3]) is None
        assert table.locate("ab", [0, 7]) is None
    starts, ends = tables_of_slow(["a", "b", "Ġc", None], {}, unknown=None)[0].locate("ab c", [0, 1, 2]) or ([], [])
    assert [0, 1, 2] == np.asarray(starts).tolist()
    assert [1, 2, 4] == np.asarray(ends).tolist()
