"""Which characters each token covers, on every kind of tokenizer and on text that is hard for them."""

from __future__ import annotations

import dataclasses
import random
import re
import unicodedata
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policy_engine.chat.segments import RenderedChat, Segment, TokenizedChat
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.chat.tokens import byte_lengths
from policy_engine.chat.tokens.byte_lengths import ByteTable
from policy_engine.core.errors import AttributionError
from tests.support import tokenizers
from tests.support.tokenizers import chat_tokenizer

LOSSLESS = ("qwen", "qwen3.5", "deepseek", "llama3", "llama4", "tekken", "mistral-v1", "mistral-v2", "mistral-v3",
            "metaspace-always", "metaspace-first", "metaspace-gemma", "byte-roberta", "byte-trim")  # fmt: skip
"""Every character reaches a token (for Qwen's, up to composition)."""
BYTE_LEVEL = ("deepseek", "llama3", "llama4", "tekken", "byte-trim", "byte-roberta")
"""Byte-level and without a normalizer."""

HARD = (
    " ", "  ", "   ", "\n", "\n\n", " \n", "\r", "\r\n", "\t", "\u00a0", "\u2003", "\u3000", "\x00", "\x1f", "\u200b",
    "\u200d", "\ufeff", "\ue000", "\U000f0000", "▁", "▁▁", "<0x41>", "Ġ", "##s", "é", "e\u0301", "q\u0307\u0323",
    "Z\u0351\u0343\u0309", "\u0301", "ﬁ", "½", "ﷺ", "…", "İ", "ẞ", "Σ", "\u1112\u1161\u11ab", "한", "ｶﾞ", "カ\u3099",
    "日本語", "שָׁלוֹם", "السَّلَامُ", "नमस्ते", "สวัสดี", "🙂", "👩\u200d💻",
    "👨\u200d👩\u200d👧\u200d👦", "🏳\ufe0f\u200d🌈", "👍🏽", "🇫🇷",
    "hello", " world", "don't", "I'm", "12345", "3.14", "}}{%", "<think>", "</think>", "<|x|>",
    "<s>", "</s>", "[INST]", "[UNK]", "<unk>", "a" * 40,
)  # fmt: skip


def chat_of(text: str) -> RenderedChat:
    segments = (Segment(start=0, end=len(text), part="text", turn=0),) if text else ()
    return RenderedChat(text=text, segments=segments, messages=({"role": "user", "content": text},), sample={})


def encode(name: str, text: str) -> TokenizedChat:
    return chat_tokenizer(name).encode(chat_of(text))


def hard_text(name: str) -> st.SearchStrategy[str]:
    specials = [str(t) for t in tokenizers.load(name).added_tokens_decoder.values()][:12]
    piece = st.one_of(st.sampled_from(HARD), st.sampled_from(specials), st.text(max_size=6))
    return st.lists(piece, max_size=12).map("".join).map(lambda t: t.encode("utf-8", "ignore").decode())


def names_and_texts(names: tuple[str, ...]) -> st.SearchStrategy[tuple[str, str]]:
    return st.sampled_from(names).flatmap(lambda name: st.tuples(st.just(name), hard_text(name)))


def test_places_within_a_text_are_right_however_much_is_before_it():
    """Behind ids of 3 GiB that spell other texts; one piece is only said to be so long."""
    table = ByteTable(pieces=[b"Hi", b"!", b"\xc3", b"\xa9", b"long"], added=frozenset(), ascii_proves=True)
    table.__dict__["_lengths"] = np.int32([2, 1, 1, 1, 1 << 30, -1])
    texts, ids = ["lang"] * 3 + ["Hi!", "é!"], [[4], [4], [4], [0, 1], [2, 3, 1]]
    found = table.locate_many(texts, ids, [np.int32(i) for i in ids], normal=[False] * len(ids))
    assert found[:3] == [None] * 3
    assert [[places.tolist() for places in ranges] for ranges in found[3:] if ranges] == [
        [[0, 2], [2, 3]],
        [[0, 0, 1], [1, 1, 2]],
    ]


@pytest.mark.parametrize("name", ["qwen", "llama3", "mistral-v2", "metaspace-gemma", "byte-lower", "unigram-plain"])
def test_the_characters_of_tokens_are_those_of_the_bytes(name: str, monkeypatch: pytest.MonkeyPatch):
    """Past the first texts a table of all tokens says them, in place of each text's bytes."""
    rng = random.Random(name)
    texts = ["".join(rng.choice(HARD) for _ in range(rng.randint(0, 60))) for _ in range(150)]
    locator = dataclasses.replace(chat_tokenizer(name).locator)
    assert locator.pipeline is not None
    assert locator.pipeline.table is not None
    monkeypatch.setattr(byte_lengths, "_FEW_TEXTS", 0)
    seen: list[int] = []
    by_token = ByteTable._by_token

    def watched(self: ByteTable, *given: Any) -> Any:
        found = by_token(self, *given)
        seen.append(found is not None)
        return found

    monkeypatch.setattr(ByteTable, "_by_token", watched)
    found = locator.locate(texts)
    assert sum(seen) > 10
    monkeypatch.setattr(ByteTable, "_by_token", lambda *_: None)
    for ours, plain in zip(found, locator.locate(texts), strict=True):
        assert isinstance(ours, tuple) == isinstance(plain, tuple)
        if isinstance(ours, tuple):
            assert [places.tolist() for places in ours[2]] == [places.tolist() for places in plain[2]]
            assert {places.dtype for places in ours[2]} == {np.dtype(np.int32)}


def test_many_texts_at_once_are_placed_as_each_alone():
    """ASCII and other text, text that its ids do not spell, ids without fixed text and past the last one."""
    pieces = [b"Hi", b"!", b"\xc3", b"\xa9", None, " 中".encode(), b""]
    table = ByteTable(pieces=pieces, added=frozenset(), ascii_proves=True)
    rows = [
        ("Hi!", [0, 1]),
        ("", []),
        ("Hié 中!", [0, 2, 3, 5, 1]),
        ("Hi", [0, 4]),
        ("Hi", [0, 99]),
        ("Ho é", [0, 2, 3]),
        ("é", [6, 2, 6, 3, 6]),
        ("Hi!", [6, 0, 6, 1, 6]),
        ("!", [0]),
    ]
    texts, ids = [text for text, _ in rows], [ids for _, ids in rows]
    found = [
        r and [p.tolist() for p in r]
        for r in table.locate_many(texts, ids, [np.int32(i) for i in ids], normal=[False] * len(ids))
    ]
    assert found == [r and [p.tolist() for p in r] for r in map(table.locate, texts, ids)]
    assert found[2:] == [
        [[0, 2, 2, 3, 5], [2, 3, 3, 5, 6]],
        None,
        None,
        None,
        [[0, 0, 0, 0, 1], [0, 1, 0, 1, 1]],
        [[0, 0, 2, 2, 3], [0, 2, 2, 3, 3]],
        None,
    ]


def covered(tokenized: TokenizedChat) -> np.ndarray:
    """Which characters some token covers."""
    found = np.zeros(len(tokenized.chat.text), np.bool_)
    for start, end in zip(tokenized.starts_T, tokenized.ends_T):
        found[start:end] = True
    return found


slow_first_example = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)


@given(names_and_texts(tokenizers.NAMES))
@slow_first_example
def test_ids_are_those_of_calling_the_tokenizer(case: tuple[str, str]) -> None:
    name, text = case
    try:
        found = encode(name, text)
    except AttributionError:
        return
    assert tokenizers.load(name)(text, add_special_tokens=False)["input_ids"] == found.input_ids


@given(names_and_texts(tokenizers.NAMES))
@slow_first_example
def test_ranges_are_in_order_and_inside_the_text(case: tuple[str, str]) -> None:
    name, text = case
    try:
        found = encode(name, text)
    except AttributionError:
        return
    assert len(found.input_ids) == len(found.starts_T) == len(found.ends_T)
    assert found.starts_T.dtype == found.ends_T.dtype == np.int32
    assert (found.starts_T >= 0).all()
    assert (found.starts_T <= found.ends_T).all()
    assert (found.ends_T <= len(text)).all()
    assert (np.diff(found.starts_T) >= 0).all()
    assert (np.diff(found.ends_T) >= 0).all()


@given(names_and_texts(LOSSLESS))
@slow_first_example
def test_every_character_is_in_a_token(case: tuple[str, str]) -> None:
    name, text = case
    assert covered(encode(name, text)).all()


@given(names_and_texts(tuple(n for n in tokenizers.NAMES if n not in LOSSLESS)))
@slow_first_example
def test_characters_in_no_token_are_whitespace_or_removed_by_the_normalizer(case: tuple[str, str]) -> None:
    name, text = case
    try:
        found = encode(name, text)
    except AttributionError:
        return
    normalizer = tokenizers.load(name).backend_tokenizer.normalizer
    for char, is_covered in zip(text, covered(found)):
        if not is_covered and not char.isspace():
            assert normalizer is not None
            assert normalizer.normalize_str(char).strip(" ▁") == ""


@given(names_and_texts(BYTE_LEVEL))
@slow_first_example
def test_byte_lengths_agree_with_the_tokenizers_own_offsets(case: tuple[str, str]) -> None:
    name, text = case
    chat_tok = chat_tokenizer(name)
    found = chat_tok.encode(chat_of(text))
    encoding = chat_tok.locator.untrimmed.encode(text, add_special_tokens=False)
    assert encoding.ids == found.input_ids
    own = [(s, e) for s, e in encoding.offsets]
    ours = list(zip(found.starts_T.tolist(), found.ends_T.tolist()))
    for token, (start, end), (own_start, own_end) in zip(encoding.tokens, ours, own):
        if start == end:
            assert (
                token == "Ġ"
            )  # a prefix space that is not in the text has no width; the library gives it the next character
        else:
            assert (own_start, own_end) == (start, end)


def pure(text: str) -> str:
    """What is left to compare when spaces, their marks and the marks of word pieces are gone."""
    return re.sub(r"[\s▁\u200b\u00a0]", "", text)


@given(names_and_texts(tuple(n for n in tokenizers.NAMES if not n.startswith(("wordpiece", "byte-strip")))))
@slow_first_example
def test_a_group_of_tokens_spells_what_it_covers(case: tuple[str, str]) -> None:
    """Tokens that share characters, taken together, decode to the normalized text of the characters they cover."""
    name, text = case
    try:
        found = encode(name, text)
    except AttributionError:
        return
    tok = tokenizers.load(name)
    unknown, added = tok.unk_token_id, set(tok.added_tokens_decoder)
    normalizer = tok.backend_tokenizer.normalizer
    i = 0
    while i < len(found.input_ids):
        j, end = i + 1, found.ends_T[i]
        while j < len(found.input_ids) and found.starts_T[j] < end:
            end = max(end, found.ends_T[j])
            j += 1
        group = found.input_ids[i:j]
        piece = text[found.starts_T[i] : end]
        i = j
        if unknown in group or any(t in added for t in group):
            continue
        spelled = "".join(tok.convert_ids_to_tokens(group))
        if tokenizers_are_byte_level(name):
            spelled = tok.backend_tokenizer.decoder.decode(tok.convert_ids_to_tokens(group))
        elif "<0x" in spelled:
            continue  # bytes: the join of the table is the proof
        expected = piece if normalizer is None else normalizer.normalize_str(piece)
        assert unicodedata.normalize("NFKC", pure(expected)) == unicodedata.normalize("NFKC", pure(spelled))


def tokenizers_are_byte_level(name: str) -> bool:
    return "ByteLevel" in str(tokenizers.load(name).backend_tokenizer.pre_tokenizer)


@pytest.mark.parametrize("name", tokenizers.NAMES)
def test_a_very_long_text(name: str) -> None:
    """Tens of thousands of characters, with runs that no word boundary cuts."""
    text = "\n\n".join(tokenizers.corpus()) + "a" * 3000 + " " * 2000 + "é🙂" * 500
    found = encode(name, text)
    assert (np.diff(found.starts_T) >= 0).all()
    assert found.ends_T[-1] >= len(text.rstrip()) - (name == "unigram-strip")


@pytest.mark.parametrize("name", tokenizers.NAMES)
def test_empty_text(name: str) -> None:
    found = encode(name, "")
    assert [] == found.input_ids
    assert (0,) == found.starts_T.shape


@pytest.mark.parametrize("name", tokenizers.NAMES)
def test_half_a_surrogate_pair_is_refused(name: str) -> None:
    with pytest.raises(AttributionError, match=r"U\+D83D\) at character 2"):
        encode(name, "ab\ud83d")


@pytest.mark.parametrize("name", ["qwen", "qwen3.5", "claude", "byte-nfkc"])
def test_a_composed_character_belongs_to_one_token_with_its_mark(name: str) -> None:
    found = encode(name, "xe\u0301y")
    inside = (found.starts_T < 3) & (found.ends_T > 1)
    assert {(0, 3), (1, 3)} >= set(zip(found.starts_T[inside].tolist(), found.ends_T[inside].tolist()))


def test_reordered_marks_share_the_whole_character() -> None:
    found = encode("qwen", "q\u0307\u0323")
    assert {(0, 3)} == set(zip(found.starts_T.tolist(), found.ends_T.tolist()))


def test_an_added_token_that_takes_whitespace_covers_its_own_text_only() -> None:
    found = encode("byte-strip", "hi<|im_end|>\n \nyou  <|endoftext|>")
    ranges = dict(zip(found.input_ids, zip(found.starts_T.tolist(), found.ends_T.tolist())))
    tok = tokenizers.load("byte-strip")
    assert (2, 12) == ranges[tok.convert_tokens_to_ids("<|im_end|>")]
    assert (20, 33) == ranges[tok.convert_tokens_to_ids("<|endoftext|>")]


def test_trimmed_offsets_give_a_space_back_to_its_token() -> None:
    """RoBERTa and GPT-2 trim " world" to "world" in offsets; the token stands for the space too."""
    found = encode("byte-trim", "hello world")
    assert 5 in found.starts_T.tolist()
    assert covered(found).all()


@pytest.mark.parametrize("name", ["byte-roberta", "mistral-v1", "metaspace-always"])
def test_a_prefix_space_that_is_not_in_the_text_has_no_width(name: str) -> None:
    eos = str(tokenizers.load(name).eos_token)
    text = f"{eos}语{eos} 语"
    found = encode(name, text)
    assert covered(found).all()
    space = len(eos) + 1 + len(eos)
    holders = [i for i in range(len(found.input_ids)) if found.starts_T[i] <= space < found.ends_T[i]]
    assert holders, "the space that is in the text is in a token"


@pytest.mark.parametrize("name", ["mistral-v1", "mistral-v3"])
def test_ids_that_something_else_gives_are_placed_as_the_tokenizers_own(name: str) -> None:
    tok = chat_tokenizer(name)
    assert tok.locator.pipeline is not None
    table = tok.locator.pipeline.table
    assert table is not None
    eos = str(tok.tokenizer.eos_token)
    text = f"Hi{eos}{eos}语 é {eos} two  blanks"
    found = encode(name, text)
    places = table.spelled(text, found.input_ids)
    assert places is not None
    assert [each.tolist() for each in places] == [found.starts_T.tolist(), found.ends_T.tolist()]
    assert table.spelled(text + "!", found.input_ids) is None
    assert table.spelled(text, [*found.input_ids, len(table.pieces)]) is None


def test_several_pieces_of_one_character_have_its_range() -> None:
    found = encode("byte-trim", "🙂")
    assert len(found.input_ids) > 1
    assert {(0, 1)} == set(zip(found.starts_T.tolist(), found.ends_T.tolist()))


def test_a_character_that_a_vocabulary_lacks_is_refused_with_a_reason() -> None:
    """Without an unknown token and byte fallback, BPE drops what it does not know, and says nothing."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    silent = Tokenizer(models.BPE(vocab={"a": 0, "b": 1}, merges=[]))
    silent.pre_tokenizer = pre_tokenizers.Split("x", "isolated")
    chat_tok = ChatTokenizer.from_transformers(PreTrainedTokenizerFast(tokenizer_object=silent))
    assert [0, 1] == chat_tok.encode(chat_of("ab")).input_ids
    for text in ("a?b", "a?bb", "ab?"):
        with pytest.raises(AttributionError, match="cannot tell which characters"):
            chat_tok.encode(chat_of(text))


def test_a_dropped_character_is_not_hidden_by_a_space_after_it() -> None:
    """The library gives `b` and the space the places before theirs; only the last space is in no token."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    silent = Tokenizer(models.BPE(vocab={"a": 0, "b": 1, " ": 2}, merges=[]))
    chat_tok = ChatTokenizer.from_transformers(PreTrainedTokenizerFast(tokenizer_object=silent))
    assert [0, 1, 2] == chat_tok.encode(chat_of("ab ")).input_ids
    with pytest.raises(AttributionError, match="its vocabulary lacks a character"):
        chat_tok.encode(chat_of("a?b "))


def test_a_text_the_library_cannot_tokenize_fails_alone() -> None:
    """Unigram without an unknown token raises for the whole batch."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    strict = Tokenizer(models.Unigram(vocab=[("a", -1.0), ("b", -1.0), ("Héllo", -1.0)]))
    chat_tok = ChatTokenizer.from_transformers(PreTrainedTokenizerFast(tokenizer_object=strict))
    found = chat_tok.encode_batch([chat_of("ab"), chat_of("a?"), chat_of("b")], errors="return")
    assert [TokenizedChat, AttributionError, TokenizedChat] == [type(f) for f in found]


def test_one_bad_row_of_a_batch_is_returned_in_its_place() -> None:
    chats = [chat_of("one"), chat_of("\udc00"), chat_of("two")]
    found = chat_tokenizer("byte-trim").encode_batch(chats, errors="return")
    assert [TokenizedChat, AttributionError, TokenizedChat] == [type(f) for f in found]
    assert "two" == found[2].chat.text
    with pytest.raises(AttributionError):
        chat_tokenizer("byte-trim").encode_batch(chats)


@pytest.mark.parametrize("name", tokenizers.NAMES)
def test_a_batch_is_its_rows(name: str) -> None:
    texts = ["".join(HARD[i : i + 9]) for i in range(0, len(HARD), 7)]
    chat_tok = chat_tokenizer(name)
    together = chat_tok.encode_batch([chat_of(t) for t in texts], errors="return")
    for text, found in zip(texts, together):
        if isinstance(found, AttributionError):
            continue
        alone = chat_tok.encode(chat_of(text))
        assert alone.input_ids == found.input_ids
        assert alone.starts_T.tolist() == found.starts_T.tolist()
        assert alone.ends_T.tolist() == found.ends_T.tolist()
