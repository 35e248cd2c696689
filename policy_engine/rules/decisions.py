"""The decisions of a program about a rendered chat, character by character.

`train assistant` decides the chat `<|im_start|>assistant\\nHi<|im_end|>\\n` as four pieces: characters 0 to 22 (the
header) with weight 0 by default, 22 to 24 (`Hi`) with weight 1 by rule 0, and two more with weight 0.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from policy_engine.core.facts import Placed


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """Characters `[start, end)` of one segment that one decision covers.

    `segment` is the segment's index; `rule` the index (`CheckedRule.index`) of the rule that decided, None for the
    default; `weight` is 0.0 where masked.
    """

    start: int
    end: int
    segment: int
    weight: float
    rule: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Decisions:
    """Decisions over a whole text: `pieces` are contiguous and gapless, in order.

    `never` lists the character ranges that a `never` guard covers (`on straddle train` must not train them).
    """

    pieces: tuple[Piece, ...]
    never: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class PieceTable:
    """The same as `Decisions`, column by column, one entry per piece; masks are made from it.

    `rules` has -1 for the default.
    """

    starts: list[int]
    ends: list[int]
    segments: list[int]
    weights: list[float]
    rules: list[int]
    never: tuple[tuple[int, int], ...]

    def decisions(self) -> Decisions:
        """The same as one object per piece."""
        columns = zip(self.starts, self.ends, self.segments, self.weights, self.rules)
        return Decisions(
            pieces=tuple(
                Piece(start=start, end=end, segment=segment, weight=weight, rule=None if rule < 0 else rule)
                for start, end, segment, weight, rule in columns
            ),
            never=self.never,
        )


class PlacedTable(PieceTable):
    """A table with a piece for each segment of a layout; places are made when asked for.

    `never` are the first and the last piece of each range.
    """

    __slots__ = ("__dict__", "_never", "_placed")  # what is made is kept in `__dict__`
    _never: tuple[tuple[int, int], ...]
    _placed: Placed

    def __init__(
        self, placed: Placed, weights: list[float], rules: list[int], never: tuple[tuple[int, int], ...]
    ) -> None:
        for name, value in (("_placed", placed), ("weights", weights), ("rules", rules), ("_never", never)):
            object.__setattr__(self, name, value)

    @functools.cached_property
    def starts(self) -> list[int]:
        """The first character of each piece."""
        return self._placed.starts[:-1]

    @functools.cached_property
    def ends(self) -> list[int]:
        """One past the last character of each piece."""
        return self._placed.starts[1:]

    @functools.cached_property
    def segments(self) -> list[int]:
        """The segment of each piece."""
        return list(range(len(self.weights)))

    @functools.cached_property
    def never(self) -> tuple[tuple[int, int], ...]:
        """The character ranges that a `never` guard covers."""
        starts = self._placed.starts
        return tuple([(starts[first], starts[last + 1]) for first, last in self._never])
