"""The documents of a masked row, checked and taken apart, for the exporters.

A row is `input_ids` and `labels`, perhaps `loss_weights`; a packed one has `seq_lengths` or `position_ids` too.
Trainers that want the next token's id beside each token take `MaskedDocument.shifted`: shifted after packing, the first
token of a document would become what the document before it is trained to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from policy_engine.core.errors import RowError
from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.data.prepared import check_documents, check_lengths
from policy_engine.mask.row import MaskedRow

Row = Mapping[str, Any] | MaskedRow
"""A masked row: what a `Masker` makes, or its columns as lists, arrays or tensors."""

_PER_TOKEN: Final = ("labels", "attention_mask", "loss_weights", "position_ids")


@dataclass(frozen=True, kw_only=True)
class Shifted:
    """A document of T tokens as the T - 1 predictions that can be made in it.

    `inputs_P` are all ids but the last, `targets_P` all ids but the first, and `labels_P` the targets with -100 where
    there is no loss (int64 each). `weights_P` has the weight of each target's loss (float64, 0 where there is no loss).
    """

    inputs_P: npt.NDArray[np.int64]
    targets_P: npt.NDArray[np.int64]
    labels_P: npt.NDArray[np.int64]
    weights_P: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class MaskedDocument:
    """A conversation as a row has it.

    It has `ids_T`, `labels_T` (not shifted; int64), and `weights_T` (float64): 0 where the label is -100, 1 elsewhere
    if the row has no weights. The first token never carries loss. `name` names the row in errors.
    """

    name: str
    ids_T: npt.NDArray[np.int64]
    labels_T: npt.NDArray[np.int64]
    weights_T: npt.NDArray[np.float64]

    @property
    def is_weighted(self) -> bool:
        """True if a trained token has another weight than 1, which ids and labels alone do not say.

        >>> documents_of({"input_ids": [5, 6], "labels": [-100, 6], "loss_weights": [0.0, 0.5]})[0].is_weighted
        True
        """
        return bool((self.weights_T != (self.labels_T != IGNORE_INDEX)).any())

    def shifted(self) -> Shifted:
        """Each token but the last, beside the one that follows it.

        Raises RowError for a document of one token.

        >>> shifted = documents_of({"input_ids": [5, 6, 7], "labels": [-100, 6, 7]})[0].shifted()
        >>> shifted.inputs_P.tolist(), shifted.labels_P.tolist()
        ([5, 6], [6, 7])
        """
        if len(self.ids_T) < 2:
            raise RowError(f"a document of {self.name} has one token, which nothing predicts", help="leave it out")
        return Shifted(
            inputs_P=self.ids_T[:-1],
            targets_P=self.ids_T[1:],
            labels_P=self.labels_T[1:],
            weights_P=self.weights_T[1:],
        )


def documents_of(row: Row) -> list[MaskedDocument]:
    """The documents of a row, in their order.

    A row is one document; a packed row has as many as `seq_lengths` says, else one from each place where `position_ids`
    begin again.

    Raises RowError for a row without tokens or labels, with columns of different lengths, labels that are not their
    tokens' ids, weights that are not finite, padding, or lengths and positions that do not fit the tokens.

    >>> row = {"input_ids": [5, 6, 7], "labels": [-100, 6, -100], "seq_lengths": [2, 1]}
    >>> [document.labels_T.tolist() for document in documents_of(row)]
    [[-100, 6], [-100]]
    """
    columns = dict(row)
    name = _name(columns)
    ids = _column(columns, "input_ids", name, "iu").astype(np.int64)
    if not ids.size:
        raise RowError(f"{name} has no tokens", help="leave it out")
    check_lengths(columns, _PER_TOKEN, len(ids), name)
    labels = _labels(columns, name, ids)
    weights = _weights(columns, name, labels)
    # A padded token would be exported as one of the document's.
    if columns.get("attention_mask") is not None and not np.asarray(columns["attention_mask"]).all():
        raise RowError(f"{name} is padded", help="leave padding to the trainer")
    made, start = [], 0
    for length in _lengths(columns, name, len(ids)):
        document = slice(start, start + length)
        # Copies, made by `astype`: the row itself stays as it is.
        labels[start], weights[start] = IGNORE_INDEX, 0.0
        made.append(
            MaskedDocument(name=name, ids_T=ids[document], labels_T=labels[document], weights_T=weights[document])
        )
        start += length
    return made


def _name(columns: Mapping[str, Any]) -> str:
    number = columns.get("row")
    # A packed row has a list of numbers.
    return "a row" if number is None or np.ndim(number) else f"row {number}"


def _column(columns: Mapping[str, Any], column: str, name: str, kinds: str) -> npt.NDArray[Any]:
    """A column as an array whose dtype is of one of `kinds`, as numpy has them in `dtype.kind`."""
    if columns.get(column) is None:
        raise RowError(f"{name} has no `{column}`", help="rows are masked first, with `policy-engine apply`")
    values = np.asarray(columns[column])
    # An empty list becomes an array of floats, whatever it was meant to have.
    if values.ndim != 1 or (values.size and values.dtype.kind not in kinds):
        raise RowError(
            f"`{column}` of {name} are not a list of {'whole ' if kinds == 'iu' else ''}numbers",
            help="give one row at a time, with one number per token",
        )
    return values


def _labels(columns: Mapping[str, Any], name: str, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    labels = _column(columns, "labels", name, "iu").astype(np.int64)
    wrong = np.flatnonzero((labels != ids) & (labels != IGNORE_INDEX))
    if wrong.size:
        at = wrong[0]
        raise RowError(
            f"token {at} of {name} is {ids[at]} and its label {labels[at]}",
            help="labels are the ids of their own tokens, not shifted",
        )
    return labels


def _weights(columns: Mapping[str, Any], name: str, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    trained: npt.NDArray[np.bool_] = labels != IGNORE_INDEX
    if columns.get("loss_weights") is None:
        return trained.astype(np.float64)
    weights: npt.NDArray[np.float64] = _column(columns, "loss_weights", name, "iuf").astype(np.float64)
    weights[~trained] = 0.0  # whatever a masked token has
    wrong = np.flatnonzero(~np.isfinite(weights))
    if wrong.size:
        raise RowError(
            f"token {wrong[0]} of {name} has weight {weights[wrong[0]]}", help="weights are finite: leave such rows out"
        )
    return weights


def _lengths(columns: Mapping[str, Any], name: str, size: int) -> list[int]:
    lengths = [size]
    positions = None if columns.get("position_ids") is None else np.asarray(columns["position_ids"])
    if columns.get("seq_lengths") is not None:
        # A document without tokens has a length of 0, and is left out.
        lengths = [int(length) for length in columns["seq_lengths"] if length]
        check_documents(lengths, size, name)
    elif positions is not None:
        starts = np.union1d([0], np.flatnonzero(positions == 0))
        lengths = [int(length) for length in np.diff([*starts, size])]
    if positions is not None and not np.array_equal(positions, np.concatenate([np.arange(n) for n in lengths])):
        raise RowError(
            f"`position_ids` of {name} do not count from 0 in each document",
            help="something cut or moved the tokens after they were packed",
        )
    return lengths
