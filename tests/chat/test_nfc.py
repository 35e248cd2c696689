"""Past the normalizer, the same ids: only for characters that normal form C leaves alone, and only where it is one."""

from __future__ import annotations

import functools
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import normalizers

from policy_engine.chat.tokens.check_texts import stress_corpus
from policy_engine.chat.tokens.locator import TokenLocator
from policy_engine.chat.tokens.nfc import is_kept, is_normal, rare_in, without_normalizer
from tests.support.tokenizers import load


@functools.cache
def normal() -> list[str]:
    """The characters that normal form C leaves alone."""
    return [chr(c) for c in range(sys.maxunicode + 1) if not 0xD800 <= c < 0xE000 and is_normal(chr(c))]


def test_no_character_of_the_set_changes_or_changes_a_neighbour():
    assert len(normal()) > 30_000
    for char in normal():
        assert unicodedata.normalize("NFC", char) == char
        assert unicodedata.combining(char) == 0
    # A mark, a jamo and a singleton are what must not be in it.
    assert [False] * 4 == [is_normal(text) for text in ("e\u0301", "\u1100\u1161", "\u212b", "か\u3099")]


@given(st.deferred(lambda: st.text(st.sampled_from(normal()), max_size=40)))
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


def test_text_in_normal_form_is_proven_by_sums(monkeypatch):
    """The bytes of the tokens are joined only where normal form C might change the text."""
    locator = TokenLocator(tokenizer=load("qwen"), name="qwen")
    joined = []
    pieces = locator.pipeline.table.pieces

    class Watched(list):
        def __getitem__(self, at):
            joined.append(at)
            return super().__getitem__(at)

    object.__setattr__(locator.pipeline.table, "pieces", Watched(pieces))
    known = ["Grüße, 世界", "नमस्ते", "ε\u0301\u0323".replace("\u0301\u0323", ""), "שלום", "a\u0323\u0302x"]
    known = [unicodedata.normalize("NFC", text) for text in known]
    for text in known:
        ((_ids, _, (starts, ends)),) = locator.locate([text])
        assert [] == joined
        covered = {at for a, b in zip(starts.tolist(), ends.tolist()) for at in range(a, b)}
        assert covered == set(range(len(text)))
    unknown = next(chr(c) for c in range(0x10D40, 0x3FFFF) if unicodedata.category(chr(c)) == "Cn")
    for text in (f"a{unknown}b", "e\u0301"):
        assert not is_kept(text)
        locator.locate([text])
    assert joined


@given(st.text(max_size=30))
def test_rare_characters_are_those_that_are_not_certainly_normal(text):
    assert rare_in(text) == {char for char in text if not is_normal(char)}


@given(st.text(max_size=30))
def test_kept_text_is_the_normalizers_own(text):
    if is_kept(text):
        assert text == normalizers.NFC().normalize_str(text)
