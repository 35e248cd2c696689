"""Media in the text of prepared rows, found by the pieces that a processor writes.

Idefics3 writes a picture of two tiles as

    <fake><row_1_col_1><image><image><fake><row_1_col_2><image><image>\\n\\n<fake><global-img><image><image><fake>

`<fake>` opens and closes it, and a piece is followed by a few others only. `<fake><fake>` is never inside of a
picture, so two pictures meet there.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from policy_engine.chat.media.processor import MediaProcessor, noise
from policy_engine.core.errors import MediaError
from policy_engine.core.vocabulary import MediaKind

_NUMBER: Final = re.compile(r"\d+")
# One tile, several in a row, several in a column, a full grid: shapes that processors cut in other ways.
_SIZES: Final = ((64, 48), (20, 20), (640, 480), (1600, 400), (300, 999), (1200, 1200))


@dataclass(frozen=True, kw_only=True)
class Found:
    """A medium at the characters `[start, end)` of a text, with `units` placeholders."""

    kind: MediaKind
    start: int
    end: int
    units: int


@dataclass(frozen=True, kw_only=True)
class MediaShape:
    """The pieces that a processor writes for a medium of one kind, and their order.

    `follows` has, for each piece, those that come behind it. Numbers in pieces are written as 0. `units` are the pieces
    in whose place the model puts features.
    """

    kind: MediaKind
    units: frozenset[str]
    firsts: frozenset[str]
    lasts: frozenset[str]
    follows: Mapping[str, frozenset[str]]

    def match(self, text: str, start: int) -> Found | None:
        """The longest medium that begins at a character.

        One that the end of the text cuts off is a medium, too.

        >>> one = frozenset({"<i>"})
        >>> shape = MediaShape(kind="image", units=one, firsts=one, lasts=one, follows={"<i>": one})
        >>> shape.match("a<i><i>b", 1)
        Found(kind='image', start=1, end=7, units=2)
        """
        at, units, best = start, 0, None
        pieces = self.firsts
        while True:
            # A piece that follows itself is read at once: a picture may have thousands of them.
            runs = frozenset(p for p in pieces if p in self.follows.get(p, ()))
            steps = ((piece, pattern.match(text, at)) for piece, pattern in _patterns(pieces, runs))
            piece, found = next((step for step in steps if step[1] is not None), ("", None))
            if found is None:
                return best
            at = found.end()
            if piece in self.units:
                units += len(found.group()) // len(piece)
            if units and (piece in self.lasts or at == len(text)):
                best = Found(kind=self.kind, start=start, end=at, units=units)
            pieces = self.follows.get(piece, frozenset())

    def unit_alone(self, text: str) -> str | None:
        """The placeholder that a text repeats; None where it has anything else."""
        return next((u for u in self.units if text and text == u * (len(text) // len(u))), None)


def any_number(text: str) -> re.Pattern[str]:
    """The pattern of a text, with any number where it has one.

    >>> bool(any_number("<row_0>").fullmatch("<row_12>"))
    True
    """
    return re.compile(_NUMBER.sub(lambda _: r"\d+", re.escape(text)))


@functools.lru_cache(256)
def _patterns(pieces: frozenset[str], runs: frozenset[str]) -> tuple[tuple[str, re.Pattern[str]], ...]:
    """The pattern of each piece, longest first."""
    made = []
    for piece in sorted(pieces, key=lambda p: (-len(p), p)):
        one = any_number(piece).pattern
        made.append((piece, re.compile(f"(?:{one})+" if piece in runs else one)))
    return tuple(made)


def shape_of(media: MediaProcessor, kind: MediaKind) -> MediaShape:
    """The shape of a processor's media of a kind, learned from samples of several sizes."""
    tokenizer = media.processor.tokenizer
    units = {media.tokens[kind], *(str(tokenizer.convert_ids_to_tokens(i)) for i in media.ids)}
    names = {str(token) for token in tokenizer.added_tokens_decoder.values()} | units
    cut = re.compile("(" + "|".join(re.escape(n) for n in sorted(names, key=len, reverse=True)) + ")")
    firsts, lasts, follows = set(), set(), dict[str, set[str]]()
    for text in _samples(media, kind):
        pieces = [_NUMBER.sub("0", piece) for piece in cut.split(text) if piece]
        if not set(pieces) & units:
            continue
        firsts.add(pieces[0])
        lasts.add(pieces[-1])
        for piece, after in itertools.pairwise(pieces):
            follows.setdefault(piece, set()).add(after)
    # A processor that takes no sample: its placeholder, once or often.
    if not firsts:
        unit = media.tokens[kind]
        firsts, lasts, follows = {unit}, {unit}, {unit: {unit}}
    return MediaShape(
        kind=kind,
        units=frozenset(units),
        firsts=frozenset(firsts),
        lasts=frozenset(lasts),
        follows={piece: frozenset(after) for piece, after in follows.items()},
    )


def _samples(media: MediaProcessor, kind: MediaKind) -> Iterator[str]:
    given: list[list[Any]]
    if kind == "image":
        given = [[noise(*size)] for size in _SIZES]
        # Some write a picture in another way where there are two.
        given.append([noise(640, 480), noise(64, 48)])
    elif kind == "audio":
        given = [[np.zeros(int(media.rate * seconds), dtype=np.float32)] for seconds in (0.4, 3.0)]
    else:
        given = [[[noise(64, 48, seed) for seed in range(frames)]] for frames in (2, 8)]
    for sample in given:
        try:
            yield from media.write(media.tokens[kind] * len(sample), {kind: sample}).texts
        except MediaError:
            continue  # it takes other sizes, or one at a time


def find_media(text: str, shapes: Sequence[MediaShape], counts: Sequence[int] = ()) -> list[Found]:
    """The media of a text, in order.

    `counts` are the placeholders of each, where the row says so: two media of placeholders alone that follow each other
    are told apart by it.

    >>> one = frozenset({"<i>"})
    >>> shape = MediaShape(kind="image", units=one, firsts=one, lasts=one, follows={"<i>": one})
    >>> [(m.start, m.end) for m in find_media("a<i><i><i>b", [shape], [1, 2])]
    [(1, 4), (4, 10)]
    """
    heads = {head for shape in shapes for head in shape.firsts}
    any_head = re.compile("|".join(any_number(head).pattern for head in heads) or r"(?!)")
    by_kind = {shape.kind: shape for shape in shapes}
    made: list[Found] = []
    at = 0
    while (head := any_head.search(text, at)) is not None:
        matches = [m for shape in shapes if (m := shape.match(text, head.start())) is not None]
        if not matches:
            at = head.start() + 1
            continue
        best = max(matches, key=lambda match: match.end)
        wanted = counts[len(made)] if len(made) < len(counts) else best.units
        unit = by_kind[best.kind].unit_alone(text[best.start : best.end])
        if 0 < wanted < best.units and unit is not None:
            best = Found(kind=best.kind, start=best.start, end=best.start + wanted * len(unit), units=wanted)
        made.append(best)
        at = best.end
    return made
