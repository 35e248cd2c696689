"""Token ids that a row brings along, with what it says of each token.

A rollout's ids were sampled, so its text must not be tokenized again: other ids may spell the same text.

    {"messages": […], "prompt_ids": [1, 2, 3], "completion_ids": [4, 5], "completion_mask": [1, 1]}
    RowTokens(ids_T=[1, 2, 3, 4, 5], sampled_T=[False, False, False, True, True], …)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.core.wording import a_kind, counted
from policy_engine.data.refusal import DROP, refuse

LARGEST_ID = 2**31 - 1
"""Largest id: columns of ids are int32."""


@dataclass(frozen=True, kw_only=True)
class RowTurn:
    """So many tokens in a row, with their author.

    `message` is its index, None for text that no message owns, such as a begin-of-sequence token. `part` names the part
    of the tokens, None where the row does not say it.
    """

    message: int | None
    size: int
    part: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class RowTokens:
    """The token ids of a row (`ids_T`, int32), which are taken as they are.

    `sampled_T` (bool) says which tokens a model sampled, None where the row does not say it. `carried` are columns with
    a number for each token (float32). `source` names the columns of the ids, for errors. `turns` are the authors of the
    tokens where the row says them, so that nothing is rendered; together they have all the tokens.
    """

    ids_T: npt.NDArray[np.int32]
    sampled_T: npt.NDArray[np.bool_] | None = None
    carried: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    source: str = "`input_ids`"
    turns: tuple[RowTurn, ...] | None = None

    def __repr__(self) -> str:
        marked = "" if self.sampled_T is None else f", {int(self.sampled_T.sum())} of them sampled"
        return f"<RowTokens: {counted(len(self.ids_T), 'id')} of {self.source}{marked}>"


def token_ids(value: Any, name: str) -> npt.NDArray[np.int32]:
    """Ids as an array. Raises RowError for anything but a list of whole numbers from 0 on.

    >>> token_ids([5, 6], "input_ids")
    array([5, 6], dtype=int32)
    """
    array = _numbers(value, name, "token ids")
    if array.size and array.dtype.kind == "i" and (array == IGNORE_INDEX).any():
        refuse(
            f"{name} has {IGNORE_INDEX}, which no token has: it looks like a column of labels",
            "name the column of the ids in a dataset file, `messages: {input_ids: NAME}`; labels are made here",
        )
    if array.size and (array.dtype.kind not in "iu" or int(array.min()) < 0 or int(array.max()) > LARGEST_ID):
        refuse(f"{name} is a list of {_worst(array)}, not of token ids", DROP)
    return array.astype(np.int32)


def sampled_marks(value: Any, name: str) -> npt.NDArray[np.bool_]:
    """Marks of sampled tokens as an array.

    Raises RowError for anything but a list of 0, 1, true and false.

    >>> sampled_marks([True, False], "sampled")
    array([ True, False])
    """
    array = _numbers(value, name, "0 and 1")
    if array.dtype.kind != "b" and not np.isin(array, (0, 1)).all():
        refuse(f"{name} has numbers other than 0 and 1; it has to say which tokens were sampled", DROP)
    return array.astype(np.bool_)


def token_numbers(value: Any, name: str) -> npt.NDArray[np.float32]:
    """A number for each token, as float32.

    Raises RowError for anything else, and for what float32 cannot hold.

    >>> token_numbers([0.5, -1], "logprobs")
    array([ 0.5, -1. ], dtype=float32)
    """
    array = _numbers(value, name, "numbers")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        refuse(f"{name} has a number that is not finite", DROP)
    # Too large becomes infinite, which the next line refuses with a reason.
    with np.errstate(over="ignore"):
        made = array.astype(np.float32)
    if not np.isfinite(made).all() or (array.dtype.kind in "iu" and (made.astype(np.float64) != array).any()):
        refuse(f"{name} has a number that float32 cannot hold", "scale the numbers, or leave the column out")
    return made


def _numbers(value: Any, name: str, what: str) -> npt.NDArray[Any]:
    # By its method, so that torch is not imported for data without tensors.
    if hasattr(value, "detach"):  # a tensor of PyTorch
        value = value.detach().cpu().numpy()
    if not isinstance(value, list | tuple | np.ndarray):
        refuse(f"{name} is {a_kind(value)}; it has to be a list of {what}", DROP)
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError):
        _not_numbers(name, what)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "biuf"):
        _not_numbers(name, what)
    # NumPy takes an empty list for floats, which are no ids.
    return array if array.size else array.astype(np.int64)


def _not_numbers(name: str, what: str) -> NoReturn:
    refuse(f"{name} has something in it that is no number; it has to be a flat list of {what}", DROP)


def _worst(array: npt.NDArray[Any]) -> str:
    if array.dtype.kind == "b":
        return "true and false"
    if array.dtype.kind == "f":
        return "fractions"
    return "negative numbers" if int(array.min()) < 0 else "numbers past 2147483647"
