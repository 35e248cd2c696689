"""The columns of a row that hold its token ids, and what it says of each token.

{"messages": […], "prompt_ids": [1, 2, 3], "response_ids": [4, 5], "response_mask": [1, 1], "logprobs": [-0.1, -0.2]}
the ids 1 to 5, of which 4 and 5 were sampled; `carry: [logprobs]` makes that column 0, 0, 0, -0.1, -0.2
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from policy_engine.core.vocabulary import PARTS
from policy_engine.core.wording import a_kind, counted
from policy_engine.data.formats import Format, column, message_list
from policy_engine.data.prepared import is_per_token
from policy_engine.data.refusal import DROP, keys_of, refuse
from policy_engine.data.row_tokens import RowTokens, RowTurn, sampled_marks, token_ids, token_numbers

NAMES: Final[dict[str, tuple[str, ...]]] = {
    "input_ids": ("input_ids",),
    "prompt_ids": ("prompt_ids", "prompts", "prompt_token_ids"),
    "completion_ids": ("completion_ids", "response_ids", "responses", "completion_token_ids", "response_token_ids"),
    "sampled": (
        "sampled", "sampled_mask", "response_mask", "completion_mask", "tool_mask", "env_mask", "response_loss_mask",
    ),
}  # fmt: skip
"""Names of the columns, by the attribute of `Format` that names them: this project's own, then those of trainers.

TRL's rollouts have `prompt_ids`, `completion_ids` and `env_mask` (`tool_mask` in its batches), verl's `prompt_ids`,
`response_ids` and `response_mask` (`prompts` and `responses` in its batches), prime-rl's `prompt_ids`,
`completion_ids` and `completion_mask`, and ms-swift's `response_token_ids` and `response_loss_mask`.
"""
PADDING: Final = "attention_mask"
"""A column of the batches of trainers: tokens at the ends where it is 0 are padding, and are left out."""
_OF_IDS: Final = frozenset(name for key in ("input_ids", "prompt_ids", "completion_ids") for name in NAMES[key])


def marks_of(row: Mapping[str, Any], size: int) -> Any:
    """The marks of a row's sampled tokens, under any known name; None without such a column.

    >>> marks_of({"completion_mask": [0, 1, 1]}, 3), marks_of({"completion_mask": [1, 1]}, 3)
    ([0, 1, 1], None)
    """
    return next((row[name] for name in NAMES["sampled"] if is_per_token(row.get(name), size)), None)


def has_usual_ids(row: Mapping[str, Any]) -> bool:
    """True if a row has a column of token ids under a name that is known.

    >>> has_usual_ids({"input_ids": [1, 2], "messages": []}), has_usual_ids({"messages": []})
    (True, False)
    """
    return not _OF_IDS.isdisjoint(row)


def read_tokens(row: Mapping[str, Any], spec: Format) -> RowTokens | None:
    """The token ids of a row with what it says of them; None where it has no ids.

    Raises RowError for a column that holds something else, or has another length than the ids.

    >>> row = {"messages": [], "prompt_ids": [1, 2, 3], "completion_ids": [4, 5]}
    >>> read_tokens(row, Format(kind="messages"))
    <RowTokens: 5 ids of `prompt_ids` and `completion_ids`, 2 of them sampled>
    """
    whole = _named(row, spec.input_ids, "input_ids")
    prompt = _named(row, spec.prompt_ids, "prompt_ids")
    completion = _named(row, spec.completion_ids, "completion_ids")
    if whole is None and prompt is None and completion is None:
        if spec.carry:
            refuse(
                f"the row has no token ids, so the numbers of `{spec.carry[0]}` belong to no token",
                "give the ids of the row, in `input_ids`, or take `carry` out of the dataset file",
            )
        return None
    sampled = _named(row, spec.sampled, "sampled")
    return join_tokens(
        # Batches of trainers have all three; only the two apart say where the completion begins.
        input_ids=None if prompt is not None and completion is not None else whole,
        prompt_ids=prompt,
        completion_ids=completion,
        sampled=sampled,
        carried={name: column(row, name) for name in spec.carry},
        padding=row.get(PADDING),
    )


def read_turns(row: Mapping[str, Any], spec: Format) -> tuple[list[dict[str, Any]], RowTokens]:
    """The messages of a row of turns, without their text, and its tokens.

    An entry is a message: `{role, ids, sampled}`. `sampled` is true, false or a list; where some entries have it, it is
    false in the others. An entry may name the `part` of its tokens; entries of one role with parts that follow each
    other are one message, unless one is a `header`. A role of null is for text that no message owns. What `carry` names
    is a column of the row, or a list in entries and 0 in the others. Raises RowError.
    """
    entries = message_list(column(row, spec.field))
    if not entries:
        refuse(f"column `{spec.field}` holds no turns; the row's columns are {keys_of(row)}", DROP)
    mark_key = spec.sampled or "sampled"
    # Names that the row does not have are looked for in its turns.
    own = [name for name in spec.carry if column(row, name) is None]
    messages: list[dict[str, Any]] = []
    turns: list[RowTurn] = []
    ids: list[npt.NDArray[np.int32]] = []
    marks: list[npt.NDArray[np.bool_]] = []
    numbers: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in own}
    before: tuple[Any, Any] = (None, None)
    for index, entry in enumerate(entries):
        place = f"{spec.field}[{index}]"
        if not isinstance(entry, Mapping) or spec.ids not in entry:
            refuse(f"{place} has no `{spec.ids}`", "name the key of the ids: `messages: {format: turns, ids: NAME}`")
        own_T = token_ids(entry[spec.ids], f"{place}: `{spec.ids}`")
        role, part = _author(entry, spec, place)
        # A header opens a message, and so does an entry without a part; others go on with the one before.
        if role is not None and (part in (None, "header") or before[0] != role or before[1] is None):
            # Further keys are the message's own, so that conditions can ask for them.
            rest = {k: v for k, v in entry.items() if k not in (spec.ids, mark_key, spec.role, "part", *own)}
            messages.append({"role": spec.roles.get(role, role), **rest})
        turns.append(RowTurn(message=None if role is None else len(messages) - 1, size=len(own_T), part=part))
        ids.append(own_T)
        marks.append(_turn_marks(entry.get(mark_key), len(own_T), f"{place}: `{mark_key}`"))
        for name in own:
            value = entry.get(name)
            made = np.zeros(len(own_T), np.float32) if value is None else token_numbers(value, f"{place}: `{name}`")
            numbers[name].append(_whole(made, f"{place}: `{name}`", len(own_T), None))
        before = role, part
    whole_T = np.concatenate(ids)
    if not len(whole_T) or not messages:
        refuse(f"the turns of `{spec.field}` have no {'role' if len(whole_T) else 'token ids'}", DROP)
    for name in own:
        if not any(entry.get(name) is not None for entry in entries):
            refuse(f"neither the row nor its turns have `{name}`, which `carry` names", DROP)
    carried = {name: np.concatenate(found) for name, found in numbers.items()}
    for name in (name for name in spec.carry if name not in own):
        made = token_numbers(column(row, name), f"column `{name}`")
        carried[name] = _whole(made, f"column `{name}`", len(whole_T), None)
    tokens = RowTokens(
        ids_T=whole_T,
        sampled_T=np.concatenate(marks) if any(entry.get(mark_key) is not None for entry in entries) else None,
        carried={name: carried[name] for name in spec.carry},
        source=f"`{spec.field}`",
        turns=tuple(turns),
    )
    return messages, tokens


def _author(entry: Mapping[str, Any], spec: Format, place: str) -> tuple[str | None, str | None]:
    """The role and the part that an entry names."""
    role, part = entry.get(spec.role), entry.get("part")
    if role is not None and (not isinstance(role, str) or not role):
        refuse(f"{place}: `{spec.role}` is {a_kind(role)}; it has to name the author", DROP)
    if part is not None and part not in PARTS:
        refuse(f"{place}: there is no part `{part}`", f"known are {', '.join(f'`{p}`' for p in PARTS)}")
    return role, part


def _turn_marks(value: Any, size: int, name: str) -> npt.NDArray[np.bool_]:
    if value is None or isinstance(value, bool):
        return np.full(size, bool(value))
    return _whole(sampled_marks(value, name), name, size, None)


Column = tuple[str, Any]
"""A column with its name, for errors."""


def join_tokens(
    *,
    input_ids: Column | None = None,
    prompt_ids: Column | None = None,
    completion_ids: Column | None = None,
    sampled: Column | None = None,
    carried: Mapping[str, Any],
    padding: Any = None,
) -> RowTokens:
    """Ids and columns per token put together; each column is given with its name.

    A column may have a value for every token, or for those of the completion: then tokens of the prompt were not
    sampled, and have the number 0. Without `sampled`, a completion was sampled. Raises RowError.
    """
    if input_ids is not None:
        source, prompt_size = f"`{input_ids[0]}`", None
        ids_T = token_ids(input_ids[1], f"column `{input_ids[0]}`")
    elif prompt_ids is None or completion_ids is None:
        there, missing = (prompt_ids, "completion_ids") if prompt_ids is not None else (completion_ids, "prompt_ids")
        assert there is not None
        refuse(
            f"the row has the ids of `{there[0]}`, and no `{missing}` beside them",
            f"name the column of the others: `messages: {{{missing}: NAME}}`, or switch this one off with null",
        )
    else:
        source = f"`{prompt_ids[0]}` and `{completion_ids[0]}`"
        prompt_T = token_ids(prompt_ids[1], f"column `{prompt_ids[0]}`")
        completion_T = token_ids(completion_ids[1], f"column `{completion_ids[0]}`")
        prompt_size = len(prompt_T)
        ids_T = np.concatenate([prompt_T, completion_T])
    size = len(ids_T)
    if not size:
        refuse(f"the row has no token ids in {source}", DROP)
    marks_T: npt.NDArray[np.bool_] | None = None
    if sampled is not None:
        name = f"column `{sampled[0]}`"
        marks_T = _whole(sampled_marks(sampled[1], name), name, size, prompt_size)
    elif prompt_size is not None:
        # A completion is what a model sampled, unless the row says more.
        marks_T = np.arange(size) >= prompt_size
    numbers: dict[str, npt.NDArray[np.float32]] = {}
    for name, value in carried.items():
        if value is None:
            refuse(f"the row has no column `{name}`, which `carry` names", DROP)
        numbers[name] = _whole(token_numbers(value, f"column `{name}`"), f"column `{name}`", size, prompt_size)
    kept = _unpadded(padding, size)
    return RowTokens(
        ids_T=ids_T[kept],
        sampled_T=None if marks_T is None else marks_T[kept],
        carried={name: numbers_T[kept] for name, numbers_T in numbers.items()},
        source=source,
    )


def _named(row: Mapping[str, Any], name: str | None, option: str) -> Column | None:
    """The column that a format names.

    Where it names no other, it is the first of the usual ones that the row has.
    """
    if name is None:
        return None
    if name != option:
        value = column(row, name)
        if value is None:
            refuse(f"the row has no column `{name}`, which has its `{option}`; its columns are {keys_of(row)}", DROP)
        return name, value
    for usual in NAMES[option]:
        value = row.get(usual)
        # Text and messages are something else under the same name.
        if is_numbers(value):
            return usual, value
    return None


def is_numbers(value: Any) -> bool:
    """True for a list that is not text, messages or texts."""
    return value is not None and not isinstance(value, str) and not _holds_objects(value)


def _holds_objects(value: Any) -> bool:
    return isinstance(value, Mapping) or (
        isinstance(value, Sequence) and len(value) > 0 and isinstance(value[0], str | Mapping)
    )


def _whole(values_T: npt.NDArray[Any], name: str, size: int, prompt_size: int | None) -> npt.NDArray[Any]:
    """A column for all tokens, zeros before that of a completion."""
    if len(values_T) == size:
        return values_T
    if prompt_size is None or len(values_T) != size - prompt_size:
        parts = "" if prompt_size is None else f", {counted(size - prompt_size, 'token')} of them of the completion"
        refuse(
            f"{name} has {counted(len(values_T), 'value')}, and the row has {counted(size, 'token id')}{parts}",
            "something cut one column and not the other",
        )
    return np.concatenate([np.zeros(prompt_size, values_T.dtype), values_T])


def _unpadded(padding: Any, size: int) -> slice:
    if padding is None:
        return slice(0, size)
    mask_T = sampled_marks(padding, f"column `{PADDING}`")
    if len(mask_T) != size:
        return slice(0, size)  # of other ids than these
    there = np.flatnonzero(mask_T)
    if not len(there):
        refuse(f"column `{PADDING}` says that every token is padding", DROP)
    start, end = int(there[0]), int(there[-1]) + 1
    # A hole may be the border of two packed sequences, whose tokens do not follow each other.
    if end - start != len(there):
        refuse(
            f"column `{PADDING}` is 0 between tokens where it is 1",
            "padding is at the ends; give rows of one sequence each",
        )
    return slice(start, end)
