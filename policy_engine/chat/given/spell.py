"""Given ids compared with a text, byte by byte, whatever their segmentation.

text        Hello<|im_end|>\\n
ids         H|ell|o|<|im_end|>          they spell the text up to byte 15, as four tokens
"""

from __future__ import annotations

import functools
import itertools
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from policy_engine.chat.tokens.byte_lengths import ByteTable, character_ranges

_BLANKS = tuple(
    chr(code).encode()
    for code in (*range(9, 14), 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)
)
"""White space, as added tokens take it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Spelled:
    """The first `count` tokens, which spell the text's characters `[0, end)`.

    `starts_T` and `ends_T` (characters) are theirs alone. The ids spell a start of the text if all of them are counted;
    else the token after them is the first that does not.
    """

    count: int
    end: int
    starts_T: npt.NDArray[np.int32]
    ends_T: npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Spelling:
    """The text that a tokenizer's ids stand for: `table` has the bytes of each.

    `stripping` are added tokens that take whitespace beside them, by id. `forms` are the Unicode normal forms that the
    tokenizer brings text to: a character may be spelled in one of them. It may put a space before a text
    (`spaced_first`), and before the text after an added token (`spaced_after`).
    """

    table: ByteTable
    stripping: Mapping[int, str] = field(default_factory=dict)
    forms: Sequence[str] = ()
    spaced_first: bool = False
    spaced_after: bool = False

    def spell(self, text: str, ids_T: npt.NDArray[np.int32]) -> Spelled:
        """The tokens that spell a text, from its start.

        >>> spelling = Spelling(table=ByteTable(pieces=[b"H", b"ell", b"o", b"a"], added=frozenset()))
        >>> spelled = spelling.spell("Hello", np.array([0, 1, 2], np.int32))
        >>> spelled.count, spelled.end, spelled.ends_T.tolist()
        (3, 5, [1, 4, 5])
        >>> spelling.spell("Hello", np.array([0, 3], np.int32)).count
        1
        """
        ids = ids_T.tolist()
        data = self.written(text)
        # The fast path, in one join: rows whose ids spell the text and nothing was inserted or taken.
        if self._knows(ids_T):
            joined = b"".join(map(self._pieces.__getitem__, ids))  # type: ignore[arg-type]
            lengths_T = self.table.lengths[ids_T]
            ends_T = np.cumsum(lengths_T)
            # `startswith`, not `==`: ids may end before the text does.
            if data.startswith(joined):
                return _spelled(text, data, ends_T - lengths_T, ends_T)
            if self.forms and not text.isascii():
                normal = _in_form(text, joined, self.forms[0])
                if normal.data.startswith(joined):
                    return normal.places(ends_T - lengths_T, ends_T)
        # Slow and exact: it finds the first token that differs, and what tokenizers insert or take.
        starts, ends, at = _in_sections(data, ids, self)
        if self.forms and not text.isascii():
            # The ids drift somewhere. A character in normal form before that place is no drift.
            known = list(itertools.takewhile(lambda piece: piece is not None, (self._piece(i) for i in ids)))
            normal = _in_form(text, b"".join(known), self.forms[0])  # type: ignore[arg-type]
            normal_starts, normal_ends, reached = _in_sections(normal.data, ids, self)
            if len(normal_starts) > len(starts):
                found = normal.places(np.asarray(normal_starts, np.int64), np.asarray(normal_ends, np.int64))
                return found if reached != len(normal.data) else replace(found, end=len(text))
        found = _spelled(text, data, np.asarray(starts, np.int64), np.asarray(ends, np.int64))
        # Blanks that an added token took are at the end of the text and in no token.
        return found if at != len(data) else replace(found, end=len(text))

    def _piece(self, token: int) -> bytes | None:
        return self._pieces[token] if token < len(self._pieces) else None

    @functools.cached_property
    def _pieces(self) -> list[bytes | None]:
        return list(self.table.pieces)  # a plain list: it is asked for each token

    def _knows(self, ids_T: npt.NDArray[np.int32]) -> bool:
        """True if every id stands for fixed bytes."""
        lengths = self.table.lengths
        return not ids_T.size or (int(ids_T.max()) < len(lengths) and int(lengths[ids_T].min()) >= 0)

    def written(self, text: str) -> bytes:
        """The bytes of a text, spaces written as the table has them."""
        return _written(text, self.table.space)

    def may_start(self, data: bytes, token: int) -> bool:
        """False if a token cannot be the first of those that spell some bytes.

        >>> spelling = Spelling(table=ByteTable(pieces=[b"He", b"a"], added=frozenset()))
        >>> spelling.may_start(b"Hello", 0), spelling.may_start(b"Hello", 1)
        (True, False)
        """
        piece = self.table.pieces[token] if token < len(self.table.pieces) else None
        # True where unsure: a token without fixed bytes may spell anything.
        return piece is None or data.startswith(piece) or (self.spaced_first and piece.startswith(self.written(" ")))


def all_known(ids: Sequence[int], pieces: Sequence[bytes | None]) -> bool:
    """True if every id stands for fixed bytes.

    >>> all_known([0, 1], [b"a", None]), all_known([0], [b"a", None])
    (False, True)
    """
    return not ids or (max(ids) < len(pieces) and all(pieces[i] is not None for i in ids))


def _written(text: str, space: str) -> bytes:
    # Half of a surrogate pair has no bytes, so no token spells it.
    return (text if space == " " else text.replace(" ", space)).encode("utf-8", "surrogatepass")


def _spelled(text: str, data: bytes, starts_T: npt.NDArray[np.int64], ends_T: npt.NDArray[np.int64]) -> Spelled:
    starts, ends = character_ranges(text, data, starts_T, ends_T)
    return Spelled(count=len(starts), end=int(ends[-1]) if len(ends) else 0, starts_T=starts, ends_T=ends)


def _in_sections(data: bytes, ids: Sequence[int], spelling: Spelling) -> tuple[list[int], list[int], int]:
    """Byte ranges of the tokens that spell a start of the data.

    A section is the tokens between two added ones. It may begin with a space that the tokenizer puts there, and after
    an added token that takes whitespace, blanks of the text may be gone.
    """
    starts: list[int] = []
    ends: list[int] = []
    at = 0
    before: int | None = None
    for section, mark in _sections(ids, spelling):
        best: tuple[list[int], list[int], int] | None = None
        for start, skip in _ways(data, at, section, spelling, before):
            found = _follow(data, start, section, skip)
            # The way that gets furthest, so that the report names the right token.
            if best is None or len(found[0]) > len(best[0]):
                best = found
            if len(found[0]) == len(section) and (mark is None or _mark(data, found[2], mark, spelling)):
                best = found
                break
        assert best is not None
        if before in spelling.stripping and not section and mark is None:
            # Blanks at the end that an added token took belong to no token, and are not missing.
            blanks = _past_blanks(data, at, spelling.table.space.encode())
            best = ([], [], blanks if blanks == len(data) else at)
        starts += best[0]
        ends += best[1]
        at = best[2]
        if len(best[0]) < len(section):
            break
        if mark is None:
            break
        found_mark = _mark(data, at, mark, spelling)
        if found_mark is None:
            break
        starts.append(found_mark[0])
        ends.append(found_mark[1])
        at, before = found_mark[1], mark
    return starts, ends, at


def _sections(ids: Sequence[int], spelling: Spelling) -> Iterator[tuple[list[bytes | None], int | None]]:
    pieces, added = spelling.table.pieces, spelling.table.added
    section: list[bytes | None] = []
    for i in ids:
        # Stripping tokens have no piece in the table, and are added tokens all the same.
        if i in added or i in spelling.stripping:
            yield section, i
            section = []
        else:
            section.append(pieces[i] if i < len(pieces) else None)
    yield section, None


def _ways(
    data: bytes, at: int, section: Sequence[bytes | None], spelling: Spelling, before: int | None
) -> Iterator[tuple[int, int]]:
    """The bytes at which a section may begin, each with the bytes of its tokens to skip.

    `before` is the added token in front of it, None at the start.
    """
    space = spelling.table.space.encode()
    spaced = spelling.spaced_first if before is None else spelling.spaced_after
    starts = [at]
    if before in spelling.stripping:
        after = _past_blanks(data, at, space)
        starts += [after] if after != at else []
    for start in starts:
        yield start, 0
        # The space may be several tokens, one for each of its bytes.
        # As many tokens as the space has bytes: by byte fallback it may be three.
        if spaced and b"".join(piece or b"" for piece in section[: len(space)]).startswith(space):
            yield start, len(space)


def _past_blanks(data: bytes, at: int, space: bytes) -> int:
    while True:
        found = next((blank for blank in (space, *_BLANKS) if data.startswith(blank, at)), None)
        if found is None:
            return at
        at += len(found)


def _follow(data: bytes, at: int, section: Sequence[bytes | None], skip: int) -> tuple[list[int], list[int], int]:
    """The byte ranges of a section's tokens, as far as they spell the data from a byte on.

    >>> _follow(b"Hello", 0, [b"He", b"llo"], 0)
    ([0, 2], [2, 5], 5)
    >>> _follow(b"Hello", 0, [b"He", b"y"], 0)
    ([0], [2], 2)
    """
    starts: list[int] = []
    ends: list[int] = []
    for piece in section:
        if piece is None or not data.startswith(piece[skip:], at):
            break
        starts.append(at)
        at += max(len(piece) - skip, 0)
        ends.append(at)
        skip = max(skip - len(piece), 0)
    return starts, ends, at


def _mark(data: bytes, at: int, mark: int, spelling: Spelling) -> tuple[int, int] | None:
    """The bytes of an added token at a byte, or behind the whitespace there if it takes that.

    None if it is not there.
    """
    if mark not in spelling.stripping:
        piece = spelling.table.pieces[mark]
        return (at, at + len(piece)) if piece is not None and data.startswith(piece, at) else None
    space = spelling.table.space
    content = _written(spelling.stripping[mark], space)
    # At once, or behind the blanks that it takes: both are in use.
    for start in (at, _past_blanks(data, at, space.encode())):
        if data.startswith(content, start):
            return start, start + len(content)
    return None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Normal:
    """A text as ids spell it, each character as it is or in a normal form.

    `firsts_B` and `stops_B` are the characters `[first, stop)` of each byte.
    """

    data: bytes
    firsts_B: npt.NDArray[np.int32]
    stops_B: npt.NDArray[np.int32]

    def places(self, starts_T: npt.NDArray[np.int64], ends_T: npt.NDArray[np.int64]) -> Spelled:
        """The tokens' characters, from their bytes; the last token is within the data."""
        if not len(starts_T):
            return Spelled(count=0, end=0, starts_T=starts_T.astype(np.int32), ends_T=ends_T.astype(np.int32))
        last = len(self.data) - 1
        # A token without bytes at the very end has no byte to be looked up by.
        starts = np.where(starts_T > last, self.stops_B[last], self.firsts_B[np.minimum(starts_T, last)])
        ends = np.where(ends_T > starts_T, self.stops_B[np.maximum(ends_T - 1, 0)], starts)
        starts, ends = starts.astype(np.int32), ends.astype(np.int32)
        return Spelled(count=len(starts), end=int(ends[-1]), starts_T=starts, ends_T=ends)


def _in_form(text: str, joined: bytes, form: str) -> _Normal:
    data: list[bytes] = []
    firsts: list[npt.NDArray[np.int32]] = []
    stops: list[npt.NDArray[np.int32]] = []
    at = 0
    for start, end in _clusters(text):
        raw = text[start:end].encode("utf-8", "surrogatepass")
        normal = unicodedata.normalize(form, text[start:end]).encode("utf-8", "surrogatepass")  # type: ignore[arg-type]
        # As written if the ids have it so: a tokenizer's normal form may leave a character alone.
        if raw == normal or joined.startswith(raw, at):
            leads = (np.frombuffer(raw, np.uint8) & 0xC0) != 0x80
            first = (start + np.cumsum(leads) - 1).astype(np.int32)
            firsts.append(first)
            stops.append(first + 1)
            chosen = raw
        else:
            # Characters that become one share its bytes.
            firsts.append(np.full(len(normal), start, np.int32))
            stops.append(np.full(len(normal), end, np.int32))
            chosen = normal
        data.append(chosen)
        at += len(chosen)
    return _Normal(data=b"".join(data), firsts_B=np.concatenate(firsts), stops_B=np.concatenate(stops))


def _clusters(text: str) -> Iterator[tuple[int, int]]:
    """Ranges of a text that normalize by themselves.

    They are a character with its marks, and runs of ASCII.

    >>> list(_clusters("ab"))
    [(0, 1), (1, 2)]
    """
    start = 0
    for i in range(1, len(text) + 1):
        if i < len(text):
            # Vowels and finals of Hangul compose with the letter before them, and are no marks to Unicode.
            mark = unicodedata.combining(text[i]) or "\u1160" <= text[i] <= "\u11ff"
            # An ASCII character before a mark stays out of its run, since the two may compose.
            ascii_run = text[i].isascii() and text[i - 1].isascii() and i + 1 < len(text) and text[i + 1].isascii()
            if mark or ascii_run:
                continue
        yield start, i
        start = i
