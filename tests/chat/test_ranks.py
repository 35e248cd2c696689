"""A vocabulary as ranks is the same tokenizer to gigatoken, and is not made of one that ranks do not say all of."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from policy_engine.chat.loading import load_tokenizer
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.chat.tokens import cache
from policy_engine.chat.tokens.byte_lengths import byte_of_char
from policy_engine.chat.tokens.check_texts import stress_corpus
from policy_engine.chat.tokens.definition import plain_definition
from policy_engine.chat.tokens.fast_backend import GigatokenBackend, are_ranks, ranks_form
from tests.support.tokenizers import load

LETTERS = frozenset("abc")
BYTES = [chr(char) for char in byte_of_char()]
pytest.importorskip("gigatoken")


def grown(rng: random.Random) -> dict[str, int]:
    """256 bytes, and tokens over three letters: most are two tokens put together, some any letters."""
    tokens = list(BYTES)
    size = 256 + rng.randint(3, 18)
    while len(tokens) < size:
        parts = [token for token in tokens if set(token) <= LETTERS]
        any_letters = "".join(rng.choices("abc", k=rng.randint(2, 5)))
        token = any_letters if rng.random() < 0.05 else rng.choice(parts) + rng.choice(parts)
        if len(token) < 12 and token not in tokens:
            tokens.append(token)
    return {token: i for i, token in enumerate(tokens)}


def all_splits(vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """All merges that make a token of two, as transformers lists them, in the order of the tokens."""
    cuts = ((token[:at], token[at:]) for token in vocabulary for at in range(1, len(token)))
    return [(one, other) for one, other in cuts if one in vocabulary and other in vocabulary]


def merge(token: str, vocabulary: dict[str, int], made: dict[tuple[int, int], int]) -> list[int]:
    ids = [vocabulary[char] for char in token]
    while found := min(((made[pair], at) for at, pair in enumerate(pairwise(ids)) if pair in made), default=None):
        ids[found[1] : found[1] + 2] = [found[0]]
    return ids


def are_ranks_plainly(vocabulary: dict[str, int]) -> bool:
    """The same by merging each token's own text with the tokens before it."""
    made: dict[tuple[int, int], int] = {}
    for token, i in list(vocabulary.items())[256:]:
        ids = merge(token, vocabulary, made)
        if len(ids) != 2:
            return False
        made[ids[0], ids[1]] = i
    return True


def tokenizer_of(vocabulary: dict[str, int], merges: list[tuple[str, str]], **options: Any) -> Tokenizer:
    made = Tokenizer(models.BPE(vocabulary, merges, **options))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.add_special_tokens(["<s>", "<think>"])
    return made


def test_what_merges_follow_from_the_vocabulary() -> None:
    """Every vocabulary that is ranks gives the ids of the tokenizer, whole tokens first or not."""
    rng = random.Random(3)
    seen = {True: 0, False: 0}
    for _ in range(150):
        vocabulary = grown(rng)
        merges = all_splits(vocabulary)
        expected = are_ranks_plainly(vocabulary)
        assert are_ranks(vocabulary, map(" ".join, merges)) == expected
        seen[expected] += 1
        if not expected:
            continue
        own = tokenizer_of(vocabulary, merges, ignore_merges=rng.random() < 0.5)
        form = ranks_form(own.to_str().encode())
        assert form is not None
        ends = ("", " <s>a", "é<think>")
        texts = ["".join(rng.choices("abc", k=rng.randint(1, 40))) + rng.choice(ends) for _ in range(50)]
        texts += [token for token in vocabulary if set(token) <= LETTERS]
        found = [ids.tolist() for ids in GigatokenBackend(form).encode_batch(texts)]
        assert found == [own.encode(text).ids for text in texts]
    assert min(seen.values()) > 20, seen


@pytest.mark.parametrize("name", ["builtin", "qwen"])
def test_ranks_are_the_same_tokenizer(name: str) -> None:
    own = load_tokenizer(name) if name == "builtin" else ChatTokenizer.from_transformers(load(name))
    definition = plain_definition(own.locator.definition(), normalizes=False)
    form = ranks_form(definition)
    assert form is not None
    assert len(form) < len(definition) / 2
    whole, ranks = GigatokenBackend(definition), GigatokenBackend(form)
    assert whole._encoder.vocab == ranks._encoder.vocab
    assert set(whole._encoder.merges) >= set(ranks._encoder.merges)
    texts = list(stress_corpus(map(str, own.locator.subject.added)))
    texts += [piece.decode() for piece in own.locator.subject.pieces if piece and piece.isascii()]
    pairs = zip(whole.encode_batch(texts), ranks.encode_batch(texts), strict=True)
    assert all(one.tolist() == other.tolist() for one, other in pairs)


VOCABULARY = {**{token: i for i, token in enumerate(BYTES)}, "ab": 256, "abab": 257}
MERGES = [("a", "b"), ("ab", "ab")]


def changed(**parts: Any) -> Callable[[], dict[str, Any]]:
    def change() -> dict[str, Any]:
        return {**json.loads(tokenizer_of(VOCABULARY, MERGES).to_str()), **parts}

    return change


def normalizes() -> dict[str, Any]:
    own = tokenizer_of(VOCABULARY, MERGES)
    own.normalizer = normalizers.NFC()
    return dict(json.loads(own.to_str()))


def strips() -> dict[str, Any]:
    own = changed()()
    own["added_tokens"][0]["lstrip"] = True
    return own


def is_inside() -> dict[str, Any]:
    own = changed()()
    own["added_tokens"][0]["id"] = 257
    return own


def of(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Callable[[], dict[str, Any]]:
    return lambda: dict(json.loads(tokenizer_of(vocabulary, merges).to_str()))


@pytest.mark.parametrize(
    "make",
    [
        normalizes,
        strips,
        is_inside,
        changed(pre_tokenizer=None),
        changed(pre_tokenizer={"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}),
        changed(pre_tokenizer={"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}),
        changed(pre_tokenizer={"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Isolated", "invert": False}),
        of(VOCABULARY, MERGES[:1]),  # a token that nothing makes
        of(VOCABULARY, MERGES[::-1]),  # the later token first
        of({**VOCABULARY, "ba": 259}, [*MERGES, ("b", "a")]),  # no token 258
        of({**VOCABULARY, "aab": 258}, [*MERGES, ("a", "ab")][:2]),
        # `bab` is merged of `b` and `ab`, which nobody lists.
        of({**VOCABULARY, "ba": 258, "bab": 259}, [*MERGES, ("b", "a"), ("ba", "b")]),
        of({token: i for token, i in VOCABULARY.items() if token != "c"} | {"c": 258}, MERGES),
    ],
)
def test_what_is_more_than_ranks_stays_as_it_is(make: Callable[[], dict[str, Any]]) -> None:
    plain = tokenizer_of(VOCABULARY, MERGES).to_str().encode()
    assert ranks_form(plain) is not None
    assert ranks_form(json.dumps(make(), ensure_ascii=False, separators=(",", ":")).encode()) is None


def test_ranks_are_made_for_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Making them takes longer than they save once, and a process without a cache makes them for nobody."""
    definition = tokenizer_of(VOCABULARY, MERGES).to_str().encode()
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path))
    assert GigatokenBackend.of(definition).form == ranks_form(definition)
    monkeypatch.setenv(cache.FOLDER_VARIABLE, "off")
    assert GigatokenBackend.of(definition).form == definition


def test_ranks_without_room_for_their_file_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    definition = tokenizer_of(VOCABULARY, MERGES).to_str().encode()
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "no such folder"))
    made = GigatokenBackend.of(definition)
    assert (made.form, [ids.tolist() for ids in made.encode_batch(["ab"])]) == (definition, [[256]])
