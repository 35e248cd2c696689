"""Pictures that are measured, not decoded.

The text that a processor writes for one is known from its width and height.

This is done where samples show that nothing else decides. Pictures of noise and of one color have to give the same
text, alone and together. Ids and columns that are put together here have to equal those of the processor's own call.
Texts that follow from no count of tokens are given only after the first pictures of the data agree, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from policy_engine.chat.media.blank import BlankPictures
from policy_engine.chat.media.processor import MediaProcessor, WrittenMedia, noise
from policy_engine.core.bounded import Bounded
from policy_engine.core.errors import MediaError, PolicyEngineError

# Small, wide, tall, square and odd ones: where processors round, crop or tile in other ways.
_SIZES: Final = ((64, 48), (224, 168), (168, 224), (640, 480), (333, 999), (1000, 400), (31, 29), (512, 512))
"""Width and height of the pictures that a processor is asked about first."""
_MOST_KEPT: Final = 1 << 14
_COMPARED: Final = 3
"""Rows with pictures that are decoded and compared, before texts without a count of tokens are trusted."""

Columns = Callable[[Sequence[int], Sequence[tuple[int, int]]], "npt.NDArray[np.int8]"]
"""Ids and the tokens `(first, count)` of each medium to a column."""


@dataclass(frozen=True, kw_only=True)
class _Repeated:
    """A text that is one token, repeated, between two texts that do not change."""

    before: str
    unit: str
    after: str


@dataclass(kw_only=True, eq=False)
class Measured:
    """The texts of a processor for pictures of given sizes, and the columns beside the ids."""

    media: MediaProcessor
    columns: dict[str, Columns]
    repeated: _Repeated | None = None
    to_compare: int = 0
    """Rows with pictures that are still to be decoded, and given to `agrees`."""
    _sets: Bounded[tuple[tuple[int, int], ...], list[str]] = field(default_factory=lambda: Bounded(_MOST_KEPT))
    _known: Bounded[tuple[int, int], str] = field(default_factory=lambda: Bounded(_MOST_KEPT))

    def __post_init__(self) -> None:
        self.blank = BlankPictures(media=self.media)

    def agrees(self, sizes: Sequence[tuple[int, int]], texts: Sequence[str]) -> bool:
        """True if the texts of decoded pictures are those written here for their sizes."""
        self.to_compare -= 1
        try:
            return self.texts(sizes) == list(texts)
        except MediaError:
            return False

    def text(self, width: int, height: int) -> str:
        """The text that is written for a picture of this size.

        Raises MediaError where the processor refuses the size.
        """
        size = (width, height)
        known = self._known.get(size)
        return self._known.keep(size, self._ask(width, height)) if known is None else known

    def texts(self, sizes: Sequence[tuple[int, int]]) -> list[str]:
        """The texts that are written for the pictures of a row.

        Raises MediaError as `text` does.
        """
        if len(sizes) < 2 or not self.media.together:
            return [self.text(*size) for size in sizes]
        # LLaVA-OneVision writes a picture with fewer tokens where its row has more of them.
        known = self._sets.get(tuple(sizes))
        if known is None:
            known = self.blank.write(sizes)
        return self._sets.keep(tuple(sizes), known)

    def _ask(self, width: int, height: int) -> str:
        if self.repeated is None:
            return self.blank.write([(width, height)])[0]
        shape = self.repeated
        return shape.before + shape.unit * _count(self.media, width, height) + shape.after


def measured(media: MediaProcessor) -> Measured | None:
    """A way to measure pictures for a processor.

    None where samples show that it needs the pictures themselves.
    """
    if "image" not in media.tokens:
        return None
    try:
        texts = {size: media.write(media.tokens["image"], {"image": [noise(*size)]}).texts[0] for size in _SIZES}
        # A private method, and the only one that counts tokens without a picture; samples check it.
        counts = hasattr(media.processor, "_get_num_multimodal_tokens")
        found = Measured(media=media, columns={}, repeated=_repeated(media, texts) if counts else None)
        if any(found.text(*size) != texts[size] for size in _SIZES):
            return None
        found.to_compare = 0 if found.repeated is not None else _COMPARED
        return found if _learn_columns(found) else None
    # A processor that refuses a sample is asked with the pictures themselves.
    except PolicyEngineError:
        return None


def _count(media: MediaProcessor, width: int, height: int) -> int:
    try:
        # Height first, as transformers has sizes.
        counts = media.processor._get_num_multimodal_tokens(image_sizes=[(height, width)])
        return int(counts["num_image_tokens"][0])
    except Exception as error:  # each class has its own checks
        raise MediaError(
            f"{media.name} refuses a picture of {width} × {height} pixels: {str(error) or type(error).__name__}",
            help="fix or drop the row, or configure the processor for it",
        ) from error


def _repeated(media: MediaProcessor, texts: dict[tuple[int, int], str]) -> _Repeated | None:
    """The pattern of the texts of all sizes, if only the count of tokens differs."""
    tokenizer = media.processor.tokenizer
    # The token that is repeated is often another than the placeholder of the template.
    ids = [i for i in getattr(media.processor, "image_token_ids", []) if i is not None]
    units = dict.fromkeys([media.tokens["image"], *(str(tokenizer.convert_ids_to_tokens(i)) for i in ids)])
    for unit in units:
        shapes = set()
        for size, text in texts.items():
            first, last = text.find(unit), text.rfind(unit) + len(unit)
            if first < 0 or text[first:last] != unit * _count(media, *size):
                break
            shapes.add((text[:first], text[last:]))
        else:
            if len(shapes) == 1:
                before, after = shapes.pop()
                return _Repeated(before=before, unit=unit, after=after)
    return None


def _learn_columns(found: Measured) -> bool:
    """Finds how each column is made; False if one cannot be, or if ids differ."""
    media = found.media
    token = media.tokens["image"]
    # Two of one size and one of another: a column that depends on content or number would differ.
    pictures = [noise(64, 48), noise(400, 220), noise(64, 48, seed=1)]
    samples: list[tuple[str, list[Any]]] = [
        ("a b", []),
        (f"a{token}b", pictures[:1]),
        (f"{token}\n{token} b", pictures[:2]),
        (f"a {token}b{token}{token}", pictures),
    ]
    made: list[tuple[WrittenMedia, list[tuple[int, int]]]] = []
    for text, given in samples:
        written = media.write(text, {"image": given} if given else {})
        texts = found.texts([picture.size for picture in given])
        if texts != written.texts:
            return False
        rest, whole, ranges = text.split(token), "", []
        for at, part in enumerate(rest):
            whole += part
            if at < len(texts):
                ranges.append((len(whole), len(whole) + len(texts[at])))
                whole += texts[at]
        encoded = media.processor.tokenizer(
            whole, add_special_tokens=media.adds_special(text), return_offsets_mapping=True
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
