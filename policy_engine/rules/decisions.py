"""What a program decides about a rendered chat, character by character."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """Characters `[start, end)` of one segment that one decision covers.

    `segment` is the segment's index; `rule` the index (`CheckedRule.index`) of the rule that decided, None for the default;
    `weight` is 0.0 where masked.
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
