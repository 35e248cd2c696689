"""A tokenizer with the tokens of one text alone, out of the cache.

    text                 Hi there
    tokens kept          H i Ġ t h e r  Hi th he re er Ġt Ġth …        those whose bytes are somewhere in the text
    merges kept          H i   t h   h e   Ġ t   Ġt h   …              those that make such a token, in their order

Byte-level BPE joins neighbours, so that a token which is not in the text is never made, and neither is a part of it:
the ids are those of the whole tokenizer. It is made in a tenth of the time that loading the whole one takes, and
is what a fast backend is compared with on a text now and then.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from policy_engine.chat.tokens.byte_lengths import byte_of_char
from policy_engine.chat.tokens.cached import MERGES, PIECES, REST, CachedTokenizer, added_to, is_refusal
from policy_engine.chat.tokens.nfc import is_kept

MOST_TEXTS: Final = 8
"""Texts that are read so by one tokenizer; from then on loading all of it costs less."""
_WORD: Final = 8
"""Bytes that are compared at a time, as one number."""
_MASKS: Final = np.array([(1 << 8 * size) - 1 for size in range(_WORD + 1)], np.uint64)
"""By a number of bytes: what is left of a word if the others are cut off. Its first byte is the lowest."""
_ODD: Final = np.uint64(0x9E3779B97F4A7C15)
_HASH: Final = 18
"""Bits of a short hash: the highest of a number's product with `_ODD`."""
_LONGEST: Final = 1 << 18
"""Characters of the longest text that is read so."""
_CHAR_OF_BYTE: Final = {byte: char for char, byte in byte_of_char().items()}
_CUTTING: Final = frozenset({"Split", "Digits", "Punctuation"})
"""Steps of a pre-tokenizer that cut a text and leave its bytes as they are."""


def gives_same(tokenizer: Any, texts: Sequence[str], found: Sequence[Any]) -> bool:
    """True if the tokenizer gives the ids `found` of these texts; False says nothing.

    False at once for a tokenizer that is loaded already, or of which more texts are asked than pay.
    """
    if not isinstance(tokenizer, CachedTokenizer) or tokenizer.has_loaded:
        return False
    tokenizer.texts_compared += len(texts)
    if tokenizer.texts_compared > MOST_TEXTS:
        return False
    try:
        for text, ids in zip(texts, found):
            few = few_tokens(tokenizer, text)
            if few is None or few.encode(text) != list(ids):
                return False
    except BaseException as error:
        if not is_refusal(error):
            raise
        return False  # the whole tokenizer says what is wrong
    return True


def few_tokens(tokenizer: CachedTokenizer, text: str) -> FewTokens | None:
    """The tokens of one text, out of the cache.

    None where only the whole tokenizer is sure to give the same ids: another kind of tokenizer, a text that its
    normalizer may change, one with a byte that has no token, a very long one; or files that are damaged.
    """
    entry, table = tokenizer.entry, None if tokenizer.pipeline is None else tokenizer.pipeline.table
    names = (REST, MERGES, PIECES)
    rest, merges, pieces = (entry.read(name) if name in entry.meta["files"] else None for name in names)
    # Files that were not yet found to make the backend again are for the run that loads it.
    if table is None or rest is None or merges is None or pieces is None or not entry.is_proven:
        return None
    made_of = json.loads(rest)
    own = len(table.lengths) - len(table.added)
    lengths = table.lengths[:own]
    # Ids of the model, without gaps, and behind them those of added tokens, which are no tokens of the model then.
    if own == 0 or sorted(table.added) != list(range(own, len(table.lengths))) or int(lengths.min()) < 1:
        return None
    if len(text) > _LONGEST or tokenizer.split_special_tokens or not _is_plain(made_of, text):
        return None
    data = text.encode()
    ends = np.cumsum(lengths)
    kept = _found(ends - lengths, ends, pieces, data)
    tokens = {
        i: pieces[int(ends[i] - lengths[i]) : int(ends[i])].decode("latin-1").translate(_CHAR_OF_BYTE) for i in kept
    }
    # A byte without a token is left out, and its neighbours may merge to what is not in the text.
    if sum(len(token) == 1 for token in tokens.values()) < len(set(data)):
        return None
    return FewTokens(made_of, tokens, merges, tokenizer)


class FewTokens:
    """A `tokenizers.Tokenizer` of few tokens, with numbers of its own for them.

    `encode` gives their own ids. `tokens` has them by id, `made_of` the other components and the options of the model.
    """

    def __init__(
        self, made_of: dict[str, Any], tokens: dict[int, str], merges: bytes, tokenizer: CachedTokenizer
    ) -> None:
        from tokenizers import Tokenizer, models

        own = {token: at for at, token in enumerate(tokens.values())}
        self._backend = Tokenizer.from_str(made_of["tokenizer"])
        self._backend.model = models.BPE(own, _merges_of(own, merges), **made_of["options"])
        added = tokenizer.added_tokens_decoder
        added_to(self._backend, added.items())
        ids = {str(token): i for i, token in added.items()}
        behind = sorted(self._backend.get_added_tokens_decoder().items())
        self._ids = [*tokens, *(ids[token.content] for _, token in behind)]

    def encode(self, text: str) -> list[int]:
        """The ids of the text that it was made for, without special tokens."""
        return [self._ids[i] for i in self._backend.encode(text, add_special_tokens=False).ids]


def _is_plain(made_of: dict[str, Any], text: str) -> bool:
    """True for byte-level BPE that reads the bytes of this text, and no others."""
    options, parts = made_of["options"], json.loads(made_of["tokenizer"])
    if not options.keys() <= {"fuse_unk", "byte_fallback", "ignore_merges"} or options.get("byte_fallback"):
        return False
    normalizer = parts["normalizer"]
    if normalizer is not None and not (normalizer["type"] == "NFC" and is_kept(text)):
        return False
    before = parts["pre_tokenizer"] or {"type": "none"}
    *cuts, last = before["pretokenizers"] if before["type"] == "Sequence" else [before]
    # The last step writes bytes as characters. It may put a space in front, which is not in the text then.
    return last["type"] == "ByteLevel" and not last["add_prefix_space"] and {s["type"] for s in cuts} <= _CUTTING


def _found(starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], pieces: bytes, text: bytes) -> list[int]:
    """The pieces `[start, end)`, by number, that are somewhere in a text.

    >>> _found(np.array([0, 1, 3]), np.array([1, 3, 4]), b"abcd", b"bc and d")
    [0, 1, 2]
    """
    places = _words(text)
    there = [np.unique(places[: max(0, len(text) - size + 1)] & mask) for size, mask in enumerate(_MASKS) if size]
    found = _among(_beginning(_words(pieces), starts, ends), np.concatenate(there))
    # A longer piece was seen to begin there.
    return [i for i in found if ends[i] - starts[i] <= _WORD or pieces[starts[i] : ends[i]] in text]


def _merges_of(tokens: Mapping[str, int], merges: bytes) -> list[tuple[str, str]]:
    """The merges that make one of these tokens, in their order.

    >>> _merges_of({"abc": 0, "ab": 1}, b"#version: 0.2\\na b\\nb c\\nab c\\n")
    [('a', 'b'), ('ab', 'c')]
    """
    joined = "".join(tokens).encode()
    sizes = np.array([len(token.encode()) for token in tokens], np.int64)
    stops = np.cumsum(sizes)
    lines, sums = _read_merges(merges)
    made = []
    for i in _among(sums, _summed(_words(joined), stops - sizes, stops)):
        left, _, right = merges[lines[i - 1] + 1 : lines[i]].decode().partition(" ") if i else ("", "", "")
        if left + right in tokens:
            made.append((left, right))
    return made


@functools.lru_cache(maxsize=1)
def _read_merges(merges: bytes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
    """The ends of lines of merges, and a number for what each makes: see `_summed`."""
    lines = np.flatnonzero(np.frombuffer(merges, np.uint8) == ord("\n"))
    # Each line has one space, the header too.
    ends = lines - np.arange(1, len(lines) + 1)
    starts = np.append(0, ends[:-1] + 1)
    return lines, _summed(_words(merges.replace(b" ", b"")), starts, ends)


def _beginning(
    words: npt.NDArray[np.uint64], starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint64]:
    """The first word of each stretch `[start, end)`."""
    found: npt.NDArray[np.uint64] = words[starts] & _MASKS[np.minimum(ends - starts, _WORD)]
    return found


def _summed(
    words: npt.NDArray[np.uint64], starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint64]:
    """A number for each stretch `[start, end)`, of its first word, its last word and its length."""
    lasts = words[np.maximum(starts, ends - _WORD)] & _MASKS[np.minimum(ends - starts, _WORD)]
    made: npt.NDArray[np.uint64] = (_beginning(words, starts, ends) * _ODD + lasts) * _ODD
    return made + (ends - starts).astype(np.uint64)


def _among(numbers: npt.NDArray[np.uint64], known: npt.NDArray[np.uint64]) -> list[int]:
    """The places of numbers that are known.

    >>> _among(np.array([7, 8, 9, 8], np.uint64), np.array([8], np.uint64))
    [1, 3]
    """
    # Most are not. A table of short hashes finds that in a tenth of the time that sorting all of them takes.
    table = np.zeros(1 << _HASH, bool)
    shift = np.uint64(64 - _HASH)
    table[known * _ODD >> shift] = True
    maybe = np.flatnonzero(table[numbers * _ODD >> shift])
    return [int(i) for i in maybe[np.isin(numbers[maybe], known)]]


def _words(data: bytes) -> npt.NDArray[np.uint64]:
    """The eight bytes from each place on, zeros behind the end."""
    return np.ndarray((len(data),), "<u8", data + bytes(_WORD), strides=(1,))
