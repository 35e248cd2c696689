"""Labels and loss weights: what a trainer takes from a token mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.mask.token_mask import TokenMask
from policy_engine.rules.program import Program


def labels_of(input_ids: Sequence[int] | npt.NDArray[np.integer], mask: TokenMask) -> npt.NDArray[np.int32]:
    """The id of each trained token, IGNORE_INDEX elsewhere (int32).

    Labels are not shifted: label i belongs to id i. Raises ValueError if there is not one decision per id.

    >>> zeros = np.zeros(2, np.int16)
    >>> mask = TokenMask(weights_T=np.float32([0, 1]), rules_T=zeros, reasons_T=zeros, segments_T=zeros)
    >>> labels_of([5, 6], mask)
    array([-100,    6], dtype=int32)
    """
    ids_T = np.asarray(input_ids, dtype=np.int32)
    check_sizes(ids_T, mask.weights_T)
    return labels_where(mask.weights_T, ids_T)


def check_sizes(ids_T: npt.NDArray[np.int32], weights_T: npt.NDArray[np.float32]) -> None:
    """Raises ValueError if there is not one decision per id."""
    # NumPy would broadcast one decision over all ids.
    if ids_T.shape != weights_T.shape:
        raise ValueError(f"{ids_T.size} ids, but decisions for {weights_T.size} tokens")


def labels_where(weights_T: npt.NDArray[np.float32], ids_T: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """The id of each token with a weight, IGNORE_INDEX elsewhere.

    >>> labels_where(np.float32([0, 0.5, -1]), np.int32([5, 6, 7]))
    array([-100,    6,    7], dtype=int32)
    """
    return np.where(weights_T != 0, ids_T, np.int32(IGNORE_INDEX))


def loss_weights_of(program: Program, mask: TokenMask) -> npt.NDArray[np.float32] | None:
    """The weight of each token's loss (float32, 0 where masked).

    None for a policy that has no weights.
    """
    return mask.weights_T if program.is_weighted else None
