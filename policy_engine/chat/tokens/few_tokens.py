"""A tokenizer with the tokens of one text alone, out of the cache.

    text                 Hi there
    tokens kept          H i Ġ t h e r  Hi th he re er Ġt Ġth …        those whose bytes are somewhere in the text
    merges kept          H i   t h   h e   Ġ t   Ġt h   …              those that make such a token, in their order

Byte-level BPE joins neighbours, so that a token which is not in the text is never made, and neither is a part of it:
the ids are those of the whole tokenizer. It is made in a tenth of the time that loading the whole one takes, and
is what a fast backend is compared with on a text now and then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from policy_engine.chat.tokens.byte_lengths import byte_of_char
from policy_engine.chat.tokens.cached import MERGES, PIECES, REST, CachedTokenizer, added_to, is_refusal
from policy_engine.chat.tokens.nfc import is_kept

MOST_TEXTS: Final = 24
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


@dataclass(frozen=True, kw_only=True, eq=False)
class _Whole:
    """All tokens of a tokenizer by id, and its merges in their order, as the cache has them."""

    made_of: dict[str, Any]
    """The other components, and the options of the model."""
    pieces: bytes
    """The bytes of all tokens, one behind the other."""
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    openings: npt.NDArray[np.uint64]
    """The first word of each token."""
    merges: bytes
    lines: npt.NDArray[np.int64]
    """The end of each line of `merges`."""
    sums: npt.NDArray[np.uint64]
    """A number for what each line makes: see `_summed`."""


def _read(tokenizer: CachedTokenizer) -> _Whole | None:
    """All tokens; None for another kind of tokenizer, and for files that are damaged."""
    entry, table = tokenizer.entry, None if tokenizer.pipeline is None else tokenizer.pipeline.table
    names = (REST, MERGES, PIECES)
    rest, merges, pieces = (entry.read(name) if name in entry.meta["files"] else None for name in names)
    # Files that were not yet found to make the backend again are for the run that loads it.
    if table is None or rest is None or merges is None or pieces is None or not entry.is_proven:
        return None
    own = len(table.lengths) - len(table.added)
    lengths = table.lengths[:own]
    # Ids of the model, without gaps, and behind them those of added tokens, which are no tokens of the model then.
    if own == 0 or sorted(table.added) != list(range(own, len(table.lengths))) or int(lengths.min()) < 1:
        return None
    ends = np.cumsum(lengths)
    lines = np.flatnonzero(np.frombuffer(merges, np.uint8) == ord("\n"))
    # Each line has one space, the header too.
    made = lines - np.arange(1, len(lines) + 1)
    return _Whole(
        made_of=json.loads(rest),
        pieces=pieces,
        starts=ends - lengths,
        ends=ends,
        openings=_beginning(_words(pieces), ends - lengths, ends),
        merges=merges,
        lines=lines,
        sums=_summed(_words(merges.replace(b" ", b"")), np.append(0, made[:-1] + 1), made),
    )


def few_tokens(tokenizer: CachedTokenizer, text: str) -> FewTokens | None:
    """The tokens of one text, out of the cache.

    None where only the whole tokenizer is sure to give the same ids: another kind of tokenizer, a text that its
    normalizer may change, one with a byte that has no token, a very long one; or files that are damaged.
    """
    # Kept, since reading takes longer than the tokens of a text.
    tokenizer.all_tokens = whole = tokenizer.all_tokens or _read(tokenizer)
    if whole is None or len(text) > _LONGEST or tokenizer.split_special_tokens or not _is_plain(whole.made_of, text):
        return None
    data = text.encode()
    kept = _found(whole, data)
    places = zip(kept.tolist(), whole.starts[kept].tolist(), whole.ends[kept].tolist())
    tokens = {i: whole.pieces[start:end].decode("latin-1").translate(_CHAR_OF_BYTE) for i, start, end in places}
    # A byte without a token is left out, and its neighbours may merge to what is not in the text.
    if [*map(len, tokens.values())].count(1) < len(set(data)):
        return None
    return FewTokens(whole, tokens, tokenizer)


class FewTokens:
    """A `tokenizers.Tokenizer` of few tokens, with numbers of its own for them.

    `encode` gives their own ids. `tokens` has them by id.
    """

    def __init__(self, whole: _Whole, tokens: dict[int, str], tokenizer: CachedTokenizer) -> None:
        from tokenizers import Tokenizer, models

        own = {token: at for at, token in enumerate(tokens.values())}
        self._backend = Tokenizer.from_str(whole.made_of["tokenizer"])
        self._backend.model = models.BPE(own, _merges_of(own, whole), **whole.made_of["options"])
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


def _found(whole: _Whole, text: bytes) -> npt.NDArray[np.int64]:
    """The tokens, by id, whose bytes are somewhere in a text."""
    places = _words(text)
    there = [places[: max(0, len(text) - size + 1)] & mask for size, mask in enumerate(_MASKS) if size]
    found = _among(whole.openings, np.concatenate(there))
    starts, ends = whole.starts[found], whole.ends[found]
    # Of a longer one only its first word was seen there.
    for at in np.flatnonzero(ends - starts > _WORD).tolist():
        if whole.pieces[starts[at] : ends[at]] not in text:
            found[at] = -1
    return found[found >= 0]


def _merges_of(tokens: Mapping[str, int], whole: _Whole) -> list[tuple[str, str]]:
    """The merges that make one of these tokens, in their order."""
    joined = "".join(tokens).encode()
    stops = np.cumsum([len(token.encode()) for token in tokens])
    found = _among(whole.sums, _summed(_words(joined), np.append(0, stops[:-1]), stops))
    found = found[found > 0]  # the first line is the header
    places = zip((whole.lines[found - 1] + 1).tolist(), whole.lines[found].tolist())
    # All of them decoded at once: there are thousands.
    lines = b"\n".join([whole.merges[start:end] for start, end in places]).decode().split("\n")
    # Long texts that begin and end alike have one sum.
    return [(left, right) for left, _, right in (line.partition(" ") for line in lines) if left + right in tokens]


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


def _among(numbers: npt.NDArray[np.uint64], known: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """The places of numbers that are known.

    >>> _among(np.array([7, 8, 9, 8], np.uint64), np.array([8], np.uint64)).tolist()
    [1, 3]
    """
    # Most are not, on both sides. A table of short hashes finds that in a tenth of the time that sorting takes.
    maybe = np.flatnonzero(_have(numbers, known))
    known = np.sort(known[_have(known, numbers[maybe])])
    first, behind = (known.searchsorted(numbers[maybe], side) for side in ("left", "right"))
    return maybe[first < behind]


def _have(numbers: npt.NDArray[np.uint64], others: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """True for each number whose short hash one of the others has."""
    shift = np.uint64(64 - _HASH)
    table = np.zeros(1 << _HASH, bool)
    table[others * _ODD >> shift] = True
    found: npt.NDArray[np.bool_] = table[numbers * _ODD >> shift]
    return found


def _words(data: bytes) -> npt.NDArray[np.uint64]:
    """The eight bytes from each place on, zeros behind the end."""
    return np.ndarray((len(data),), "<u8", data + bytes(_WORD), strides=(1,))
