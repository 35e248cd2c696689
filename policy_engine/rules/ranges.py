"""Ranges of characters: sorted, disjoint `(start, end)` pairs, and decisions laid over them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

Range = tuple[int, int]
Decided = tuple[int, int, float, int]
"""Start, end, weight and rule (-1 for the default) of characters with one decision."""


def union(ranges: Iterable[Range]) -> list[Range]:
    """The ranges sorted, with those that touch or overlap joined.

    >>> union([(3, 5), (0, 3), (7, 9)])
    [(0, 5), (7, 9)]
    """
    found: list[Range] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            if end > found[-1][1]:
                found[-1] = (found[-1][0], end)
        elif start < end:
            found.append((start, end))
    return found


def intersect(a: list[Range], b: list[Range]) -> list[Range]:
    """Characters in both; each argument sorted and disjoint.

    >>> intersect([(0, 4)], [(2, 9)])
    [(2, 4)]
    """
    found: list[Range] = []
    i = j = 0
    while i < len(a) and j < len(b):
        start, end = max(a[i][0], b[j][0]), min(a[i][1], b[j][1])
        if start < end:
            found.append((start, end))
        # The range that ends first cannot overlap what follows in the other list.
        if a[i][1] < b[j][1]:
            i += 1
        else:
            j += 1
    return found


def overlay(
    pieces: list[Decided], ranges: list[Range], change: Callable[[float, int], tuple[float, int]]
) -> list[Decided]:
    """Contiguous pieces, with `change` applied to weight and rule where a range covers them.

    >>> overlay([(0, 9, 1.0, 0)], [(2, 4)], lambda weight, rule: (weight * 0.5, rule))
    [(0, 2, 1.0, 0), (2, 4, 0.5, 0), (4, 9, 1.0, 0)]
    """
    found: list[Decided] = []
    i = 0
    for start, end, weight, rule in pieces:
        at = start
        # Pieces are in order too, so a range that ends before this piece is done with.
        while i < len(ranges) and ranges[i][1] <= start:
            i += 1
        # One range may reach over several pieces, so the next piece begins at the same range again.
        j = i
        while j < len(ranges) and ranges[j][0] < end:
            a, b = max(ranges[j][0], start), min(ranges[j][1], end)
            if at < a:
                found.append((at, a, weight, rule))
            found.append((a, b, *change(weight, rule)))
            at = b
            j += 1
        if at < end:
            found.append((at, end, weight, rule))
    return found


def joined(pieces: list[Decided]) -> list[Decided]:
    """The pieces with neighbours of one decision joined.

    >>> joined([(0, 2, 1.0, 0), (2, 5, 1.0, 0), (5, 6, 0.0, 1)])
    [(0, 5, 1.0, 0), (5, 6, 0.0, 1)]
    """
    found: list[Decided] = []
    for piece in pieces:
        if found and found[-1][2:] == piece[2:]:
            found[-1] = (found[-1][0], piece[1], piece[2], piece[3])
        else:
            found.append(piece)
    return found
