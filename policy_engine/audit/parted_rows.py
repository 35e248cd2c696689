"""Rows whose prompt and answer have ids of their own, as one list of ids with labels.

    {"prompt_ids": [1, 2], "completion_ids": [3, 4, 5], "completion_mask": [1, 0, 1]}
    ids 1 2 3 4 5, of which 3 and 5 are trained

Rollouts of TRL, verl, prime-rl and ms-swift have such columns, and preferences too: `chosen_ids` and `rejected_ids`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Final

from policy_engine.core.errors import RowError
from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.data.prepared import mask_of, number_list
from policy_engine.data.row_tokens import sampled_marks, token_ids
from policy_engine.data.token_columns import NAMES, is_numbers

_PROMPTS: Final = (*NAMES["prompt_ids"], "prompt_input_ids")
_ANSWERS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("completion", (*NAMES["completion_ids"], "completion_input_ids", "answer_input_ids")),
    ("chosen", ("chosen_ids", "chosen_input_ids")),
    ("rejected", ("rejected_ids", "rejected_input_ids")),
)
"""Columns of answers, and the name of each in other columns: `chosen_labels`."""
_MARKS: Final = ("loss_mask", "response_loss_mask", *NAMES["sampled"])
"""Columns that say which tokens of an answer count; one that masks a token masks it whatever the others say."""
_WITHIN: Final = ("tool_mask", "env_mask")
"""Columns beside which `completion_mask` says what is padding, as in TRL's batches."""


@dataclass(frozen=True, kw_only=True)
class PreparedRow:
    """Ids, labels and trained tokens of a row, and the column that says so.

    `beside` is the row with its other columns.
    """

    ids: list[int]
    labels: list[int]
    trained: list[bool]
    column: str
    beside: Mapping[str, Any]


def has_ids(row: Mapping[str, Any]) -> bool:
    """True if a row has ids, whole or in parts.

    >>> has_ids({"prompt_ids": [1], "chosen_ids": [2]}), has_ids({"messages": []})
    (True, False)
    """
    return bool(row.get("input_ids")) or any(_first(row, names) for _, names in _ANSWERS)


def prepared_rows(row: Mapping[str, Any], number: int) -> Iterator[PreparedRow]:
    """The row; the answers of a preference one by one.

    Raises RowError for a row without ids or mask, or with columns of different lengths.

    >>> [made] = prepared_rows({"prompt_ids": [1, 2], "completion_ids": [3, 4], "completion_mask": [1, 0]}, 1)
    >>> made.ids, made.labels, made.column
    ([1, 2, 3, 4], [-100, -100, 3, -100], 'completion_mask')
    """
    prompt = _first(row, _PROMPTS)
    answers = [(side, name) for side, names in _ANSWERS if (name := _first(row, names)) is not None]
    # Batches of trainers have the whole and the parts; only the parts say where the answer begins.
    if not answers or (prompt is None and is_numbers(row.get("input_ids"))):
        ids, labels, trained, column = mask_of(row, number)
        # Numbers that no vocabulary has: a tokenizer does not bear them.
        token_ids(ids, f"row {number}: `input_ids`")
        yield PreparedRow(ids=ids, labels=labels, trained=trained, column=column, beside=row)
        return
    if prompt is None:
        raise RowError(
            f"row {number} has `{answers[0][1]}`, and no `{_PROMPTS[0]}` beside it: nothing says what is trained",
            help="columns for reward models have no loss per token; keep the ids of prompts apart for others",
        )
    for side, name in answers:
        yield _joined(row, number, prompt, side, name)


def _joined(row: Mapping[str, Any], number: int, prompt: str, side: str, name: str) -> PreparedRow:
    before = token_ids(row[prompt], f"row {number}: `{prompt}`").tolist()
    own = token_ids(row[name], f"row {number}: `{name}`").tolist()
    at = len(before)
    ids = before + own
    beside: dict[str, Any] = {key: value for key, value in row.items() if key not in _MARKS}
    labelled = next((key for key in (f"{side}_labels", "labels") if row.get(key) is not None), None)
    masks = [key for key in _MARKS if row.get(key) is not None and side == "completion"]
    padding = "completion_mask" if "completion_mask" in masks and any(key in masks for key in _WITHIN) else None
    trained = [False] * at + [True] * len(own)
    for key in masks:
        marks = _whole(sampled_marks(row[key], f"row {number}: `{key}`").tolist(), key, at, len(own), number, False)
        trained = [a and b for a, b in zip(trained, marks, strict=True)]
    # What a model sampled, by the row's own marks; a policy may ask for it.
    beside["sampled"] = trained
    labels = [i if flag else IGNORE_INDEX for i, flag in zip(ids, trained)]
    if labelled is not None:
        given = number_list(row[labelled], f"row {number}: `{labelled}`")
        labels = _whole(given, labelled, at, len(own), number, IGNORE_INDEX)
        trained = [label != IGNORE_INDEX for label in labels]
    beside["labels"] = labels
    if row.get("attention_mask") is None:
        there = _padding(row, "prompt_mask", before, number)
        there += [True] * len(own) if padding is None else _padding(row, padding, own, number)
        beside["attention_mask"] = [int(flag) for flag in there]
    if row.get("messages") is None and (source := _messages(row, side)) is not None:
        beside["messages"] = source
    column = labelled or next((key for key in masks if key != padding), name)
    return PreparedRow(ids=ids, labels=labels, trained=trained, column=column, beside=beside)


def _first(row: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The first of the columns that holds numbers."""
    lists = (name for name in names if is_numbers(row.get(name)) and isinstance(row[name], Sized))
    return next((name for name in lists if len(row[name])), None)


def _whole(values: list[Any], key: str, at: int, size: int, number: int, fill: Any) -> list[Any]:
    if len(values) == at + size:
        return values
    if len(values) != size:
        raise RowError(
            f"row {number} has {size} ids of the answer, {at} of the prompt, and {len(values)} `{key}`",
            help="something cut one column and not the other",
        )
    return [fill] * at + values


def _padding(row: Mapping[str, Any], key: str, ids: Sequence[int], number: int) -> list[bool]:
    given = row.get(key)
    if given is None:
        return [True] * len(ids)
    marks: list[bool] = sampled_marks(given, f"row {number}: `{key}`").tolist()
    return _whole(marks, key, 0, len(ids), number, True)


def _messages(row: Mapping[str, Any], side: str) -> list[Any] | None:
    """The messages of a row that has those of prompt and answer apart."""
    found = [row.get("prompt"), row.get(side)]
    if not all(isinstance(part, list) and part and all(isinstance(m, Mapping) for m in part) for part in found):
        return None
    return [message for part in found for message in part or ()]
