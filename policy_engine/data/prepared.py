"""Rows that are prepared already: their ids, their trained tokens, their documents.

{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}     trained: 6 and 7
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Sized
from itertools import accumulate
from typing import Any, Final

import numpy as np

from policy_engine.core.choices import OUTPUT_COLUMNS
from policy_engine.core.errors import RowError
from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.core.wording import a_kind

MASK_COLUMNS: Final = ("labels", "assistant_masks", "completion_mask", "loss_mask")
"""Columns that say what is trained, in the order they are looked for."""

CUT: Final = "something cut one column and not the other"
_EACH: Final = "write one number for each token"


def check_lengths(row: Mapping[str, Any], columns: Iterable[str], size: int, name: str, *, help: str = CUT) -> None:
    """Checks that the columns that a row has hold a value for each of its `size` tokens.

    Raises RowError for the first that does not: `row 7 has 12 `input_ids` and 11 `labels``.
    """
    for column in columns:
        given = row.get(column)
        if given is not None and not isinstance(given, Sized):
            raise RowError(f"{name}: `{column}` is {a_kind(given)}, not a list of numbers", help=_EACH)
        if given is not None and len(given) != size:
            raise RowError(f"{name} has {size} `input_ids` and {len(given)} `{column}`", help=help)


def check_documents(lengths: Sequence[int], size: int, name: str) -> None:
    """Checks that the documents of a packed row hold its `size` tokens.

    Raises RowError if they do not.
    """
    if sum(lengths) != size or min(lengths, default=0) < 0:
        raise RowError(
            f"{name} has {size} `input_ids` and `seq_lengths` of {sum(lengths)}",
            help="something cut the tokens after they were packed",
        )


def mask_of(row: Mapping[str, Any], number: int) -> tuple[list[int], list[int], list[bool], str]:
    """Ids, labels and which tokens are trained, of a prepared row, and the column that says so.

    Raises RowError for a row without ids or mask, or with columns of different lengths.

    >>> mask_of({"input_ids": [5, 6], "labels": [-100, 6]}, 1)
    ([5, 6], [-100, 6], [False, True], 'labels')
    """
    ids = row.get("input_ids")
    if ids is None or (isinstance(ids, list) and not ids):
        raise RowError(f"row {number} has no `input_ids`", help="rows are masked first, with `policy-engine apply`")
    ids = number_list(ids, f"row {number}: `input_ids`", whole=True)
    for name in MASK_COLUMNS:
        found = row.get(name)
        if found is None:
            continue
        check_lengths(row, [name], len(ids), f"row {number}")
        if name == "labels":
            labels = number_list(found, f"row {number}: `labels`")
            return ids, labels, [label != IGNORE_INDEX for label in labels], name
        trained = [bool(flag) for flag in found]
        return ids, [i if t else IGNORE_INDEX for i, t in zip(ids, trained, strict=True)], trained, name
    raise RowError(
        f"row {number} says nowhere what is trained",
        help=f"one of {', '.join(f'`{m}`' for m in MASK_COLUMNS)} is needed",
    )


def number_list(values: Any, name: str, *, whole: bool = False) -> list[Any]:
    """A column's numbers, one for each token.

    Raises RowError for anything but a list of numbers (of whole ones with `whole`).

    >>> number_list([5, 6], "row 1: `input_ids`", whole=True)
    [5, 6]
    """
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
        raise RowError(f"{name} is {a_kind(values)}, not a list of numbers", help=_EACH)
    made = list(values)
    # By type: a row has thousands of values, and mostly of one type.
    bad = {kind for kind in set(map(type, made)) if not hasattr(kind, "__index__" if whole else "__float__")}
    if bad:
        at = next(at for at, value in enumerate(made) if type(value) in bad)
        kind = "a fraction" if isinstance(made[at], float) else a_kind(made[at])
        raise RowError(f"{name}[{at}] is {kind}, not a {'whole ' if whole else ''}number", help=_EACH)
    return made


def is_per_token(value: Any, size: int) -> bool:
    """True for a list or an array of `size` numbers.

    >>> is_per_token([0.5, 1], 2), is_per_token(["a", "b"], 2), is_per_token([1], 2)
    (True, False, False)
    """
    if not isinstance(value, list | tuple | np.ndarray) or len(value) != size:
        return False
    return np.asarray(value).dtype.kind in "biuf"


def own_columns(row: Mapping[str, Any], size: int) -> list[str]:
    """Columns of the data's own that have a number for each of a row's `size` tokens.

    >>> own_columns({"input_ids": [1, 2], "labels": [1, 2], "advantages": [0.5, 1.0], "score": 3}, 2)
    ['advantages']
    """
    known = OUTPUT_COLUMNS | {"attention_mask", *MASK_COLUMNS}
    return [name for name, value in row.items() if name not in known and is_per_token(value, size)]


def are_shifted(ids: Sequence[int], labels: Sequence[int]) -> bool:
    """True if labels are the next token's ids.

    Nine of ten that are trained have to be, and fewer than half may be the token's own. With less than four trained
    tokens that is not known, and False.

    >>> are_shifted([5, 6, 7, 8, 9, 10], [6, 7, 8, 9, 10, -100])
    True
    """
    # Only trained tokens: -100 says nothing about a shift.
    at = [i for i, label in enumerate(labels) if label != IGNORE_INDEX]
    ahead = sum(i + 1 < len(ids) and labels[i] == ids[i + 1] for i in at)
    return len(at) > 3 and ahead > 0.9 * len(at) and sum(labels[i] == ids[i] for i in at) < 0.5 * len(at)


def spans_of(row: Mapping[str, Any], number: int, size: int) -> list[tuple[int, int]]:
    """The ranges of the documents in a row of `size` tokens.

    A row is one document; a packed one has as many as `seq_lengths` says, else one from each place where `position_ids`
    begin again.

    Raises RowError where `seq_lengths` do not add up to the tokens, or there is not one position for each.

    >>> spans_of({"seq_lengths": [2, 3]}, 1, 5)
    [(0, 2), (2, 5)]
    """
    lengths = row.get("seq_lengths")
    if lengths is not None:
        lengths = number_list(lengths, f"row {number}: `seq_lengths`", whole=True)
        check_documents(lengths, size, f"row {number}")
        # A document of no tokens has no range.
        ends = list(accumulate(int(n) for n in lengths if n))
        return list(zip([0, *ends[:-1]], ends, strict=True))
    positions = row.get("position_ids")
    check_lengths(row, ["position_ids"], size, f"row {number}")
    # Cut from the front, a row may begin in the middle of a document: the first token begins one all the same.
    starts = [0] if positions is None else [i for i, p in enumerate(positions) if p == 0 or i == 0]
    return list(zip(starts, [*starts[1:], size], strict=True))
