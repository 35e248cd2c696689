"""The places of segments in many rows of one layout, all at once.

    text      <|im_start|>user⏎   Hi   <|im_end|>   ⏎     constants, and a slot for the row's text
    starts    0                   17   19           29    those of the constants, and the slots before them

Rows of one layout differ by the sizes of their slots alone, so their places are sums of one matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from policy_engine.chat.label.layout import PlacedSegments

_FEWEST: Final = 4
"""Rows of one layout from which on a matrix is less work than their lists."""


def by_layout(rows: Sequence[Any]) -> tuple[list[list[int]], list[int]]:
    """The numbers of rows that have their places in common, in groups; and those of the rest.

    `rows` are the segments of each row.
    """
    alike: dict[tuple[int, int], list[int]] = {}
    rest: list[int] = []
    for at, row in enumerate(rows):
        if type(row) is PlacedSegments and row.scan.sizes is not None:
            alike.setdefault((id(row.scan.frame), id(row.layout)), []).append(at)
        else:
            rest.append(at)
    groups = [group for group in alike.values() if len(group) >= _FEWEST]
    return groups, rest + [at for group in alike.values() if len(group) < _FEWEST for at in group]


def starts_in(rows: Sequence[PlacedSegments]) -> npt.NDArray[np.int64]:
    """The place of each segment's start and of the text's end, a line for each row of a group."""
    frame = rows[0].scan.frame
    assert frame is not None
    shifts, slots = frame.shifts_of(rows[0].layout)
    sizes = np.array([row.scan.sizes for row in rows], dtype=np.int64)
    before = np.zeros((len(rows), sizes.shape[1] + 1), dtype=np.int64)
    np.cumsum(sizes, axis=1, out=before[:, 1:])
    return before.take(slots, axis=1) + np.array(shifts, dtype=np.int64)
