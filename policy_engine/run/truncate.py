"""Rows that are too long: which of their tokens stay.

Decisions of the tokens that stay never change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, get_args

import numpy as np
import numpy.typing as npt

from policy_engine.chat.segments import MediaTokens
from policy_engine.core.choices import Keep
from policy_engine.core.errors import ConfigError
from policy_engine.core.vocabulary import MEDIA
from policy_engine.mask.preferences.answers import Preference, with_rows
from policy_engine.mask.row import MaskedRow
from policy_engine.mask.token_mask import REASONS

KEEPS: Final[tuple[Keep, ...]] = get_args(Keep)
_TRUNCATED: Final = REASONS.index("truncated")


LONGER: Final = "give a larger --max-length, or another --truncate"
"""The help where truncation leaves too little."""


@dataclass(frozen=True, kw_only=True)
class Truncation:
    """Keeps at most `max_length` tokens of a row.

    It keeps the first tokens (`keep_start`), the last ones (`keep_end`), as many whole turns from the start as fit
    (`turn`), or nothing of a row that is longer (`drop`).

    Raises ConfigError for a length below 1 or an unknown way.

    >>> Truncation(max_length=512)
    Truncation(max_length=512, keep='keep_start')
    """

    max_length: int
    keep: Keep = "keep_start"

    def __post_init__(self) -> None:
        if self.max_length < 1:
            raise ConfigError(f"max_length is {self.max_length!r}", help="give a number of tokens, 1 or more")
        if self.keep not in KEEPS:
            raise ConfigError(f"truncation `{self.keep}` means nothing", help=f"say one of {', '.join(KEEPS)}")


def truncate(row: MaskedRow, truncation: Truncation) -> MaskedRow | None:
    """The row cut to its length, itself if it is short enough, None if nothing of it stays.

    No token is changed or added: a cut turn gets no invented end marker. A medium stays whole or goes whole, so that
    the row may become shorter than its length. Where the start was cut, the first token that stays is
    no target any more (reason `truncated`), since no token is before it to predict it from.
    """
    size = len(row.input_ids)
    if size <= truncation.max_length:
        return row
    start, end = _whole_media(row, *_range(row, size, truncation))
    return _cut(row, start, end) if end > start else None


def cut_preference(found: Preference, truncation: Truncation) -> Preference | None:
    """A preference cut to its length; None where a side or the prompt is cut away."""
    rows = [answer.row for answer in found.answers]
    longest = max(len(row.input_ids) for row in rows)
    if longest <= truncation.max_length:
        return found
    if truncation.keep == "keep_end":
        # The longer side says how much of the prompt goes: both sides keep the same prompt, and all media are in it.
        start, _ = _whole_media(rows[0], longest - truncation.max_length, len(rows[0].input_ids))
        cut_rows = [_cut(row, min(start, len(row.input_ids)), len(row.input_ids)) for row in rows]
        return with_rows(found, cut_rows, start=start)
    cut = [truncate(row, truncation) for row in rows]
    # One answer alone is no preference: where either side is cut away, the pair goes.
    whole = [row for row in cut if row is not None]
    return with_rows(found, whole) if len(whole) == len(cut) else None


def _whole_media(row: MaskedRow, start: int, end: int) -> tuple[int, int]:
    """The range without what it has of a medium that it cuts through.

    Neither half of an image has its features. The tokens around a medium (`<|vision_start|>`) go with it.
    """
    segments_T = row.mask.segments_T
    ranges = []
    for medium in row.tokenized.media or ():
        first, stop = medium.first, medium.first + medium.count
        # Outwards to the tokens around it: `<|vision_start|>` alone would promise an image that is not there.
        while first > 0 and _is_of(row, segments_T[first - 1], medium):
            first -= 1
        while stop < len(segments_T) and _is_of(row, segments_T[stop], medium):
            stop += 1
        # Cut through by the end: the medium goes, and with it all behind it.
        if first < end < stop:
            end = first
        if first < start < stop:
            start = stop
        ranges.append((first, stop))
    kept = sum(start <= first and stop <= end for first, stop in ranges)
    if row.tokenized.media_together and 0 < kept < len(ranges):
        # Fewer of them would have other features: what stays is the text on the side that is kept.
        return (max(stop for _, stop in ranges), end) if start else (0, min(first for first, _ in ranges))
    return start, end


def _is_of(row: MaskedRow, segment: int, medium: MediaTokens) -> bool:
    found = row.chat.segments[segment]
    return found.part in MEDIA and (found.turn, found.item) == (medium.turn, medium.item)


def _range(row: MaskedRow, size: int, truncation: Truncation) -> tuple[int, int]:
    limit = truncation.max_length
    if truncation.keep == "keep_start":
        return 0, limit
    if truncation.keep == "keep_end":
        return size - limit, size
    if truncation.keep == "drop":
        # Only rows that are too long come here.
        return 0, 0
    starts = _turn_starts(row)
    fitting = starts[starts <= limit]
    return 0, int(fitting[-1]) if len(fitting) else 0


def _turn_starts(row: MaskedRow) -> npt.NDArray[np.intp]:
    """First tokens of turns, but for the row's first: the places where whole turns end."""
    turns_S = np.array([-1 if s.turn is None else s.turn for s in row.chat.segments], dtype=np.int64)
    turns_T = turns_S[row.mask.segments_T]
    # A template may write a turn in several places: a cut is whole only where no later token is of a turn before.
    seen_T = np.maximum.accumulate(turns_T)
    left_T = np.minimum.accumulate(np.where(turns_T < 0, np.iinfo(np.int64).max, turns_T)[::-1])[::-1]
    whole_T = np.concatenate(([False], left_T[1:] > seen_T[:-1]))
    return np.flatnonzero(whole_T & (turns_T >= 0))


def _cut(row: MaskedRow, start: int, end: int) -> MaskedRow:
    mask = row.mask
    weights_T, rules_T = mask.weights_T[start:end], mask.rules_T[start:end]
    reasons_T = mask.reasons_T[start:end]
    # `_cut` shares memory with the whole row, which stays as it is: copied before it is written to.
    if start > 0 and weights_T[0] != 0:
        weights_T, rules_T, reasons_T = weights_T.copy(), rules_T.copy(), reasons_T.copy()
        weights_T[0], rules_T[0], reasons_T[0] = 0.0, -1, _TRUNCATED
    tokenized = replace(
        row.tokenized,
        input_ids=row.tokenized.input_ids[start:end],
        starts_T=row.tokenized.starts_T[start:end],
        ends_T=row.tokenized.ends_T[start:end],
        columns={name: values_T[start:end] for name, values_T in row.tokenized.columns.items()},
        media=_media_within(row.tokenized.media, start, end),
    )
    cut = replace(
        mask, weights_T=weights_T, rules_T=rules_T, reasons_T=reasons_T, segments_T=mask.segments_T[start:end]
    )
    return replace(row, tokenized=tokenized, mask=cut)


def _media_within(media: Sequence[MediaTokens] | None, start: int, end: int) -> tuple[MediaTokens, ...] | None:
    """The media whose tokens stay, where those are then."""
    if media is None:
        return None
    return tuple(replace(m, first=m.first - start) for m in media if start <= m.first and m.first + m.count <= end)
