"""Tokens of masked rows counted, by stretches of neighbours that are decided alike.

tokens      <|im_start|> user ⏎ Hi <|im_end|> ⏎ <|im_start|> assistant ⏎ Yes . <|im_end|> ⏎
stretches   header 3, text 1, eot 1, separator 1, header 3, text 2 (trained), eot 1 (trained), separator 1
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from policy_engine.mask.evidence.segment_kinds import Numbering, kinds_of
from policy_engine.mask.row import MaskedRow
from policy_engine.mask.token_mask import REASONS

_STRADDLE: Final = REASONS.index("straddle")
_COLUMNS: Final = ("segments_T", "weights_T", "rules_T", "reasons_T")


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenSums:
    """The tokens of some rows."""

    kinds: dict[tuple[str, str], tuple[int, int]]
    """Masked and trained tokens, by role and part."""
    rules: dict[int, int]
    """Tokens by the index of the rule that decided them."""
    reasons: list[int]
    """Tokens by reason, in the order of `REASONS`."""
    has_trained: list[bool]
    """True for each row of which a token is trained."""
    straddling: frozenset[int]
    """Places of the rows in which a token straddles."""


def token_sums(rows: Sequence[MaskedRow]) -> TokenSums:
    """The sums over rows, each of which has tokens; there is one at least."""
    kinds = Numbering()
    kinds_S = [kinds.of(found.keys, found.keys_S) for found in (kinds_of(row.chat) for row in rows)]
    starts_R = np.cumsum([0, *map(len, kinds_S)])
    bounds = np.cumsum([0, *(len(row.mask.weights_T) for row in rows)])
    columns = [np.concatenate([getattr(row.mask, name) for row in rows]) for name in _COLUMNS]
    # Stretches are counted, and not tokens: there are fifty times as many of those.
    is_first_T = np.zeros(bounds[-1], dtype=np.bool_)
    is_first_T[bounds[:-1]] = True
    for column in columns:
        is_first_T[1:] |= column[1:] != column[:-1]
    firsts_N = np.flatnonzero(is_first_T)
    sizes_N = np.diff(np.append(firsts_N, bounds[-1]))
    segments_N, weights_N, rules_N, reasons_N = (column[firsts_N] for column in columns)
    rows_N = np.searchsorted(bounds, firsts_N, side="right") - 1
    trained_N = weights_N != 0
    # One count of all: twice the kind of token, and one more where it is trained.
    kinds_N = np.concatenate(kinds_S)[starts_R[rows_N] + segments_N] + trained_N
    counts_K = _summed(kinds_N, sizes_N, 2 * len(kinds.known))
    # `bincount` takes no negative numbers: -1 (no rule) becomes 0.
    by_rule = _summed(rules_N + 1, sizes_N)
    return TokenSums(
        kinds={key: both for key, both in zip(kinds.known, zip(counts_K[::2], counts_K[1::2])) if any(both)},
        rules={rule - 1: count for rule, count in enumerate(by_rule) if count and rule},
        reasons=_summed(reasons_N, sizes_N, len(REASONS)),
        has_trained=(np.bincount(rows_N, weights=trained_N, minlength=len(rows)) > 0).tolist(),
        straddling=frozenset(rows_N[reasons_N == _STRADDLE].tolist()),
    )


def _summed(places_N: npt.NDArray[Any], sizes_N: npt.NDArray[Any], most: int = 0) -> list[int]:
    """The sum of the sizes at each place, from 0 on.

    >>> _summed(np.array([2, 0, 2]), np.array([5, 1, 3]))
    [1, 0, 8]
    """
    # `bincount` sums as floats, which hold every number of tokens.
    return [int(size) for size in np.bincount(places_N, weights=sizes_N, minlength=most).tolist()]
