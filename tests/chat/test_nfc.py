"""Past the normalizer, the same ids: only for characters that normal form C leaves alone, and only where it is one."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import normalizers

from policy_engine.chat.tokens.check_texts import stress_corpus
from policy_engine.chat.tokens.nfc import is_normal, without_normalizer
from tests.support.tokenizers import load

NORMAL = [chr(c) for c in range(sys.maxunicode + 1) if not 0xD800 <= c < 0xE000 and is_normal(chr(c))]


def test_no_character_of_the_set_changes_or_changes_a_neighbour():
    assert len(NORMAL) > 30_000
    for char in NORMAL:
        assert unicodedata.normalize("NFC", char) == char
        assert unicodedata.combining(char) == 0
    # A mark, a jamo and a singleton are what must not be in it.
    assert [False] * 4 == [is_normal(text) for text in ("e\u0301", "\u1100\u1161", "\u212b", "か\u3099")]


@given(st.text(st.sampled_from(NORMAL), max_size=40))
def test_the_tokenizers_own_normalizer_leaves_it_alone(text):
    assert text == normalizers.NFC().normalize_str(text)


@pytest.mark.parametrize("name", ["qwen", "qwen3.5"])
def test_the_same_ids(name):
    backend = load(name).backend_tokenizer
    light = without_normalizer(backend)
    texts = [text for text in stress_corpus(map(str, load(name).added_tokens_decoder.values())) if is_normal(text)]
    assert len(texts) > 300
    assert any(not text.isascii() for text in texts)
    expected = [e.ids for e in backend.encode_batch(texts, add_special_tokens=False)]
    assert expected == [e.ids for e in light.encode_batch(texts, add_special_tokens=False)]


@pytest.mark.parametrize("name", ["byte-nfkc", "byte-lower", "byte-trim", "metaspace-gemma"])
def test_any_other_normalizer_is_kept(name):
    assert without_normalizer(load(name).backend_tokenizer) is None
