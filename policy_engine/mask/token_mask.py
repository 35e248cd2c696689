"""The decision of every token, with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, get_args

import numpy as np
import numpy.typing as npt

from policy_engine.core.vocabulary import Reason


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenMask:
    """One decision per token (`_T`).

    `weights_T` is float32, 0 where masked; `rules_T` int16, the deciding rule's index or -1; `reasons_T` int8, an index
    into `REASONS`; `segments_T` int32, the index of the segment of the token's first character.
    """

    weights_T: npt.NDArray[np.float32]
    rules_T: npt.NDArray[np.int16]
    reasons_T: npt.NDArray[np.int8]
    segments_T: npt.NDArray[np.int32]

    def only(self, own_T: npt.NDArray[np.bool_]) -> TokenMask:
        """The same for some tokens; what is trained of the others is masked.

        That has the reason `structural`, and no rule. What was masked keeps its rule and its reason.

        >>> mask = TokenMask(weights_T=np.ones(3), rules_T=np.zeros(3), reasons_T=np.zeros(3), segments_T=np.zeros(3))
        >>> only = mask.only(np.array([False, True, False]))
        >>> only.weights_T.tolist(), [REASONS[int(reason)] for reason in only.reasons_T]
        ([0.0, 1.0, 0.0], ['structural', 'rule', 'structural'])
        """
        kept_T = own_T | (self.weights_T == 0)
        return TokenMask(
            weights_T=np.where(kept_T, self.weights_T, np.float32(0)),
            rules_T=np.where(kept_T, self.rules_T, np.int16(-1)),
            reasons_T=np.where(kept_T, self.reasons_T, np.int8(REASONS.index("structural"))),
            segments_T=self.segments_T,
        )


REASONS: Final[tuple[Reason, ...]] = get_args(Reason)
