"""Facts of rows that pages list, sort, filter and draw.

They are tokens, trained share, roles and parts, and what is odd about a row.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from policy_engine.core.vocabulary import Reason
from policy_engine.mask.token_mask import REASONS
from policy_engine.report.runs import FailedRow, ShownRow

Flag = Literal["failed", "empty", "straddle", "drift", "lost", "changed"]
"""`failed`: not masked. `empty`: nothing is trained. `straddle`: a token is masked because it mixes two decisions.
`drift`: given ids do not spell the messages. `lost`: a field of the data never reached the text. `changed`: another
policy decides some token differently."""

OtherWeight = Literal["less", "more", "neg"]
"""A weight of a trained token that is not 1: below 1, above it, negative."""

Where = tuple[str, str]
"""Role (empty for text of no message) and part."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RowFacts:
    """One row in numbers.

    `places` has the trained and all tokens of each role and part, `weights` the tokens of weights that are not 1.
    """

    number: int
    tokens: int = 0
    trained: int = 0
    flags: frozenset[Flag] = frozenset()
    rules: Counter[int | None] = field(default_factory=Counter)
    reasons: Counter[Reason] = field(default_factory=Counter)
    weights: Counter[OtherWeight] = field(default_factory=Counter)
    places: dict[Where, tuple[int, int]] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Trained part of the tokens, 0 to 1; 0 for a row without tokens.

        >>> RowFacts(number=1, tokens=4, trained=1).share
        0.25
        """
        return self.trained / self.tokens if self.tokens else 0.0


def row_facts(row: ShownRow | FailedRow) -> RowFacts:
    """The facts of a row.

    >>> row_facts(FailedRow(number=3, code="PE502", message="no `role`")).flags
    frozenset({'failed'})
    """
    if isinstance(row, FailedRow):
        return RowFacts(number=row.number, flags=frozenset({"failed"}))
    mask, chat = row.mask, row.tokenized.chat
    trained_T = mask.weights_T != 0
    # Wider before the 1 is added, and -1 (no rule) becomes 0: `bincount` takes no negative numbers.
    rules = np.bincount(mask.rules_T.astype(np.int64) + 1)
    reasons = np.bincount(mask.reasons_T, minlength=len(REASONS))
    total_S = np.bincount(mask.segments_T, minlength=len(chat.segments)).tolist()
    trained_S = np.bincount(mask.segments_T[trained_T], minlength=len(chat.segments)).tolist()
    places: dict[Where, tuple[int, int]] = {}
    # Per segment, and then by role and part: a row has few segments and many tokens.
    for segment, total, trained in zip(chat.segments, total_S, trained_S):
        if total:
            where = chat.role(segment) or "", segment.part
            known = places.get(where, (0, 0))
            places[where] = known[0] + trained, known[1] + total
    found = int(trained_T.sum())
    is_changed = row.changed_T is not None and bool(row.changed_T.any())
    flags: dict[Flag, bool] = {
        "failed": row.failure is not None,
        "empty": not found,
        "straddle": bool(reasons[REASONS.index("straddle")]),
        "drift": bool(reasons[REASONS.index("drift")]),
        "lost": bool(chat.unrendered),
        "changed": is_changed,
    }
    return RowFacts(
        number=row.number,
        tokens=len(trained_T),
        trained=found,
        flags=frozenset(flag for flag, holds in flags.items() if holds),
        rules=Counter({index - 1 if index else None: int(count) for index, count in enumerate(rules) if count}),
        reasons=Counter({reason: int(count) for reason, count in zip(REASONS, reasons) if count}),
        weights=_other_weights(mask.weights_T),
        places=places,
    )


def _other_weights(weights_T: npt.NDArray[np.floating[Any]]) -> Counter[OtherWeight]:
    """The tokens of each kind of weight that is neither 0 nor 1.

    >>> sorted(_other_weights(np.array([0, 1, 0.5, 0.1, -1])).items())
    [('less', 2), ('neg', 1)]
    """
    kinds: dict[OtherWeight, npt.NDArray[np.bool_]] = {
        "less": (weights_T > 0) & (weights_T < 1),
        "more": weights_T > 1,
        "neg": weights_T < 0,
    }
    return Counter({kind: int(flags_T.sum()) for kind, flags_T in kinds.items() if flags_T.any()})


@dataclass(frozen=True, kw_only=True, slots=True)
class Totals:
    """The sums of many rows."""

    rows: int
    tokens: int
    trained: int
    flags: Counter[Flag]
    rules: Counter[int | None]
    reasons: Counter[Reason]
    weights: Counter[OtherWeight]
    places: dict[Where, tuple[int, int]]

    @classmethod
    def of(cls, rows: list[RowFacts]) -> Totals:
        """The sums of rows.

        >>> Totals.of([RowFacts(number=1, tokens=4, trained=1), RowFacts(number=2, tokens=2)]).tokens
        6
        """
        flags: Counter[Flag] = Counter()
        rules: Counter[int | None] = Counter()
        reasons: Counter[Reason] = Counter()
        weights: Counter[OtherWeight] = Counter()
        places: dict[Where, tuple[int, int]] = {}
        for row in rows:
            flags.update(row.flags)
            rules.update(row.rules)
            reasons.update(row.reasons)
            weights.update(row.weights)
            for where, (trained, total) in row.places.items():
                known = places.get(where, (0, 0))
                places[where] = known[0] + trained, known[1] + total
        return cls(
            rows=len(rows),
            tokens=sum(row.tokens for row in rows),
            trained=sum(row.trained for row in rows),
            flags=flags,
            rules=rules,
            reasons=reasons,
            weights=weights,
            places=dict(sorted(places.items(), key=lambda item: (-item[1][1], item[0]))),
        )


BINS = 10
"""Bins of the histogram of trained share, each of the same width."""


def share_bins(rows: list[RowFacts]) -> list[int]:
    """Masked rows by trained share.

    First those that train nothing, then `BINS` bins from above 0% to 100%.

    >>> share_bins([RowFacts(number=1, tokens=10, trained=1), RowFacts(number=2, tokens=10)])
    [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    """
    bins = [0] * (BINS + 1)
    for row in rows:
        if "failed" not in row.flags:
            # Whole numbers, so that a share of exactly 10% is in the bin that ends there.
            bins[-(-row.trained * BINS // row.tokens) if row.trained else 0] += 1
    return bins
