"""Two maskings of one row compared: the tokens that are decided differently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from policy_engine.core.vocabulary import Reason
from policy_engine.mask.row import MaskedRow
from policy_engine.mask.token_mask import REASONS


@dataclass(frozen=True, kw_only=True)
class ChangedTokens:
    """Neighbouring tokens of one segment that change alike.

    They are tokens `[token_start, token_end)` and characters `[start, end)`. `old_rule` and `new_rule` are rule
    indices, None where no rule decides; `old_reason` and `new_reason` say why a token is as it is, as `TokenMask` does.
    """

    token_start: int
    token_end: int
    start: int
    end: int
    turn: int | None
    role: str | None
    part: str
    old_weight: float
    new_weight: float
    old_rule: int | None
    new_rule: int | None
    old_reason: Reason
    new_reason: Reason

    @property
    def tokens(self) -> int:
        """Number of tokens that change."""
        return self.token_end - self.token_start


def changed_tokens(old: MaskedRow, new: MaskedRow) -> tuple[ChangedTokens, ...]:
    """The tokens whose weights differ between two maskings of one row, in order.

    Which rule decides does not matter.
    Raises ValueError if the two are not maskings of the same tokens.

    >>> from policy_engine.mask.masker import Masker
    >>> from policy_engine.rules.compile import compile_text
    >>> chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}]
    >>> old, new = (Masker(compile_text(text), "builtin") for text in ("train assistant", "train everything"))
    >>> [(c.part, c.tokens, c.old_weight, c.new_weight) for c in changed_tokens(old(chat), new(chat))][-2:]
    [('eot', 1, 0.0, 1.0), ('separator', 1, 0.0, 1.0)]
    """
    # Places of the two could not be compared otherwise.
    if old.input_ids != new.input_ids:
        raise ValueError("the two rows do not have the same tokens")
    a, b = old.mask, new.mask
    segments, starts_T, ends_T = old.chat.segments, old.tokenized.starts_T, old.tokenized.ends_T
    # By weight: to which rule a token owes it is not a change of what is trained.
    changed: list[int] = np.flatnonzero(a.weights_T != b.weights_T).tolist()
    found: list[ChangedTokens] = []
    for start, end in _runs(changed, [_key(old, new, token) for token in changed]):
        segment = segments[int(a.segments_T[start])]
        found.append(
            ChangedTokens(
                token_start=start,
                token_end=end,
                start=int(starts_T[start]),
                end=int(ends_T[end - 1]),
                turn=segment.turn,
                role=old.chat.role(segment),
                part=segment.part,
                old_weight=float(a.weights_T[start]),
                new_weight=float(b.weights_T[start]),
                old_rule=_rule(int(a.rules_T[start])),
                new_rule=_rule(int(b.rules_T[start])),
                old_reason=REASONS[int(a.reasons_T[start])],
                new_reason=REASONS[int(b.reasons_T[start])],
            )
        )
    return tuple(found)


def _key(old: MaskedRow, new: MaskedRow, token: int) -> tuple[float, ...]:
    a, b = old.mask, new.mask
    columns = (a.segments_T, a.weights_T, b.weights_T, a.rules_T, b.rules_T, a.reasons_T, b.reasons_T)
    return tuple(float(column[token]) for column in columns)


def _runs(tokens: Sequence[int], keys: Sequence[tuple[float, ...]]) -> list[tuple[int, int]]:
    """Ranges of consecutive tokens with one key.

    >>> _runs([3, 4, 5, 9], [(0.0,), (0.0,), (1.0,), (1.0,)])
    [(3, 5), (5, 6), (9, 10)]
    """
    # A gap or another key begins a new run: within one, a token and its place in the list rise alike.
    places = enumerate(zip(tokens, keys, strict=True))
    runs = groupby(places, lambda place: (place[1][0] - place[0], place[1][1]))
    found = [[token for _, (token, _) in run] for _, run in runs]
    return [(run[0], run[-1] + 1) for run in found]


def _rule(index: int) -> int | None:
    return None if index < 0 else index
