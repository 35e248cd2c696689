"""Roles and parts that tokens are counted under, worked out once for all chats of a shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from policy_engine.chat.segments import RenderedChat, Segment
from policy_engine.core.bounded import Bounded
from policy_engine.core.facts import placed_of

NO_ROLE: Final = ""
"""Role under which text that belongs to no message is counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentKinds:
    """The segments of chats of one shape: one entry per segment in `_S`."""

    keys: tuple[tuple[str, str], ...]
    """The (role, part) pairs that tokens are counted under."""
    keys_S: npt.NDArray[np.intp]
    """The place of each segment's pair in `keys`."""
    is_data_S: npt.NDArray[np.bool_]
    """True where the segment is data other than thinking: in thinking a template's own delimiters are expected."""


def is_thinking(segment: Segment) -> bool:
    """True for thinking and its delimiters."""
    return segment.part.startswith("reasoning")


_KNOWN: Bounded[object, SegmentKinds] = Bounded(1024)


def kinds_of(chat: RenderedChat) -> SegmentKinds:
    """The kinds of a chat's segments."""
    # Chats that share a layout have the same roles, so that its segments need not be made into objects for each row.
    placed = placed_of(chat.segments)
    found = None if placed is None else _KNOWN.get(placed.layout)
    if found is None:
        keys_S = [(NO_ROLE if s.turn is None else str(chat.messages[s.turn]["role"]), s.part) for s in chat.segments]
        at = {key: place for place, key in enumerate(dict.fromkeys(keys_S))}
        is_data = [s.from_data and not is_thinking(s) for s in chat.segments]
        found = SegmentKinds(
            keys=tuple(at),
            keys_S=np.array([at[key] for key in keys_S], dtype=np.intp),
            is_data_S=np.array(is_data, dtype=np.bool_),
        )
        if placed is not None:
            _KNOWN.keep(placed.layout, found)
    return found


class Numbering:
    """Numbers of the (role, part) pairs of several chats: twice the place of each in `known`."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], int] = {}
        self._arrays: dict[int, tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]] = {}

    def of(self, keys: Sequence[tuple[str, str]], keys_S: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """The number of each segment's pair, from what `SegmentKinds` has.

        >>> numbering = Numbering()
        >>> numbering.of([("user", "text"), ("user", "eot")], np.array([0, 1, 0]))
        array([0, 2, 0])
        >>> numbering.of([("tool", "text"), ("user", "text")], np.array([1, 0]))
        array([0, 4])
        """
        found = self._arrays.get(id(keys_S))
        if found is None:
            numbers = [2 * self.known.setdefault(key, len(self.known)) for key in keys]
            # With the array itself: while that is kept, no other has its identity.
            found = self._arrays[id(keys_S)] = keys_S, np.array(numbers, dtype=np.intp)[keys_S]
        return found[1]
