"""Tinker: masked rows as `tinker.Datum`, each token beside its target and its weight.

    from policy_engine.adapters.tinker import tinker_data

    data = [datum for row in rows for datum in tinker_data(row, reduction="mean")]
    training_client.forward_backward(data, loss_fn="cross_entropy")

Tinker adds up weight times negative log likelihood over all tokens of all data of a call, and divides by nothing. So
what a conversation counts for is set by its weights:

* `reduction="none"`: weights as the policy says, a token 1 without; long conversations count for more;
* `reduction="mean"`: each conversation's weights are divided by their sum, so that all conversations count the same.

The two names are those of tinker_cookbook, whose `conversation_to_datum` takes "mean" by default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from policy_engine.adapters.documents import MaskedDocument, Row, documents_of
from policy_engine.core.errors import ConfigError, RowError

if TYPE_CHECKING:
    import tinker

Reduction = Literal["none", "mean"]


def tinker_datum(row: Row, *, reduction: Reduction) -> tinker.Datum:
    """A masked row of T tokens as a `Datum`.

    `model_input` is its ids but the last, `target_tokens` (int64) its ids but the first, `weights` (float32) the weight
    of each of those, 0 where masked; all T - 1 long.

    Raises RowError for a row of several documents (`tinker_data` takes those), negative weights with
    `reduction="mean"`, a row of one token, and what `documents_of` does not take; ConfigError for another reduction.
    """
    documents = documents_of(row)
    if len(documents) > 1:
        raise RowError(
            "the row is packed, and in one `Datum` its documents would see each other",
            help="make several with `tinker_data`, or apply the policy without `--pack`",
        )
    return _datum(documents[0], reduction)


def tinker_data(row: Row, *, reduction: Reduction) -> list[tinker.Datum]:
    """A masked row, packed or not, as one `Datum` for each of its documents.

    Raises what `tinker_datum` raises, except for packed rows.
    """
    return [_datum(document, reduction) for document in documents_of(row)]


def _datum(document: MaskedDocument, reduction: Reduction) -> tinker.Datum:
    # Checked at run time: a wrong one would train with other weights, without any error.
    if reduction not in ("none", "mean"):
        raise ConfigError(f"`reduction` is {reduction!r}", help='take "none" or "mean"')
    shifted = document.shifted()
    weights = shifted.weights_P
    if reduction == "mean":
        if (weights < 0).any():
            raise RowError(
                f"{document.name} has weight {weights.min()}, and weights are divided by their sum",
                help='take reduction="none", or leave negative weights out',
            )
        # A conversation with nothing to train stays at 0.
        weights = weights / (weights.sum() or 1.0)
    from tinker import Datum, ModelInput

    return Datum(
        model_input=ModelInput.from_ints(shifted.inputs_P.tolist()),
        loss_fn_inputs={"target_tokens": shifted.targets_P, "weights": weights.astype(np.float32)},
    )
