"""Texts of pictures by their width and height.

    (640, 480)  →  <|image_pad|> 391 times, for a processor that counts tokens itself

A processor that does not is asked with blank pictures of the size (`blank`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from policy_engine.chat.media.blank import BlankPictures
from policy_engine.chat.media.processor import MediaProcessor, noise
from policy_engine.core.bounded import Bounded
from policy_engine.core.errors import MediaError, PolicyEngineError

# Small, wide, tall, square and odd ones: where processors round, crop or tile in other ways.
_SIZES: Final = ((64, 48), (224, 168), (168, 224), (640, 480), (333, 999), (1000, 400), (31, 29), (512, 512))
"""Width and height of the pictures that a processor is asked about first."""
_MOST_KEPT: Final = 1 << 14
COMPARED: Final = 3
"""Rows whose media are decoded and compared, before texts without a count of tokens are trusted."""


@dataclass(frozen=True, kw_only=True)
class _Repeated:
    """A text that is one token, repeated, between two texts that do not change."""

    before: str
    unit: str
    after: str


@dataclass(kw_only=True, eq=False)
class BySize:
    """The texts of a processor for pictures of given sizes."""

    media: MediaProcessor
    repeated: _Repeated | None = None
    to_compare: int = 0
    """Rows with pictures that are still to be decoded and compared."""
    _sets: Bounded[tuple[tuple[int, int], ...], list[str]] = field(default_factory=lambda: Bounded(_MOST_KEPT))
    _known: Bounded[tuple[int, int], str] = field(default_factory=lambda: Bounded(_MOST_KEPT))

    def __post_init__(self) -> None:
        self.blank = BlankPictures(media=self.media)

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

    def forget(self) -> None:
        """Asks again for sizes that were asked already."""
        self._sets.clear()
        self._known.clear()

    def _ask(self, width: int, height: int) -> str:
        if self.repeated is None:
            return self.blank.write([(width, height)])[0]
        shape = self.repeated
        return shape.before + shape.unit * _count(self.media, width, height) + shape.after


def by_size(media: MediaProcessor) -> BySize | None:
    """The texts of pictures by their sizes.

    None where samples show that they depend on more, or where the processor takes no pictures.
    """
    if "image" not in media.tokens:
        return None
    try:
        texts = {size: media.write(media.tokens["image"], {"image": [noise(*size)]}).texts[0] for size in _SIZES}
        # A private method, and the only one that counts tokens without a picture; samples check it.
        counts = hasattr(media.processor, "_get_num_multimodal_tokens")
        found = BySize(media=media, repeated=_repeated(media, texts) if counts else None)
        if any(found.text(*size) != texts[size] for size in _SIZES):
            return None
    # A processor that refuses a sample is asked with the pictures themselves.
    except PolicyEngineError:
        return None
    found.to_compare = 0 if found.repeated is not None else COMPARED
    return found


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
    for unit in media.units("image"):
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
