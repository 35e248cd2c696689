"""Characters of each token, from the bytes that its id stands for; proven per row.

A byte-level token stands for a fixed run of bytes, so a cumulative sum of lengths gives every token's place; that the
sum over a row equals the text's bytes proves it. The same holds for SentencePiece BPE with byte fallback, once spaces
are written as it writes them. Rows where the proof fails are left to the tokenizer's offsets.

    text          é!                     3 bytes: c3 a9 21
    tokens        Ã©     !               2 bytes and 1, so they end behind bytes 2 and 3
    characters    0:1    1:2
"""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_engine.chat.tokens.nfc import is_kept

SPACE_MARK = "▁"
"""SentencePiece's mark for a space (U+2581)."""
Ranges = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]
"""`starts_T` and `ends_T`, in characters."""

_FEW_TEXTS = 100
"""Texts beyond ASCII that take as long, each by its own bytes, as the table of all tokens' characters."""
# SentencePiece's name of a token that stands for one byte, where its vocabulary lacks a character.
_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


@functools.cache
def byte_of_char() -> dict[int, int]:
    """The alphabet of byte-level BPE: code points and their bytes, as a `str.translate` table.

    Printable Latin-1 stands for itself; the other 68 bytes take the code points from 256 on, in order.

    >>> chr(byte_of_char()[ord("Ġ")]), chr(byte_of_char()[ord("Ċ")])
    (' ', '\\n')
    """
    # GPT-2's alphabet, which every byte-level tokenizer has: 0x20, 0x7F to 0xA0 and 0xAD show no mark of their own.
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in set(printable)]
    return {**{byte: byte for byte in printable}, **{256 + i: byte for i, byte in enumerate(hidden)}}


def byte_level_bytes(token: str) -> bytes | None:
    """The bytes of a byte-level token; None if a character of it is not of the alphabet.

    >>> byte_level_bytes("ĠHi"), byte_level_bytes("Ã©")
    (b' Hi', b'\\xc3\\xa9')
    """
    table = byte_of_char()
    # An added token's text may be anything, so it is looked at before it is translated.
    if any(ord(char) not in table for char in token):
        return None
    return token.translate(table).encode("latin-1")


def byte_level_pieces(tokens: Sequence[str]) -> list[bytes | None]:
    """`byte_level_bytes` of many tokens, fast where all their characters are of the alphabet.

    >>> byte_level_pieces(["ĠHi", "Ã©"]), byte_level_pieces(["ĠHi", "｜"])
    ([b' Hi', b'\\xc3\\xa9'], [b' Hi', None])
    """
    whole = "".join(tokens)
    if not byte_of_char().keys() >= set(map(ord, set(whole))):
        return [byte_level_bytes(token) for token in tokens]
    # Each character is one byte, so that the pieces are as long as their tokens.
    data = whole.translate(byte_of_char()).encode("latin-1")
    return [data[start:end] for start, end in pairwise(accumulate(map(len, tokens), initial=0))]


def metaspace_bytes(token: str) -> bytes:
    """The bytes of a SentencePiece token, with the space mark for spaces.

    `<0x0A>` stands for one byte.

    >>> metaspace_bytes("<0x0A>"), metaspace_bytes("▁Hi")
    (b'\\n', b'\\xe2\\x96\\x81Hi')
    """
    found = _BYTE_TOKEN.fullmatch(token)
    return bytes([int(found[1], 16)]) if found else token.replace(" ", SPACE_MARK).encode()


def array_of(ids: Any) -> npt.NDArray[np.int32]:
    """Ids, a list or an array, as an array.

    >>> array_of([1, 2])
    array([1, 2], dtype=int32)
    """
    if isinstance(ids, np.ndarray):
        return np.asarray(ids, dtype=np.int32)
    # Numpy asks each number what it is, which takes six times as long as to pack them.
    packed = bytearray(4 * len(ids))
    struct.pack_into(f"={len(ids)}i", packed, 0, *ids)
    return np.frombuffer(packed, dtype=np.int32)


@dataclass(frozen=True, kw_only=True, eq=False)
class ByteTable:
    """The bytes that each token id stands for.

    `pieces` has them by id; None where an id stands for no fixed text (an unknown token, an added token that takes the
    whitespace beside it). `added` has the ids of added tokens: a tokenizer may insert a prefix space between them.
    `space` is how a space is written in `pieces`. With `sum_proves`, equal lengths prove a row, since nothing can be
    both inserted and lost; with `ascii_proves` they prove ASCII text, with `nfc_proves` text in normal form C. Else the
    bytes themselves are compared.
    """

    pieces: Sequence[bytes | None]
    added: frozenset[int]
    space: str = " "
    sum_proves: bool = False
    ascii_proves: bool = False
    nfc_proves: bool = False

    @functools.cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Bytes by id, -1 where unknown."""
        return np.fromiter((-1 if p is None else len(p) for p in self.pieces), np.int64, len(self.pieces))

    @functools.cached_property
    def _lengths(self) -> npt.NDArray[np.int32]:
        """The same, and -1 once more for all ids past the last one."""
        return np.append(self.lengths, -1).astype(np.int32)

    @functools.cached_property
    def _characters(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]] | None:
        """Characters that begin in each token, and 1 where its first byte is inside of one.

        They are by id, as `_lengths`. None if a token stands for no bytes: only its row says whether such a one is
        inside of a character.
        """
        lengths = np.maximum(self._lengths, 0)
        if (self._lengths == 0).any():
            return None
        data = np.frombuffer(b"".join([piece for piece in self.pieces if piece is not None]), np.uint8)
        begins = np.zeros(len(data) + 1, dtype=np.bool_)
        begins[:-1] = (data & 0xC0) != 0x80
        before = np.zeros(len(data) + 1, dtype=np.int32)
        np.cumsum(begins[:-1], dtype=np.int32, out=before[1:])
        ends = np.cumsum(lengths)
        return before[ends] - before[ends - lengths], (~begins[ends - lengths] & (lengths > 0)).astype(np.int32)

    def locate(self, text: str, ids: Sequence[int]) -> Ranges | None:
        """The characters of each token; None without proof that the ids spell exactly this text.

        >>> table = ByteTable(pieces=[b"Hi", b"!", b"\\xc3", b"\\xa9"], added=frozenset())
        >>> [places.tolist() for places in table.locate("Hi!é", [0, 1, 2, 3])]
        [[0, 2, 3, 3], [2, 3, 4, 4]]
        >>> table.locate("Ho!", [0, 1]) is None
        True
        """
        return self.locate_many([text], [ids], [array_of(ids)], normal=[False])[0]

    def locate_many(
        self,
        texts: Sequence[str],
        ids: Sequence[Sequence[int]],
        arrays: Sequence[npt.NDArray[np.int32]],
        *,
        normal: Sequence[bool],
    ) -> list[Ranges | None]:
        """`locate` for many texts.

        The ranges are slices of the same arrays. `arrays` are the ids once more; `normal` is True for texts that are
        known to be in normal form C.
        """
        bounds = [0, *accumulate(map(len, arrays))]
        # Clipped, since a class of transformers may add ids that its backend does not have.
        lengths_B = self._lengths.take(np.concatenate(arrays), mode="clip") if arrays else self._lengths[:0]
        # Places of a batch may go past 31 bits and begin again; those within a row, which are differences, stay right.
        places_B = np.zeros(bounds[-1] + 1, dtype=np.int32)
        np.cumsum(lengths_B, dtype=np.int32, out=places_B[1:])
        bases = places_B[bounds]
        totals = np.diff(bases).tolist()
        # -1 marks an id without fixed text: its row is left to the offsets.
        unfixed = np.flatnonzero(lengths_B < 0)
        lost = set((np.searchsorted(bounds, unfixed, side="right") - 1).tolist())
        ends_B = places_B[1:] - np.repeat(bases[:-1], np.diff(bounds))
        starts_B = ends_B - lengths_B
        found: list[Ranges | None] = []
        for at, (text, total, (first, last), is_normal) in enumerate(zip(texts, totals, pairwise(bounds), normal)):
            places = starts_B[first:last], ends_B[first:last]
            if at in lost:
                found.append(None)
            elif total == len(text) and self.space == " " and text.isascii() and self._sums_prove(text):
                # The usual row, which needs no bytes: most are English.
                found.append(places)
            else:
                found.append(self._located(text, ids[at], arrays[at], places, total, is_normal))
        return found

    def _located(
        self,
        text: str,
        ids: Sequence[int],
        ids_T: npt.NDArray[np.int32],
        places: Ranges,
        total: int,
        is_normal: bool,
    ) -> Ranges | None:
        data = (text if self.space == " " else text.replace(" ", self.space)).encode()
        if total == len(data) and self._proven(text, data, ids, is_normal):
            return self._by_token(len(text), ids_T) or character_ranges(text, data, *places)
        # The usual cases are over by now; what is left are tokenizers that insert spaces, and rows that no table
        # spells.
        ranges = self._with_prefix_spaces(data, ids)
        return None if ranges is None else character_ranges(text, data, *ranges)

    def spelled(self, text: str, ids: Sequence[int]) -> Ranges | None:
        """`locate` for ids that something else gives: their bytes are always compared.

        >>> table = ByteTable(pieces=[b"Hi", b"Ho"], added=frozenset())
        >>> table.spelled("Ho", [0]) is None, [places.tolist() for places in table.spelled("Ho", [1])]
        (True, [[0], [2]])
        """
        data = (text if self.space == " " else text.replace(" ", self.space)).encode()
        arrays = array_of(ids)
        # A class of transformers may add ids that its backend does not have.
        if len(arrays) and not 0 <= int(arrays.min()) <= int(arrays.max()) < len(self.pieces):
            return None
        lengths_B = self._lengths[arrays]
        if (lengths_B < 0).any():
            return None
        if b"".join([self.pieces[i] or b"" for i in ids]) != data:
            found = self._with_prefix_spaces(data, ids)
            return None if found is None else character_ranges(text, data, *found)
        ends_B = np.cumsum(lengths_B, dtype=np.int32)
        # Proven above, so the bytes are not put together again.
        return character_ranges(text, data, ends_B - lengths_B, ends_B)

    def text_of(self, token: int) -> str | None:
        """The text of one token, a part of a character as U+FFFD; None without fixed text.

        >>> table = ByteTable(pieces=[b"\\xe2\\x96\\x81Hi", b"\\xc3"], added=frozenset(), space=SPACE_MARK)
        >>> table.text_of(0), table.text_of(1), table.text_of(2)
        (' Hi', '\ufffd', None)
        """
        piece = self.pieces[token] if 0 <= token < len(self.pieces) else None
        return None if piece is None else piece.decode("utf-8", errors="replace").replace(self.space, " ")

    def _sums_prove(self, text: str) -> bool:
        return self.sum_proves or (self.ascii_proves and text.isascii()) or (self.nfc_proves and is_kept(text))

    def _proven(self, text: str, data: bytes, ids: Sequence[int], is_normal: bool) -> bool:
        if (is_normal and self.nfc_proves) or self._sums_prove(text):
            return True
        # The dearest proof, and one for any tokenizer: the tokens spell the text.
        return b"".join([self.pieces[i] or b"" for i in ids]) == data

    def _by_token(self, size: int, ids_T: npt.NDArray[np.int32]) -> Ranges | None:
        """The characters of tokens that spell a text of `size`, by how many begin in each.

        None while few texts asked, where a token is empty, and where the characters are not as many as the text's.
        """
        self._asked[0] += 1
        if self._asked[0] <= _FEW_TEXTS or self._characters is None:
            return None
        begun, inside = self._characters
        begun_T = begun.take(ids_T)
        ends_T = np.cumsum(begun_T, dtype=np.int32)
        if len(ends_T) and ends_T[-1] != size:
            return None
        # A token that begins inside of a character has all of it.
        return ends_T - begun_T - inside.take(ids_T), ends_T

    @functools.cached_property
    def _asked(self) -> list[int]:
        """The number of texts beyond ASCII so far."""
        return [0]  # a list, since the dataclass is frozen and a number could not be counted up

    def _with_prefix_spaces(
        self, data: bytes, ids: Sequence[int]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None:
        """Byte ranges for tokenizers that put a space before the text between two added tokens.

        Each section's tokens must spell the section, or the section after one more space; both at once is refused.
        """
        space = self.space.encode()
        # A token that holds an inserted space has that many bytes fewer; one that is only that space is empty.
        lengths_B = self._lengths.take(array_of(ids), mode="clip").astype(np.int64)
        at = first = 0
        marks = [place for place, i in enumerate(ids) if i in self.added]
        for stop in (*marks, len(ids)):
            mark = (self.pieces[ids[stop]] or b"") if stop < len(ids) else None
            joined = b"".join([self.pieces[i] or b"" for i in ids[first:stop]]) if first < stop else b""
            exact = _follows(data, at, joined, mark)
            inserted = joined.startswith(space) and _follows(data, at, joined[len(space) :], mark)
            # Both at once happens where a text begins with two spaces: then nobody can say which one was inserted.
            if exact == inserted:
                return None
            if inserted:
                lengths_B[first] -= len(space)
            at += len(joined) - (len(space) if inserted else 0) + len(mark or b"")
            first = stop + 1
        if at != len(data):
            return None
        ends_B = np.cumsum(lengths_B)
        return ends_B - lengths_B, ends_B


def _follows(data: bytes, at: int, joined: bytes, mark: bytes | None) -> bool:
    """True if `joined` is at a byte, followed by the added token `mark` or the end of the text.

    >>> _follows(b"Hi<e>", 0, b"Hi", b"<e>"), _follows(b"Hi<e>", 0, b"Hi", None)
    (True, False)
    """
    end = at + len(joined)
    return data.startswith(joined, at) and (end == len(data) if mark is None else data.startswith(mark, end))


def character_ranges(text: str, data: bytes, starts_T: npt.NDArray[Any], ends_T: npt.NDArray[Any]) -> Ranges:
    """Byte ranges as character ranges; a token that holds a part of a character gets all of it.

    >>> starts_T, ends_T = character_ranges("é!", "é!".encode(), np.array([0, 1, 2]), np.array([1, 2, 3]))
    >>> starts_T.tolist(), ends_T.tolist()
    ([0, 0, 1], [1, 1, 2])
    """
    # Only ASCII has as many bytes as characters: places are the same.
    if len(data) == len(text):
        return starts_T.astype(np.int32), ends_T.astype(np.int32)
    # A byte of UTF-8 that is not `10xxxxxx` begins a character.
    leads = (np.frombuffer(data, np.uint8) & 0xC0) != 0x80
    # One entry more than bytes: the position after the last byte is after the last character.
    char_of_byte = np.empty(len(data) + 1, dtype=np.int32)
    np.cumsum(leads, dtype=np.int32, out=char_of_byte[:-1])
    char_of_byte -= 1
    char_of_byte[-1] = len(text)
    return by_byte(char_of_byte, starts_T, ends_T)


def by_byte(char_of_byte: npt.NDArray[np.int32], starts_T: npt.NDArray[Any], ends_T: npt.NDArray[Any]) -> Ranges:
    """Byte ranges as character ranges, by the character of each byte and of the end.

    >>> starts_T, ends_T = by_byte(np.array([0, 0, 1, 2]), np.array([0, 1, 2]), np.array([1, 2, 3]))
    >>> starts_T.tolist(), ends_T.tolist()
    ([0, 0, 1], [1, 1, 2])
    """
    starts = char_of_byte.take(starts_T)
    # A token ends with the character that has its last byte; a token without bytes ends where it starts.
    ends = char_of_byte.take(ends_T - 1, mode="clip")
    ends += 1
    return starts, np.where(ends_T > starts_T, ends, starts)


def tables_of_slow(
    tokens: Sequence[str | None], added: Mapping[int, str], unknown: int | None
) -> tuple[ByteTable, ...]:
    """Ways to read a tokenizer that says nothing of itself; `locate` proves which one holds.

    `tokens` are the vocabulary's texts by id, `added` the texts of the added tokens.
    """

    def table(read: Any, space: str) -> ByteTable:
        pieces = [None if token is None or i == unknown else read(token) for i, token in enumerate(tokens)]
        for i, content in added.items():
            pieces[i] = content.replace(" ", space).encode()
        return ByteTable(pieces=pieces, added=frozenset(added), space=space)

    # A tokenizer of bytes, such as ByT5's: its tokens are single characters below 256.
    def latin1(token: str) -> bytes | None:
        return token.encode("latin-1") if len(token) == 1 and ord(token) < 256 else None

    return table(byte_level_bytes, " "), table(metaspace_bytes, SPACE_MARK), table(latin1, " ")
