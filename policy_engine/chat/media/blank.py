"""Texts of a processor for blank pictures: the quickest question that its own code answers.

Most of the time for a picture of 640 × 480 is spent on making it smaller (4.3 ms of Pixtral's, beside 0.6 without).
So only the image half of a processor is asked, and pictures are resized by their nearest pixels, where samples show
that the texts are those of the whole call.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policy_engine.chat.media.processor import QUICK, MediaProcessor, noise
from policy_engine.core.vocabulary import MediaKind


@dataclass(frozen=True, kw_only=True, eq=False)
class BlankPictures:
    """Blank pictures of a processor that takes images."""

    media: MediaProcessor

    def write(self, sizes: Sequence[tuple[int, int]]) -> list[str]:
        """The texts for the pictures of a row, by width and height.

        Raises MediaError where the processor refuses one.
        """
        from PIL import Image

        pictures = [Image.new("RGB", size) for size in sizes]
        if self._quick is not None:
            try:
                return self._ask(pictures, self._quick)
            except Exception:  # the whole call refuses the same in words of its own
                pass
        media: dict[MediaKind, Sequence[Any]] = {"image": pictures}
        return self.media.write_quickly(self.media.tokens["image"] * len(sizes), media).texts

    @functools.cached_property
    def _quick(self) -> dict[str, Any] | None:
        """Arguments of the image half; None if its texts are not those of the whole call."""
        processor, token = self.media.processor, self.media.tokens["image"]
        try:
            merged = processor._merge_kwargs(
                tokenizer_init_kwargs=processor.tokenizer.init_kwargs, images_kwargs=dict(QUICK[0])
            )
            asked: dict[str, Any] = dict(merged["images_kwargs"])
            for pictures in ([noise(30, 90, seed=1)], [noise(64, 48), noise(400, 220), noise(30, 90, seed=1)]):
                if self._ask(pictures, asked) != self.media.write(token * len(pictures), {"image": pictures}).texts:
                    return None
        except Exception:  # each class has its own arguments and checks
            return None
        return asked

    def _ask(self, pictures: list[Any], asked: Mapping[str, Any]) -> list[str]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # A list in a list: one row, with several pictures.
            return [str(text) for text in self.media.processor._process_images([pictures], **asked)[1]]
