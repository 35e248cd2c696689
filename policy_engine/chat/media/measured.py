"""Pictures and sounds that are measured, not decoded.

The text that a processor writes for one is known from its width and height, or from its number of samples.

This is done where samples show that nothing else decides: noise, silence and one color have to give the same text,
alone and together. Ids and columns that are put together here have to equal those of the processor's own call. Texts
that follow from no count of tokens are given only after the first media of the data agree, too; and of all rows, a
sample is decoded and compared.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from policy_engine.chat.media.by_length import ByLength, by_length, hiss
from policy_engine.chat.media.by_size import BySize, by_size
from policy_engine.chat.media.in_messages import Medium
from policy_engine.chat.media.processor import MediaProcessor, WrittenMedia, noise
from policy_engine.chat.tokens.fast_backend import is_sampled
from policy_engine.core.errors import MediaError, PolicyEngineError
from policy_engine.core.vocabulary import MediaKind

ONE_IN: Final = 64
"""One row with media of so many is decoded and compared."""
Columns = Callable[[Sequence[int], Sequence[tuple[int, int]]], "npt.NDArray[np.int8]"]
"""Ids and the tokens `(first, count)` of each medium to a column."""
Size = tuple[int, int] | int
"""Width and height of a picture, or the samples of a sound."""


@dataclass(kw_only=True, eq=False)
class Measured:
    """The texts of a processor for media of given sizes, and the columns beside the ids."""

    media: MediaProcessor
    columns: dict[str, Columns]
    pictures: BySize | None = None
    sounds: ByLength | None = None
    given: bool = False
    """True as soon as a row was given whose media were only measured."""

    def takes(self, media: Sequence[Medium]) -> bool:
        """True if the media of a row are of kinds that are measured, and not too many."""
        sounds = sum(medium.kind == "audio" for medium in media)
        if sounds and (self.sounds is None or (self.sounds.alone and sounds > 1)):
            return False
        return all(medium.kind != "video" and (medium.kind != "image" or self.pictures) for medium in media)

    def is_compared(self, text: str, media: Sequence[Medium]) -> bool:
        """True for rows that go through the processor's own call: the first ones, and a sample."""
        if not media:
            return False
        return any(way.to_compare > 0 for way in self._ways(media)) or is_sampled(text, ONE_IN)

    def texts(self, media: Sequence[Medium], sizes: Sequence[Size]) -> list[str] | None:
        """The texts that are written for the media of a row that it takes.

        None where the text of a sound is not known.

        Raises MediaError where the processor refuses a size.
        """
        sizes_of_pictures = [size for size in sizes if isinstance(size, tuple)]
        pictures = iter(() if self.pictures is None else self.pictures.texts(sizes_of_pictures))
        made: list[str] = []
        for size in sizes:
            sound = None if isinstance(size, tuple) or self.sounds is None else self.sounds.text(size)
            text = next(pictures) if isinstance(size, tuple) else sound
            if text is None:
                return None
            made.append(text)
        return made

    def agrees(self, media: Sequence[Medium], sizes: Sequence[Size], texts: Sequence[str]) -> bool:
        """True if the texts of decoded media are those written here for their sizes."""
        try:
            made = self.texts(media, sizes)
        except MediaError:
            return False
        # A sound of unknown text shows nothing.
        if made is None:
            return True
        for way in self._ways(media):
            way.to_compare -= 1
        return made == list(texts)

    def _ways(self, media: Sequence[Medium]) -> list[BySize | ByLength]:
        kinds = {medium.kind for medium in media}
        ways = {"image": self.pictures, "audio": self.sounds}
        return [way for kind, way in ways.items() if kind in kinds and way is not None]


def measured(media: MediaProcessor, kinds: Collection[MediaKind]) -> Measured | None:
    """A way to measure media of the kinds, which rows have together, for a processor.

    None where samples show that it needs the media themselves.
    """
    found = Measured(
        media=media,
        columns={},
        pictures=by_size(media) if "image" in kinds else None,
        sounds=by_length(media) if "audio" in kinds else None,
    )
    if found.pictures is None and found.sounds is None:
        return None
    try:
        return found if _learn_columns(found) else None
    # A processor that refuses a sample is asked with the media themselves.
    except PolicyEngineError:
        return None


def _samples(found: Measured) -> list[tuple[str, dict[MediaKind, list[Any]]]]:
    """Texts with up to three media of each kind, and with one of each kind."""
    media = found.media
    # Two of one size and one of another: a column that depends on content or number would differ.
    given: dict[MediaKind, list[Any]] = {}
    if found.pictures is not None:
        given["image"] = [noise(64, 48), noise(400, 220), noise(64, 48, seed=1)]
    if found.sounds is not None:
        sizes = found.sounds.longest // 4, found.sounds.longest // 3
        given["audio"] = [hiss(sizes[0]), hiss(sizes[1]), hiss(sizes[0], seed=1)]
    samples: list[tuple[str, dict[MediaKind, list[Any]]]] = [("a b", {})]
    for kind, each in given.items():
        token = media.tokens[kind]
        samples.append((f"a{token}b", {kind: each[:1]}))
        if kind == "image" or not (found.sounds and found.sounds.alone):
            samples.append((f"{token}\n{token} b", {kind: each[:2]}))
            samples.append((f"a {token}b{token}{token}", {kind: each}))
    if len(given) > 1:
        samples.append(
            (f"a{media.tokens['audio']}b{media.tokens['image']}", {kind: each[:1] for kind, each in given.items()})
        )
    return samples


def _learn_columns(found: Measured) -> bool:
    """Finds how each column is made; False if one cannot be, or if ids differ."""
    media = found.media
    made: list[tuple[WrittenMedia, list[tuple[int, int]]]] = []
    for text, given in _samples(found):
        written = media.write(text, given)
        places = media.find(text)
        waiting = {kind: iter(each) for kind, each in given.items()}
        row = [Medium(kind=p.kind, turn=0, item=at, source=next(waiting[p.kind])) for at, p in enumerate(places)]
        if found.texts(row, [size_of(m.kind, m.source) for m in row]) != written.texts:
            return False
        whole, ranges, read = "", [], 0
        for place, own in zip(places, written.texts):
            whole += text[read : place.start]
            ranges.append((len(whole), len(whole) + len(own)))
            whole += own
            read = place.end
        encoded = media.processor.tokenizer(
            whole + text[read:], add_special_tokens=media.adds_special(text), return_offsets_mapping=True
        )
        if list(encoded["input_ids"]) != written.ids:
            return False
        made.append((written, [_inside(encoded["offset_mapping"], *chars) for chars in ranges]))
    for name in media.columns:
        # By the class's own function first; a column of zeros fits all ways, and then any is right.
        for way in (_by_id(media), _by_place, _zeros):
            if all(_agrees(way, name, written, ranges) for written, ranges in made):
                found.columns[name] = way
                break
        else:
            return False
    return True


def size_of(kind: MediaKind, opened: Any) -> Size:
    """Width and height of a picture, or the samples of a sound, both decoded.

    >>> size_of("audio", [0.0, 0.5])
    2
    """
    if kind == "audio":
        return len(opened)
    width, height = opened.size
    return width, height


def _agrees(way: Columns, name: str, written: WrittenMedia, ranges: Sequence[tuple[int, int]]) -> bool:
    expected = written.columns.get(name)
    # A processor may leave the column out of a row without media.
    expected = np.zeros(len(written.ids), dtype=np.int8) if expected is None else expected
    try:
        return bool(np.array_equal(way(written.ids, ranges), expected))
    except Exception:  # each class has its own signature
        return False


def _by_id(media: MediaProcessor) -> Columns:
    def make(ids: Sequence[int], ranges: Sequence[tuple[int, int]]) -> npt.NDArray[np.int8]:
        return np.asarray(media.processor.create_mm_token_type_ids([list(ids)])[0], dtype=np.int8)

    return make


def _by_place(ids: Sequence[int], ranges: Sequence[tuple[int, int]]) -> npt.NDArray[np.int8]:
    made = np.zeros(len(ids), dtype=np.int8)
    for first, count in ranges:
        made[first : first + count] = 1
    return made


def _zeros(ids: Sequence[int], ranges: Sequence[tuple[int, int]]) -> npt.NDArray[np.int8]:
    return np.zeros(len(ids), dtype=np.int8)


def _inside(offsets: Sequence[tuple[int, int]], start: int, end: int) -> tuple[int, int]:
    within = [at for at, (a, b) in enumerate(offsets) if start <= a < b <= end]
    return (within[0], len(within)) if within else (0, 0)
