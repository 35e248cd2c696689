"""Rows to a format, with a sentence on what was seen.

[{"conversations": [{"from": "human", "value": "Hi"}], "tool_defs": "[…]"}]
read as ShareGPT conversations: column `conversations` holds lists of objects with `from` and `value` (1 of 1 row
looked at); authors `human` as user; column `tool_defs` is not used: `messages: {tools: tool_defs}` …
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any, Final

from policy_engine.core.errors import ConfigError
from policy_engine.core.wording import counted, rows_numbered
from policy_engine.data.formats import (
    CALL_ROLE,
    SHAREGPT_ROLES,
    Format,
    FormatKind,
    column,
    message_list,
    named_format,
    role_of,
)
from policy_engine.data.pairs import PAIR_KINDS
from policy_engine.data.refusal import NEXT_STEP
from policy_engine.data.shapes.no_shape import no_pairs, nothing_fits, what_to_do
from policy_engine.data.shapes.row_shape import (
    LABELS,
    RowShape,
    has_sharegpt_keys,
    has_truth_value,
    opens_whole,
    shape_of,
)
from policy_engine.data.shapes.unused import noted
from policy_engine.data.token_columns import NAMES, is_numbers

_TITLES: Final[dict[FormatKind, str]] = {
    "messages": "OpenAI messages",
    "sharegpt": "ShareGPT conversations",
    "alpaca": "Alpaca instructions",
    "prompt_completion": "prompt and completion",
    "preference": "pairs of answers, of which one is preferred",
    "unpaired_preference": "answers that are wanted or not",
    "turns": "turns of token ids",
}
_SHAREGPT_KEYS: Final[dict[str, Any]] = {"role": "from", "content": "value"}
_OWN: Final = (("prompt", "prompt"), ("completion", "completion"))
"""Names of columns that rows of prompt and completion have by themselves."""


def detect_format(rows: Iterable[Any], *, pairs: bool = False, numbers: Sequence[int] = ()) -> Format:
    """The format that most of the given rows have; `description` says what was seen, and why.

    With `pairs` that is one of preferences. With `numbers`, those of the rows, it names the rows of another shape.

    Raises:
        ConfigError: no row has a known shape; the message lists the columns seen and says what to do.

    >>> shape = detect_format([{"chats": [{"from": "human", "value": "Hi"}]}])
    >>> shape.kind, shape.field, shape.role, shape.content
    ('sharegpt', 'chats', 'from', 'value')
    """
    seen: list[Any] = [{"messages": row} if isinstance(row, list) else row for row in rows]
    if not seen:
        raise ConfigError("no row could be read, so the format of the data is not known", help=NEXT_STEP)
    # A vote, so that a few broken rows among the first do not decide.
    shapes = [shape_of(row, pairs=pairs) for row in seen]
    votes = Counter(shape for shape in shapes if shape is not None)
    if not votes:
        raise no_pairs(seen) if pairs else ConfigError(nothing_fits(seen), help=what_to_do(seen))
    shape = votes.most_common(1)[0][0]
    fitting = [row for row, one in zip(seen, shapes) if one == shape]
    others = [number for number, one in zip(numbers, shapes) if one != shape]
    return _described(shape, fitting, looked_at=len(seen), others=others)


def usual_names(kind: FormatKind, rows: Sequence[Any], declared: Mapping[str, Any]) -> dict[str, Any]:
    """The names of columns and keys that rows of a declared kind have, but for declared ones.

    >>> row = {"conversations": [{"from": "human", "value": "Hi"}], "chosen": "Hello", "rejected": "What?"}
    >>> usual_names("preference", [row], {})["prompt"]
    'conversations'
    """
    found: dict[str, Any] = {}
    if kind in PAIR_KINDS:
        shapes = (shape_of(row, pairs=True) for row in rows)
        votes = Counter(shape.names for shape in shapes if shape is not None and shape.kind == kind)
        names = dict(votes.most_common(1)[0][0]) if votes else {}
        # What is declared otherwise speaks of other columns.
        found = names if all(declared.get(option, name) == name for option, name in names.items()) else {}
    if kind == "unpaired_preference":
        has_label = any(isinstance(row, Mapping) and "label" in row for row in rows)
        tagged = any(isinstance(row, Mapping) and has_truth_value(row, LABELS[0]) for row in rows)
        found |= {"label": LABELS[0]} if tagged and not has_label else {}
    has_lists = kind in (*PAIR_KINDS, "prompt_completion")
    if has_lists and declared.keys().isdisjoint({"role", "content"}) and has_sharegpt_keys(rows, {**found, **declared}):
        found |= _SHAREGPT_KEYS
    return found


def _described(shape: RowShape, rows: list[Mapping[str, Any]], *, looked_at: int, others: Sequence[int]) -> Format:
    kind, names = shape.kind, dict(shape.names)
    notes: list[str] = []
    if kind in ("messages", "sharegpt"):
        fmt = named_format(kind, **names)
        why = f"column `{fmt.field}` holds lists of objects with `{fmt.role}`"
        why += f" and `{fmt.content}`" if _has_key(rows, fmt, fmt.content) else ""
        roles = _authors(rows, fmt)
        notes.append("authors " + ", ".join(_author(fmt, role) for role in roles))
        # OpenAI's keys with ShareGPT's authors: nothing would be trained.
        if kind == "messages" and "assistant" not in roles and any(SHAREGPT_ROLES.get(r) == "assistant" for r in roles):
            notes.append("no author is called `assistant`: map them with `messages: {roles: …}` in a dataset file")
    elif kind == "turns":
        fmt = named_format(kind, **names)
        why = f"column `{fmt.field}` holds turns with the token ids of each, and nothing is rendered"
    else:
        keys = _SHAREGPT_KEYS if has_sharegpt_keys(rows, names) else {}
        fmt = named_format(kind, **names, **keys)
        why, more = _of_answers(fmt, shape, rows)
        notes += [*more, *(["messages have ShareGPT's keys, `from` and `value`"] if keys else [])]
    for name in (fmt.system, fmt.tools, fmt.documents, fmt.chat_template_kwargs):
        if name is not None and any(_is_there(column(row, name)) for row in rows):
            notes.append(f"{_USE.get(name, name)} from column `{name}`{_but(rows, fmt, name)}")
    notes += _of_tokens(rows, fmt)
    which = f": {rows_numbered(others)}" if others else ""
    rest = "" if len(rows) == looked_at else f"; {looked_at - len(rows)} with another shape{which}"
    text = f"read as {_TITLES[kind]}: {why} ({len(rows)} of {counted(looked_at, 'row')} looked at{rest})"
    return noted(named_format(kind, **{**_names(fmt), "description": "; ".join([text, *notes])}), rows)


def _of_answers(fmt: Format, shape: RowShape, rows: Sequence[Mapping[str, Any]]) -> tuple[str, list[str]]:
    """The columns of questions and answers in words, and notes on them."""
    has_prompt = any(column(row, fmt.prompt) is not None for row in rows)
    # An `input` belongs to the question, and many rows of a dataset have it empty.
    given = f" and `{fmt.input}`" if fmt.input and any(_is_there(column(row, fmt.input)) for row in rows) else ""
    if fmt.kind == "preference":
        why = f"columns `{fmt.chosen}` and `{fmt.rejected}`"
        # Without a prompt of its own, a pair has it in what both answers begin with.
        why += (
            f" answer column{'s' if given else ''} `{fmt.prompt}`{given}"
            if has_prompt
            else " begin with the same messages, the prompt"
        )
        history = fmt.history if fmt.history and any(_is_there(column(row, fmt.history)) for row in rows) else None
        named = {"prompt": fmt.prompt, "input": fmt.input, "history": history, "completion": fmt.chosen}
        alone = "".join(f", {option}: {name}" for option, name in named.items() if name and (option, name) not in _OWN)
        # UltraFeedback has the prompt in a column and once more in the answers.
        is_whole = any(opens_whole(column(row, fmt.chosen)) for row in rows)
        remedy = f"field: {fmt.chosen}" if is_whole or not has_prompt else f"format: prompt_completion{alone}"
        return why, [f"`messages: {{{remedy}}}` in a dataset file reads the preferred answer alone"]
    if fmt.kind == "unpaired_preference" and not has_prompt:
        return f"column `{fmt.label}` judges the last message of column `{fmt.completion}`", []
    used = [name for option, name in shape.names if option not in ("input", "history")]
    return "columns " + " and ".join(f"`{name}`" for name in used) + given.replace(" and ", ", with "), []


def _of_tokens(rows: Sequence[Mapping[str, Any]], format: Format) -> Iterator[str]:
    """Sentences on the columns of token ids that are taken as they are."""
    if format.kind == "turns":
        return
    found = {o: next((n for n in NAMES[o] if any(is_numbers(row.get(n)) for row in rows)), None) for o in NAMES}
    pair = (found["prompt_ids"], found["completion_ids"])
    # As `read_tokens` chooses: the two apart, if both are there.
    used = [f"`{name}`" for name in (pair if all(pair) else (found["input_ids"],)) if name is not None]
    if used:
        marks = f", `{found['sampled']}` says which were sampled" if found["sampled"] is not None else ""
        off = ", ".join(f"{option}: null" for option in ("input_ids", "prompt_ids", "completion_ids") if found[option])
        yield (
            f"token ids from {' and '.join(used)} are taken as they are{marks} (`messages: {{{off}}}` in a dataset "
            "file tokenizes the text)"
        )


def _but(rows: list[Mapping[str, Any]], fmt: Format, name: str) -> str:
    """Says where the system column gives way to a system message of the conversation."""
    if name != fmt.system or fmt.kind not in ("messages", "sharegpt"):
        return ""
    first = (next(iter(message_list(column(row, fmt.field)) or ()), None) for row in rows if column(row, name))
    both = sum(role_of(message, fmt) == "system" for message in first)
    opens = f"{counted(both, 'row')} that {'opens' if both == 1 else 'open'}"
    return f", not used in {opens} with a system message of its own" if both else ""


_USE: Final = {"system": "system message", "chat_template_kwargs": "template arguments"}


def _names(fmt: Format) -> dict[str, Any]:
    return {name: value for name, value in vars(fmt).items() if name not in ("kind", "description")}


def _author(fmt: Format, name: str) -> str:
    role = fmt.roles.get(name, name)
    meaning = "assistant tool call" if role == CALL_ROLE else role
    return f"`{name}`" if meaning == name else f"`{name}` as {meaning}"


def _has_key(rows: list[Mapping[str, Any]], fmt: Format, key: str) -> bool:
    """True if a message of the rows has a key."""
    messages = (message for row in rows for message in message_list(column(row, fmt.field)) or ())
    return any(isinstance(message, Mapping) and key in message for message in messages)


def _authors(rows: list[Mapping[str, Any]], fmt: Format) -> list[str]:
    found: dict[str, None] = {}
    for row in rows:
        for message in message_list(column(row, fmt.field)) or ():
            if isinstance(message, Mapping) and isinstance(message.get(fmt.role), str):
                found.setdefault(message[fmt.role])
    return sorted(found)


def _is_there(value: Any) -> bool:
    # Arrays are neither true nor false.
    return len(value) > 0 if isinstance(value, Sized) else bool(value)
