"""Roles and parts that tokens are counted under, worked out once for all chats of a shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from policy_engine.chat.segments import RenderedChat
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.bounded import Bounded
from policy_engine.core.facts import placed_of
from policy_engine.mask.row import MaskedRow

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


_KNOWN: Bounded[object, SegmentKinds] = Bounded(1024)


def kinds_of(chat: RenderedChat) -> SegmentKinds:
    """The kinds of a chat's segments."""
    # Chats that share a layout have the same roles, so that its segments need not be made into objects for each row.
    placed = placed_of(chat.segments)
    found = None if placed is None else _KNOWN.get(placed.layout)
    if found is None:
        keys_S = [(NO_ROLE if s.turn is None else str(chat.messages[s.turn]["role"]), s.part) for s in chat.segments]
        at = {key: place for place, key in enumerate(dict.fromkeys(keys_S))}
        is_data = [s.from_data and not s.part.startswith("reasoning") for s in chat.segments]
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


@dataclass(frozen=True, kw_only=True)
class ControlTokenUse:
    """A control token in the data: how many rows have it, and the first of them by number."""

    token: str
    rows: int
    first_rows: tuple[int, ...]


class ControlTokens:
    """Finds rows whose data has control tokens.

    These are special tokens, and added tokens that the chat template writes.
    """

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        added = tokenizer.tokenizer.added_tokens_decoder
        sources = list(tokenizer.templates.values())
        self._names = {
            int(i): str(token)
            for i, token in added.items()
            # A plain string has no flag, and counts as special. Qwen's `<tool_call>` is not special, and its template
            # writes it.
            if getattr(token, "special", True) or any(str(token) in source for source in sources)
        }
        # One entry more, False, for all ids past the last control token.
        self._is_control = np.zeros(max(self._names, default=0) + 2, dtype=np.bool_)
        self._is_control[list(self._names)] = True

    def found_in(self, rows: Sequence[MaskedRow]) -> list[tuple[str, ...]]:
        """The control tokens that data, not the template, brought to the text of each row.

        They are in their order, each once. Thinking that is written in content is not counted.
        """
        if not rows:
            return []
        ids = [row.tokenized.ids_T for row in rows]
        # Ids past the end are clipped to the last entry, which is False.
        hits = np.flatnonzero(self._is_control.take(np.concatenate(ids), mode="clip"))
        rows_H = np.searchsorted(np.cumsum([len(ids_T) for ids_T in ids]), hits, side="right")
        is_data = [kinds_of(row.chat).is_data_S for row in rows]
        starts_R = np.cumsum([0, *map(len, is_data)])
        segments_H = np.concatenate([row.mask.segments_T for row in rows])[hits]
        found: list[dict[str, None]] = [{} for _ in rows]
        of_data_H = np.concatenate(is_data)[starts_R[rows_H] + segments_H]
        for at, id_ in zip(rows_H[of_data_H].tolist(), np.concatenate(ids)[hits[of_data_H]].tolist()):
            found[at].setdefault(self._names[id_])
        return [tuple(tokens) for tokens in found]
