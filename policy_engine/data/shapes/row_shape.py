"""The kind of one row, and the columns that say so.

{"conversations": [{"from": "human", …}], "chosen": {"from": "gpt", …}, "rejected": {…}}
RowShape("preference", (("prompt", "conversations"), ("chosen", "chosen"), ("rejected", "rejected")))
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from policy_engine.data.formats import (
    CALL_ROLE,
    SHAREGPT_ROLES,
    USUAL_FIELDS,
    FormatKind,
    column,
    list_kind,
    message_list,
)

LABELS: Final = ("kto_tag", "label")
"""Columns that say whether an answer is wanted: LLaMA-Factory's name, and TRL's."""
_PAIR: Final = (("chosen", "chosen"), ("rejected", "rejected"))
_WORSE: Final = ("rejected_response", "rejected_messages")
"""Columns of ms-swift's, which hold the other answer beside a conversation that ends with the preferred one."""
_QUESTION: Final = (("prompt", "instruction"), ("input", "input"), ("history", "history"))
"""Alpaca's columns of a question."""
_LIST_COLUMNS: Final = ("prompt", "completion", "chosen", "rejected")


class RowShape(NamedTuple):
    """A kind of rows, and the names of columns that show it, by the attributes of `Format`."""

    kind: FormatKind
    names: tuple[tuple[str, str], ...]


def shape_of(row: Any, *, pairs: bool = False) -> RowShape | None:
    """The shape of a row; None if it is not known.

    With `pairs` only shapes of preferences count, and all that can be read as one does: a plain conversation with
    answers or a truth value beside it may be meant otherwise.

    >>> shape_of({"messages": [{"role": "user", "content": "Hi"}]})
    RowShape(kind='messages', names=(('field', 'messages'),))
    >>> row = {"messages": [{"role": "assistant", "content": "Hi"}], "label": True}
    >>> shape_of(row).kind, shape_of(row, pairs=True).kind
    ('messages', 'unpaired_preference')
    """
    if not isinstance(row, Mapping):
        return None
    if pairs:
        return _pair_in(row) or _judged_in(row, next((name for name in LABELS if is_label(row.get(name))), None))
    tag = LABELS[0] if has_truth_value(row, LABELS[0]) else None
    # The usual names first: a second list of messages beside them is something else, such as a rejected answer.
    for name in USUAL_FIELDS:
        kind = list_kind(row.get(name))
        if kind is not None:
            return _pair_to(row, name) or _judged_in(row, tag) or RowShape(kind, (("field", name),))
    if "prompt" in row:
        for answer in ("completion", "response"):
            if answer in row:
                label = next((name for name in LABELS if has_truth_value(row, name)), None)
                names = (("prompt", "prompt"), ("completion", answer))
                return _judged_in(row, label) or RowShape("prompt_completion", names)
    pair = _pair_in(row)
    if pair is not None:
        return pair
    if "instruction" in row and "output" in row:
        names = (("instruction", "instruction"), ("output", "output"))
        return _judged_in(row, tag) or RowShape("alpaca", names)
    # Two lists of messages leave the choice to the user.
    lists = _lists_of(row)
    return RowShape(lists[0][0], (("field", lists[0][1]),)) if len(lists) == 1 else None


def has_truth_value(row: Mapping[str, Any], name: str) -> bool:
    """True if a column says yes or no. A number may be a class or a score."""
    return isinstance(row.get(name), bool)


def is_label(value: Any) -> bool:
    """True for what `read_judged` takes: yes or no, or 0 or 1, as some exports write them."""
    return isinstance(value, int | float) and value in (0, 1)


def answer_kind(value: Any) -> FormatKind | None:
    """The kind of messages that an answer holds, in a list or as a single one; else None.

    >>> answer_kind({"from": "gpt", "value": "4"}), answer_kind("4")
    ('sharegpt', None)
    """
    return list_kind([value] if isinstance(value, Mapping) else value)


def has_sharegpt_keys(rows: Iterable[Any], names: Mapping[str, Any]) -> bool:
    """True if prompts or answers of the rows are messages with ShareGPT's keys.

    `names` has the columns by the attributes of `Format`; what is not named has its usual name.

    >>> has_sharegpt_keys([{"prompt": "2+2?", "chosen": {"from": "gpt", "value": "4"}}], {})
    True
    """
    columns = [names.get(option, option) for option in _LIST_COLUMNS]
    return any(
        answer_kind(column(row, name)) == "sharegpt" for row in rows if isinstance(row, Mapping) for name in columns
    )


def opens_whole(value: Any) -> bool:
    """True if a list of messages is a whole conversation, not only its answer."""
    return _role_at(value, 0) in ("system", "user")


def _pair_in(row: Mapping[str, Any]) -> RowShape | None:
    """The shape of a row with two answers, if it also has what they answer."""
    for name in (*USUAL_FIELDS, *(name for _, name in _lists_of(row) if name not in ("chosen", "rejected", *_WORSE))):
        shape = _pair_to(row, name)
        if shape is not None:
            return shape
    if not _holds_pair(row):
        return None
    if row.get("prompt") is not None:
        return RowShape("preference", _PAIR)
    answers = (row["chosen"], row["rejected"])
    if all(map(opens_whole, answers)):
        return RowShape("preference", _PAIR)
    # LLaMA-Factory's Alpaca rows.
    if isinstance(row.get("instruction"), str):
        return RowShape("preference", (*_QUESTION, *_PAIR))
    # Text answers something; two texts alone may be any data.
    return None if any(isinstance(answer, str) for answer in answers) else RowShape("preference", _PAIR)


def _pair_to(row: Mapping[str, Any], name: str) -> RowShape | None:
    """The shape of a row with a conversation in a column, and two answers to it or another one."""
    last = None if row.get("prompt") is not None else _role_at(row.get(name), -1)
    # After an answer there is nothing to answer: then the column is a conversation of its own (UltraFeedback).
    if last in ("user", "tool") and _holds_pair(row):
        return RowShape("preference", (("prompt", name), *_PAIR))
    worse = next((other for other in _WORSE if _is_answer(row.get(other))), None)
    return RowShape("preference", (("chosen", name), ("rejected", worse))) if last == "assistant" and worse else None


def _holds_pair(row: Mapping[str, Any]) -> bool:
    return _is_answer(row.get("chosen")) and _is_answer(row.get("rejected"))


def _is_answer(value: Any) -> bool:
    """True for messages and for text."""
    return answer_kind(value) in ("messages", "sharegpt") or (isinstance(value, str) and list_kind(value) is None)


def _judged_in(row: Mapping[str, Any], label: str | None) -> RowShape | None:
    """The shape of a row with an answer, which column `label` judges; None without one of them."""
    if label is None:
        return None
    names = _answer_in(row)
    return None if names is None else RowShape("unpaired_preference", (*names, ("label", label)))


def _answer_in(row: Mapping[str, Any]) -> tuple[tuple[str, str], ...] | None:
    """The columns of an answer and what it answers."""
    if "prompt" in row:
        answer = next((name for name in ("completion", "response") if name in row), None)
        return None if answer is None else (("prompt", "prompt"), ("completion", answer))
    for name in (*USUAL_FIELDS, *(name for _, name in _lists_of(row))):
        if _role_at(row.get(name), -1) in ("assistant", CALL_ROLE):
            return (("completion", name),)
    is_alpaca = isinstance(row.get("instruction"), str) and "output" in row
    return (*_QUESTION, ("completion", "output")) if is_alpaca else None


def _lists_of(row: Mapping[str, Any]) -> list[tuple[FormatKind, str]]:
    return [(kind, name) for name in row if (kind := list_kind(row[name])) is not None]


def _role_at(value: Any, at: int) -> str | None:
    """The role of a list's first or last message; None if it has no role."""
    messages = message_list(value) or ()
    message = messages[at] if messages else None
    if not isinstance(message, Mapping):
        return None
    role = message.get("role", message.get("from"))
    if not isinstance(role, str):
        return None
    return role if "role" in message else SHAREGPT_ROLES.get(role, role)
