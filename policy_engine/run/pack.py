"""Packing: several documents in one sequence, each apart from the others by its positions."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from policy_engine.core.errors import DataError
from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.mask.row import MEDIA_COLUMN

Arrays = Mapping[str, Any]
PACK_TOKENS: Final = 256
"""Packed together at a time: documents of this many sequences' length, so that memory stays constant."""


def best_fit_decreasing(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Chooses which documents share a sequence of at most `capacity` tokens.

    The longest document is placed first, each where it leaves least room. Documents are given by their place in
    `lengths`; the result is the same for the same lengths, each document once.

        best_fit_decreasing([5, 2, 3, 4], 7)     [[0, 1], [3, 2]]

    Raises:
        DataError: a document is longer than `capacity`.

    >>> best_fit_decreasing([5, 3, 4, 2], 7)
    [[0, 3], [2, 1]]
    """
    # By place where lengths are equal, so that the same rows give the same sequences on every machine.
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    if order and lengths[order[0]] > capacity:
        raise DataError(
            f"a document of {lengths[order[0]]} tokens does not fit a sequence of {capacity}",
            help="truncate to the sequence's length first",
        )
    bins: list[list[int]] = []
    room: list[tuple[int, int]] = []  # room left and bin, by room
    for document in order:
        # The sequence with the least room that is still enough; `room` is sorted by it, so the search is binary.
        at = bisect_left(room, (lengths[document], -1))
        left, chosen = room.pop(at) if at < len(room) else (capacity, len(bins))
        if chosen == len(bins):
            bins.append([])
        bins[chosen].append(document)
        insort(room, (left - lengths[document], chosen))
    return bins


def pack(rows: Sequence[Arrays], capacity: int) -> list[dict[str, Any]]:
    """Packs rows of columns into rows of up to `capacity` tokens.

    A row has `input_ids`, `labels`, and perhaps `loss_weights` and `row`.

    A packed row has `position_ids` (int32, from 0 in each document) and `seq_lengths` (int32, one per document) in
    place of an attention mask, which would say that documents see each other. The first token of each document is
    never a target: the token before it belongs to another document.

    Raises:
        DataError: a row is longer than `capacity`.

    >>> rows = [{"input_ids": np.array(ids), "labels": np.array(ids)} for ids in ([1, 2], [3])]
    >>> (packed,) = pack(rows, 4)
    >>> packed["labels"].tolist(), packed["position_ids"].tolist(), packed["seq_lengths"].tolist()
    ([-100, 2, -100], [0, 1, 0], [2, 1])
    """
    packed = []
    for members in best_fit_decreasing([len(row["input_ids"]) for row in rows], capacity):
        documents = [rows[i] for i in members]
        lengths = np.array([len(document["input_ids"]) for document in documents], dtype=np.int32)
        made: dict[str, Any] = {
            name: np.concatenate([document[name] for document in documents])
            for name in documents[0]
            if name not in ("attention_mask", MEDIA_COLUMN)
        }
        starts = np.cumsum(lengths) - lengths
        if MEDIA_COLUMN in documents[0]:
            made[MEDIA_COLUMN] = [
                {**medium, "first": medium["first"] + int(start)}
                for start, document in zip(starts, documents)
                for medium in document[MEDIA_COLUMN]
            ]
        # A document without tokens has no first token: its start is that of the next document, or beyond the end.
        starts = starts[lengths > 0]
        made["labels"][starts] = IGNORE_INDEX
        if "loss_weights" in made:
            made["loss_weights"][starts] = 0.0
        made["position_ids"] = np.concatenate([np.arange(n, dtype=np.int32) for n in lengths])
        made["seq_lengths"] = lengths
        packed.append(made)
    return packed


class PackWindow:
    """Packs a stream of rows, one window at a time.

    A window has the tokens of about `PACK_TOKENS` sequences of `capacity` tokens.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._held: list[Arrays] = []
        self._tokens = 0

    def add(self, rows: Sequence[Arrays]) -> list[dict[str, Any]]:
        """Takes rows; gives packed rows when a window is full, else an empty list.

        >>> PackWindow(4096).add([{"input_ids": [1, 2]}])
        []
        """
        self._held += rows
        self._tokens += sum(len(row["input_ids"]) for row in rows)
        return self.rest() if self._tokens >= PACK_TOKENS * self._capacity else []

    def rest(self) -> list[dict[str, Any]]:
        """Packs what is held."""
        made = pack(self._held, self._capacity)
        self._held, self._tokens = [], 0
        return made
