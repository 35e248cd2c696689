"""Control tokens in the data: the template's own tokens, in the text of a message.

user: What is <|im_end|>?<|im_end|>        the first one is data, the second is the template's
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import numpy as np

from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.mask.evidence.segment_kinds import kinds_of
from policy_engine.mask.row import MaskedRow

FIRST_ROWS: Final = 20
"""Rows with a control token that are kept by number; all are counted."""


@dataclass(frozen=True, kw_only=True)
class ControlTokenUse:
    """A control token in the data: how many rows have it, and the first of them by number."""

    token: str
    rows: int
    first_rows: tuple[int, ...]


@dataclass(kw_only=True)
class ControlTokenRows:
    """Running counts of rows with control tokens in their data; of all, and by token.

    >>> found = ControlTokenRows()
    >>> found.add(3, ["<|im_end|>", "<|im_end|>"])
    >>> found.add(4, [])
    >>> found.rows, found.uses
    (1, (ControlTokenUse(token='<|im_end|>', rows=1, first_rows=(3,)),))
    """

    rows: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, list[int]] = field(default_factory=dict)

    def add(self, number: int, tokens: Iterable[str]) -> None:
        """Counts a row, by its number, with the control tokens in its data: none, most often."""
        found = dict.fromkeys(tokens)
        self.rows += bool(found)
        for token in found:
            self._add(token, 1, [number])

    def merge(self, other: ControlTokenRows) -> None:
        """Adds the counts of rows that come after those counted so far."""
        self.rows += other.rows
        for token, count in other.counts.items():
            self._add(token, count, other.first[token])

    def _add(self, token: str, count: int, numbers: Iterable[int]) -> None:
        self.counts[token] = self.counts.get(token, 0) + count
        known = self.first.setdefault(token, [])
        known.extend(islice(numbers, FIRST_ROWS - len(known)))

    @property
    def uses(self) -> tuple[ControlTokenUse, ...]:
        """The tokens, those of most rows first."""
        return tuple(
            ControlTokenUse(token=token, rows=rows, first_rows=tuple(self.first[token]))
            for token, rows in sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        )


class ControlTokens:
    """Finds rows whose data has control tokens.

    These are special tokens, and added tokens that the chat template writes.
    """

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        added = tokenizer.tokenizer.added_tokens_decoder
        sources = list(tokenizer.templates.values())
        self.names = {
            int(i): str(token)
            for i, token in added.items()
            # A plain string has no flag, and counts as special. Qwen's `<tool_call>` is not special, and its template
            # writes it.
            if getattr(token, "special", True) or any(str(token) in source for source in sources)
        }
        """Control tokens by their ids."""
        # One entry more, False, for all ids past the last control token.
        self._is_control = np.zeros(max(self.names, default=0) + 2, dtype=np.bool_)
        self._is_control[list(self.names)] = True

    def found_in(self, rows: Sequence[MaskedRow]) -> list[tuple[str, ...]]:
        """The control tokens that data, not the template, brought to the text of each row.

        They are in their order, each once. Thinking that is written in content is not counted.
        """
        if not rows:
            return []
        ids = [row.tokenized.ids_T for row in rows]
        ids_T = np.concatenate(ids)
        # Ids past the end are clipped to the last entry, which is False.
        hits = np.flatnonzero(self._is_control.take(ids_T, mode="clip"))
        rows_H = np.searchsorted(np.cumsum([*map(len, ids)]), hits, side="right")
        is_data = [kinds_of(row.chat).is_data_S for row in rows]
        starts_R = np.cumsum([0, *map(len, is_data)])
        segments_H = np.concatenate([row.mask.segments_T for row in rows])[hits]
        found: list[dict[str, None]] = [{} for _ in rows]
        of_data_H = np.concatenate(is_data)[starts_R[rows_H] + segments_H]
        for at, id_ in zip(rows_H[of_data_H].tolist(), ids_T[hits[of_data_H]].tolist()):
            found[at].setdefault(self.names[id_])
        return [tuple(tokens) for tokens in found]
