"""Regions: sets of pairs of a point and an assignment of the free conditions.

A region is a dict from a free set to the points that have exactly this free set; points are bits of an int. In the
policy of `model`, `train assistant where message.quality > 3` matches

    {0b10: 0b0011}

that is, points 0 and 1 (an assistant's turn) under assignment 1 (the quality is above 3). A point is under one key at
most, and no point is under the empty set. Many points share few free sets, so regions stay small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce
from typing import Final

from policy_engine.proof.model.assignments import Free, Space, TooLarge

Region = dict[Free, int]

MAX_ENTRIES: Final = 4_000
"""Distinct free sets in one region; past them the proof gives up."""


class Algebra:
    """Set operations on the regions over one space."""

    def __init__(self, space: Space) -> None:
        self.space = space

    def region(self, free: Free, points: int) -> Region:
        """`points`, each with the free set `free`."""
        return {free: points} if points and free != self.space.empty else {}

    def points(self, points: int) -> Region:
        """`points`, whatever the free conditions."""
        return {self.space.full: points} if points else {}

    def both(self, a: Region, b: Region) -> Region:
        """Intersection.

        >>> from policy_engine.proof.model.assignments import make_space
        >>> algebra = Algebra(make_space([2]))
        >>> algebra.both({0b10: 0b0011}, {0b11: 0b0110})
        {2: 2}
        """
        space, out = self.space, _Builder(self.space)
        for free_b, points_b in b.items():
            for free_a, points_a in a.items():
                # Points are ints of thousands of bits, so one `&` rules out most pairs before free sets are combined.
                if points := points_a & points_b:
                    out.add(space.both(free_a, free_b), points)
        return out.region

    def without(self, a: Region, b: Region) -> Region:
        """Difference."""
        out = _Builder(self.space)
        self._merge(a, b, self.space.without, out)
        return out.region

    def either(self, a: Region, b: Region) -> Region:
        """Union."""
        if not a or not b:
            # No copy: regions are never changed once they are made.
            return a or b
        out = _Builder(self.space)
        seen_a = support(a)
        for free_b, points_b in b.items():
            if points := points_b & ~seen_a:
                out.add(free_b, points)
        self._merge(a, b, self.space.either, out)
        return out.region

    def union(self, regions: Iterable[Region]) -> Region:
        """Union of any number of regions."""
        return reduce(self.either, regions, {})

    def _merge(self, a: Region, b: Region, merge: Callable[[Free, Free], Free], out: _Builder) -> None:
        """Every point of `a`: with both free sets merged where `b` has it too, else as it is."""
        for free_a, points_a in a.items():
            rest = points_a
            for free_b, points_b in b.items():
                if points := rest & points_b:
                    out.add(merge(free_a, free_b), points)
                    rest &= ~points
                    # A point has one free set in `b` at most, so nothing is left for the others.
                    if not rest:
                        break
            if rest:
                out.add(free_a, rest)

    def within(self, a: Region, points: int) -> Region:
        """The part of `a` that lies at `points`.

        >>> from policy_engine.proof.model.assignments import make_space
        >>> Algebra(make_space([2])).within({0b10: 0b0011}, 0b0110)
        {2: 2}
        """
        return {free: p & points for free, p in a.items() if p & points}

    def forget(self, a: Region, variables: tuple[int, ...]) -> Region:
        """The points and assignments that are in `a` for some values of `variables`."""
        if not variables:
            return a
        out = _Builder(self.space)
        for free, points in a.items():
            out.add(self.space.forget(free, variables), points)
        return out.region


def support(a: Region) -> int:
    """The points that are in the region under some assignment.

    >>> bin(support({0b10: 0b0011, 0b11: 0b1000}))
    '0b1011'
    """
    found = 0
    for points in a.values():
        found |= points
    return found


class _Builder:
    def __init__(self, space: Space) -> None:
        self.region: Region = {}
        self._empty = space.empty

    def add(self, free: Free, points: int) -> None:
        if free != self._empty:
            region = self.region
            # Points that come to one free set are joined here: that keeps regions small.
            region[free] = region.get(free, 0) | points
            if len(region) > MAX_ENTRIES:
                raise TooLarge(f"a region of the policy falls into more than {MAX_ENTRIES} cases")
