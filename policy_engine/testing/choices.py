"""Sources of a generator's choices: a Hypothesis draw, which shrinks, or a fast seed.

Every generator of this package is a function of a `Choices`. `strategies` runs them on Hypothesis; a long run that
needs thousands of cases a second runs the same functions on `RandomChoices(seed)`. Options are in order, simplest
first, and low numbers are simple, so that Hypothesis shrinks towards small, plain cases.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from hypothesis import strategies as st

T = TypeVar("T")

_RANGES = (
    (32, 126), (9, 13), (0xA0, 0x24F), (0x300, 0x36F), (0x590, 0x6FF), (0x2000, 0x206F), (0x4E00, 0x9FFF),
    (0xE000, 0xF8FF), (0x1F300, 0x1FAFF), (0, 0xD7FF), (0xE000, 0x10FFFF),
)  # fmt: skip
"""Ranges of characters: ASCII, white space, accents, marks, right-to-left, CJK, emoji, and more."""


class Choices(Protocol):
    """The choices a generator can ask for."""

    def integer(self, low: int, high: int) -> int:
        """An integer in `[low, high]`, both ends included."""

    def pick(self, options: Sequence[T]) -> T:
        """One of the options; repeat an option to make it likelier."""

    def chance(self, percent: int) -> bool:
        """True in about that many of a hundred cases."""

    def many(self, make: Callable[[Choices], T], low: int, high: int) -> list[T]:
        """Between `low` and `high` values, each made by `make`."""

    def characters(self, most: int) -> str:
        """Up to `most` arbitrary code points, surrogates excepted."""


class RandomChoices:
    """Choices from a seed: the same in every process and on every platform.

    >>> RandomChoices(1).many(lambda choices: choices.pick(["user", "assistant"]), 2, 4)
    ['user', 'assistant']
    """

    def __init__(self, seed: int | str) -> None:
        self._random = random.Random(seed)

    def integer(self, low: int, high: int) -> int:
        """See `Choices`."""
        return self._random.randint(low, high)

    def pick(self, options: Sequence[T]) -> T:
        """See `Choices`."""
        return options[self._random.randrange(len(options))]

    def chance(self, percent: int) -> bool:
        """See `Choices`."""
        return self._random.random() * 100 < percent

    def many(self, make: Callable[[Choices], T], low: int, high: int) -> list[T]:
        """See `Choices`."""
        return [make(self) for _ in range(self._random.randint(low, high))]

    def characters(self, most: int) -> str:
        """See `Choices`. Planes are mixed, so that a short text is rarely all rare characters.

        >>> RandomChoices(1).characters(8) == RandomChoices(1).characters(8)
        True
        """
        return "".join(self._character() for _ in range(self._random.randint(0, most)))

    def _character(self) -> str:
        low, high = self.pick(_RANGES)
        return chr(self._random.randint(low, high))


class DrawChoices:
    """Choices from the `draw` function of a Hypothesis composite strategy."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def integer(self, low: int, high: int) -> int:
        """See `Choices`."""
        return self._draw(_integers(low, high))

    def pick(self, options: Sequence[T]) -> T:
        """See `Choices`."""
        return self._draw(st.sampled_from(options))

    def chance(self, percent: int) -> bool:
        """See `Choices`. Shrinks to False."""
        # High numbers are True, so that a case shrinks to what is left out.
        return self._draw(_integers(0, 99)) >= 100 - percent

    def many(self, make: Callable[[Choices], T], low: int, high: int) -> list[T]:
        """See `Choices`."""
        # As a Hypothesis list, whose items can be dropped one by one; a drawn length and a loop cannot.
        return self._draw(st.lists(run_on_draw(make), min_size=low, max_size=high))

    def characters(self, most: int) -> str:
        """See `Choices`."""
        return self._draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=most))


_integers = functools.lru_cache(maxsize=1024)(st.integers)
"""Looking a strategy up in Hypothesis' own cache takes longer than drawing from it."""


def run_on_draw(make: Callable[[Choices], T]) -> st.SearchStrategy[T]:
    """The Hypothesis strategy of what a generator makes."""

    @st.composite
    def made(draw: st.DrawFn) -> T:
        return make(DrawChoices(draw))

    return made()
