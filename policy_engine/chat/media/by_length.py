"""Texts of sounds by their number of samples.

    29,000 samples  →  <|AUDIO|> 45 times: one for each 640 samples

A sound becomes as many tokens as its features have steps, whatever is heard in it. Steps of a fixed number of samples
are found by asking the processor for noise of chosen lengths; then the count is compared with the processor's own call
right before and right at steps all over the range. Lengths outside of what was compared are not answered.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from policy_engine.chat.media.by_size import COMPARED
from policy_engine.chat.media.processor import MediaProcessor
from policy_engine.core.errors import PolicyEngineError

Count = Callable[[int], int]
"""Samples to tokens."""
_SECONDS: Final = 30
"""Length of the longest sound that a processor without a window is asked about."""
_RANDOM: Final = 5
"""Sounds of random lengths that are compared."""


@dataclass(kw_only=True, eq=False)
class ByLength:
    """The texts of a processor for sounds of `shortest` to `longest` samples: a token, repeated."""

    before: str
    unit: str
    after: str
    count: Count
    shortest: int
    longest: int
    alone: bool
    """True for a processor that takes one sound a row."""
    to_compare: int = COMPARED
    """Rows with sounds that are still to be decoded and compared."""

    def text(self, samples: int) -> str | None:
        """The text of a sound; None for a length outside of those that were compared."""
        if not self.shortest <= samples <= self.longest:
            return None
        return self.before + self.unit * self.count(samples) + self.after


def by_length(media: MediaProcessor) -> ByLength | None:
    """The texts of sounds by their lengths.

    None where samples show that they depend on more, or where the processor takes no sounds.
    """
    if "audio" not in media.tokens:
        return None
    try:
        return _Asked(media=media).found()
    # A processor that refuses a sample, or writes another text for it, is asked with the sounds themselves.
    except (PolicyEngineError, _Unlike):
        return None


def hiss(samples: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """A sound of noise, for questions to a processor.

    >>> hiss(3).shape
    (3,)
    """
    return np.random.default_rng(seed).random(samples, dtype=np.float32) / np.float32(2)


class _Unlike(Exception):
    """A text that is not the token, repeated between the same two texts."""


@dataclass(kw_only=True, eq=False)
class _Asked:
    """Questions to a processor, and its answers."""

    media: MediaProcessor

    def __post_init__(self) -> None:
        self.shortest = self.media.rate // 10
        self.longest = self.media.window or _SECONDS * self.media.rate
        self.before, self.unit, self.after = self._shape()
        self.counts: dict[int, int] = {}

    def found(self) -> ByLength | None:
        alone = self._alone()
        for count in self._candidates():
            if all(self.count(at) == count(at) for at in self._samples(count)):
                # What is heard decides nothing: silence has as many tokens as noise.
                quiet = np.zeros(self.longest // 3, dtype=np.float32)
                if self._counted(self._text(quiet)) != count(len(quiet)):
                    return None
                return ByLength(
                    before=self.before,
                    unit=self.unit,
                    after=self.after,
                    count=count,
                    shortest=self.shortest,
                    longest=self.longest,
                    alone=alone,
                )
        return None

    def count(self, samples: int) -> int:
        """The tokens of a sound of noise. Raises _Unlike, and what the processor's call raises."""
        if samples not in self.counts:
            self.counts[samples] = self._counted(self._text(hiss(samples, seed=samples)))
        return self.counts[samples]

    def _text(self, sound: Any) -> str:
        return self.media.write(self.media.tokens["audio"], {"audio": [sound]}).texts[0]

    def _shape(self) -> tuple[str, str, str]:
        text = self._text(hiss(self.longest))
        for unit in self.media.units("audio"):
            first, last = text.find(unit), text.rfind(unit) + len(unit)
            if first >= 0 and text[first:last] == unit * ((last - first) // len(unit)):
                return text[:first], unit, text[last:]
        raise _Unlike

    def _counted(self, text: str) -> int:
        inner = text[len(self.before) : len(text) - len(self.after)]
        number = len(inner) // len(self.unit)
        if text != self.before + self.unit * number + self.after:
            raise _Unlike
        return number

    def _alone(self) -> bool:
        """True for a processor that takes one sound a row.

        Raises _Unlike if sounds change each other's text.
        """
        sounds = [hiss(self.longest // part, seed=part) for part in (2, 5, 3)]
        try:
            texts = self.media.write(self.media.tokens["audio"] * 3, {"audio": sounds}).texts
        except PolicyEngineError:
            return True
        if texts != [self._text(sound) for sound in sounds]:
            raise _Unlike
        return False

    def _candidates(self) -> Iterator[Count]:
        media = self.media
        if hasattr(media.processor, "_get_num_multimodal_tokens"):
            own = functools.partial(_own_count, media.processor)
            try:
                own(self.longest)
            except Exception:  # most classes count pictures alone
                pass
            else:
                yield own
        if (most := self.count(self.longest)) == self.count(self.shortest):
            yield lambda samples: most
            return
        steps = self._steps()
        if steps is not None:
            yield steps

    def _steps(self) -> Count | None:
        """A count of steps of a whole number of samples.

        It is found by the first edge and one that is far from it.
        """
        first = self._edge(self.shortest, self.longest)
        base = self.count(first)
        span, tokens = self.longest - first, self.count(self.longest) - base
        if tokens < 1:
            return None
        # All sizes of a step with which so many fit. For a window of 30 s it is one.
        sizes = range(span // (tokens + 1) + 1, span // tokens + 1)
        if len(sizes) != 1:
            last = self._edge(max(self.longest - 2 * (span // tokens), first), self.longest)
            tokens = self.count(last) - base
            if tokens < 1 or (last - first) % tokens:
                return None
            sizes = range((last - first) // tokens, (last - first) // tokens + 1)
        (size,) = sizes
        return lambda samples: base + (samples - first) // size

    def _edge(self, low: int, high: int) -> int:
        """The first length above `low` that has more tokens than it, at most `high`."""
        few = self.count(low)
        step = 256
        # From `low` on, since the next edge is near.
        while low + step < high and self.count(low + step) == few:
            low, step = low + step, step * 2
        return _first_above(self.count, few, low, min(low + step, high))

    def _samples(self, count: Count) -> Iterator[int]:
        """Lengths to compare: the ends, random ones, and those at edges of the count."""
        yield from (self.longest, self.shortest)
        rng = random.Random(0)
        span = self.longest - self.shortest
        for part in (0.0, 0.5, 0.95):
            low = self.shortest + int(part * span)
            if count(low) < count(self.longest):
                edge = _first_above(count, count(low), low, self.longest)
                yield from (edge - 1, edge)
        for _ in range(_RANDOM):
            yield self.shortest + rng.randrange(span)


def _first_above(count: Count, few: int, low: int, high: int) -> int:
    """The first length above `low` with more than `few` tokens, if `high` has more.

    >>> _first_above(lambda samples: samples // 10, 1, 15, 90)
    20
    """
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if count(middle) > few else (middle, high)
    return high


def _own_count(processor: Any, samples: int) -> int:
    # A private method, and the only one that counts tokens without a sound; samples check it.
    return int(processor._get_num_multimodal_tokens(audio_lengths=[samples])["num_audio_tokens"][0])
