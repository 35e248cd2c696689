"""Which shape the rows of a dataset have: OpenAI messages, ShareGPT, Alpaca, or prompt and completion."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from policy_engine.core.errors import ConfigError
from policy_engine.core.suggest import nearest
from policy_engine.core.wording import a_kind, counted
from policy_engine.data.json_text import read_json

FormatKind = Literal["messages", "sharegpt", "alpaca", "prompt_completion"]
FORMAT_KINDS: Final[tuple[FormatKind, ...]] = get_args(FormatKind)

CALL_ROLE: Final = "function_call"
"""A role map sends a ShareGPT author here to say that its value is a tool call, as JSON."""

SHAREGPT_ROLES: Final[dict[str, str]] = {
    "human": "user", "user": "user", "system": "system",
    "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant",
    "model": "assistant",
    "function_call": CALL_ROLE, "observation": "tool", "function_response": "tool", "tool": "tool",
}  # fmt: skip

_USUAL_FIELDS: Final = ("messages", "conversations", "conversation", "dialogue", "dialog", "chat", "turns")
_TITLES: Final[dict[FormatKind, str]] = {
    "messages": "OpenAI messages",
    "sharegpt": "ShareGPT conversations",
    "alpaca": "Alpaca instructions",
    "prompt_completion": "prompt and completion",
}
NEXT_STEP: Final = (
    "name the columns in a dataset file, for example `messages: {field: dialogue, role: speaker, content: text, "
    "roles: {customer: user, agent: assistant}}`"
)


@dataclass(frozen=True, kw_only=True)
class Format:
    """Where a row keeps its conversation. `detect_format` finds one in data, a dataset file declares one.

    Names of columns may be dotted paths into nested objects. A name that is None is not looked for.
    """

    kind: FormatKind
    description: str = ""
    """One sentence that says what was detected or declared, and why, for the user to read."""
    field: str = "messages"
    """Column of the message list (kinds `messages` and `sharegpt`)."""
    role: str = "role"
    content: str = "content"
    tool_calls: str = "tool_calls"
    reasoning: str | None = None
    """Key of a message that holds its reasoning, if it is none of `reasoning_content`, `reasoning` and `thinking`."""
    roles: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """What the data calls an author, to the role the template knows; authors that are not listed keep their name."""
    system: str | None = None
    """Column whose text opens the conversation as a system message."""
    instruction: str = "instruction"
    input: str = "input"
    output: str = "output"
    history: str = "history"
    prompt: str = "prompt"
    completion: str = "completion"
    tools: str | None = "tools"
    documents: str | None = "documents"
    chat_template_kwargs: str | None = "chat_template_kwargs"
    template_kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Template arguments of every row; a row's own column wins over them."""


def column(row: Mapping[str, Any], name: str) -> Any:
    """The value under a column name or a dotted path; None if it is not there."""
    if name in row:
        return row[name]
    value: Any = row
    for step in name.split("."):
        if not isinstance(value, Mapping) or step not in value:
            return None
        value = value[step]
    return value


_OTHER_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "field": _USUAL_FIELDS,
    "role": ("role", "from", "speaker", "author", "sender"),
    "content": ("content", "value", "text", "message", "body"),
    "prompt": ("prompt", "instruction", "question", "input", "query"),
    "completion": ("completion", "response", "output", "answer"),
    "instruction": ("instruction", "prompt", "question", "query"),
    "output": ("output", "response", "completion", "answer"),
}
"""What data calls a column or a key, by the attribute of `Format` that names it."""


def key_meant(option: str, name: str, keys: Iterable[Any]) -> str | None:
    """The key that is likely meant by `name`, the attribute `option` of a format: one like it, else a usual name."""
    given = [key for key in keys if isinstance(key, str) and key != name]
    return nearest(name, given) or next((key for key in _OTHER_NAMES.get(option, ()) if key in given), None)


def message_list(value: Any) -> Sequence[Any] | None:
    """The list that a column of messages holds, as it is or as JSON text; None if it is neither."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = read_json(value)
        except ValueError:
            return None
    return value if isinstance(value, list | tuple) else None


def named_format(kind: FormatKind, **names: Any) -> Format:
    """A format by kind, with the names that kind usually has where none is given."""
    if kind == "sharegpt":
        usual: dict[str, Any] = {"field": "conversations", "role": "from", "content": "value", "system": "system"}
        names["roles"] = {**SHAREGPT_ROLES, **names.get("roles", {})}
        names = {**usual, **names}
    elif kind in ("alpaca", "prompt_completion"):
        names = {"system": "system", **names}
    return Format(kind=kind, **names)


def detect_format(rows: Iterable[Any]) -> Format:
    """The format that most of the given rows have, with a sentence in `description` that says what was seen and why.

    Raises:
        ConfigError: no row has a known shape; the message lists the columns seen and says what to do.
    """
    seen: list[Any] = [{"messages": row} if isinstance(row, list) else row for row in rows]
    if not seen:
        raise ConfigError("no row could be read, so the format of the data is not known", help=NEXT_STEP)
    votes: Counter[tuple[FormatKind, tuple[str, ...]]] = Counter()
    for row in seen:
        shape = _shape(row)
        if shape is not None:
            votes[shape] += 1
    if not votes:
        raise ConfigError(_nothing_fits(seen), help=_one_of_several(seen) or _names_seen(seen) or NEXT_STEP)
    (kind, names), count = votes.most_common(1)[0]
    fitting = [row for row in seen if _shape(row) == (kind, names)]
    return _described(kind, names, fitting, looked_at=len(seen), count=count)


def _described(
    kind: FormatKind, names: tuple[str, ...], rows: list[Mapping[str, Any]], *, looked_at: int, count: int
) -> Format:
    notes: list[str] = []
    if kind in ("messages", "sharegpt"):
        (field_name,) = names
        fmt = named_format(kind, field=field_name)
        why = f"column `{field_name}` holds lists of objects with `{fmt.role}` and `{fmt.content}`"
        roles = _authors(rows, fmt)
        notes.append("authors " + ", ".join(_author(fmt, role) for role in roles))
        if kind == "messages" and "assistant" not in roles and any(SHAREGPT_ROLES.get(r) == "assistant" for r in roles):
            notes.append("none is called `assistant`: map them with `messages: {roles: …}` in a dataset file")
    else:
        fmt = named_format(kind, **dict(zip(_PAIR[kind], names, strict=True)))
        why = "columns " + " and ".join(f"`{name}`" for name in names)
    for name in (fmt.system, fmt.tools, fmt.documents, fmt.chat_template_kwargs):
        if name is not None and any(column(row, name) for row in rows):
            notes.append(f"{_USE.get(name, name)} from column `{name}`")
    if fmt.system is None and any(isinstance(row.get("system"), str) and row["system"] for row in rows):
        notes.append("column `system` is not used: `messages: {system: system}` in a dataset file puts it in front")
    rest = "" if count == looked_at else f"; {looked_at - count} with another shape"
    text = f"read as {_TITLES[kind]}: {why} ({count} of {counted(looked_at, 'row')} looked at{rest})"
    return named_format(kind, **{**_names(fmt), "description": "; ".join([text, *notes])})


_PAIR: Final[dict[FormatKind, tuple[str, str]]] = {
    "alpaca": ("instruction", "output"),
    "prompt_completion": ("prompt", "completion"),
}
_USE: Final = {"system": "system message", "chat_template_kwargs": "template arguments"}


def _names(fmt: Format) -> dict[str, Any]:
    return {name: value for name, value in vars(fmt).items() if name not in ("kind", "description")}


def _author(fmt: Format, name: str) -> str:
    role = fmt.roles.get(name, name)
    meaning = "assistant tool call" if role == CALL_ROLE else role
    return f"`{name}`" if meaning == name else f"`{name}` as {meaning}"


def _authors(rows: list[Mapping[str, Any]], fmt: Format) -> list[str]:
    found: dict[str, None] = {}
    for row in rows:
        for message in message_list(column(row, fmt.field)) or ():
            if isinstance(message, Mapping) and isinstance(message.get(fmt.role), str):
                found.setdefault(message[fmt.role])
    return sorted(found)


def _shape(row: Any) -> tuple[FormatKind, tuple[str, ...]] | None:
    """Kind of a row and the columns that say so."""
    if not isinstance(row, Mapping):
        return None
    for name in _USUAL_FIELDS:
        kind = list_kind(row.get(name))
        if kind is not None:
            return kind, (name,)
    if "prompt" in row:
        for answer in ("completion", "response"):
            if answer in row:
                return "prompt_completion", ("prompt", answer)
    if "instruction" in row and "output" in row:
        return "alpaca", ("instruction", "output")
    others = [(kind, name) for name in row if (kind := list_kind(row[name])) is not None]
    # Two lists of messages (`chosen`, `rejected`) leave the choice to the user.
    return (others[0][0], (others[0][1],)) if len(others) == 1 else None


def list_kind(value: Any) -> FormatKind | None:
    """Whether a column's value is a list of OpenAI messages or of ShareGPT turns; None if neither."""
    for message in message_list(value) or ():
        if isinstance(message, Mapping):
            if isinstance(message.get("role"), str):
                return "messages"
            if isinstance(message.get("from"), str) and "value" in message:
                return "sharegpt"
    return None


def _nothing_fits(rows: list[Any]) -> str:
    objects = [row for row in rows if isinstance(row, Mapping)]
    if not objects:
        return f"no conversation found in {counted(len(rows), 'row')}: a row is {a_kind(rows[0])}, not an object"
    columns: dict[str, Any] = {}
    for row in objects:
        for name, value in row.items():
            columns.setdefault(str(name), value)
    lists = _lists_of(objects)
    if len(lists) > 1:
        named = " and ".join(f"`{name}`" for name in lists)
        return f"columns {named} all hold messages, and nothing says which to train on"
    shown = ", ".join(
        f"`{name}` ({'an empty list' if value == [] else a_kind(value)})" for name, value in list(columns.items())[:12]
    )
    return (
        f"no conversation found in {counted(len(rows), 'row')}; their columns are {shown or 'none'}. Known shapes: "
        "a list of messages with `role` and `content`, or with `from` and `value`; `instruction` and `output`; "
        "`prompt` and `completion`"
    )


def _lists_of(objects: list[Any]) -> list[str]:
    return [name for row in objects[:1] for name in row if list_kind(row[name]) is not None]


def _one_of_several(rows: list[Any]) -> str | None:
    lists = _lists_of([row for row in rows if isinstance(row, Mapping)])
    return f"name one in a dataset file: `messages: {{field: {lists[0]}}}`" if len(lists) > 1 else None


def _names_seen(rows: list[Any]) -> str | None:
    """What a dataset file would say, if a column of the rows is a list of objects with the look of messages."""
    for row in (row for row in rows if isinstance(row, Mapping)):
        for name, value in row.items():
            message = next((m for m in message_list(value) or () if isinstance(m, Mapping)), None)
            if message is None or list_kind(value) is not None:
                continue
            role, content = (key if key in message else key_meant(key, key, message) for key in ("role", "content"))
            if role is not None and content is not None and role != content:
                declared = f"messages: {{field: {name}, role: {role}, content: {content}}}"
                return f"rename the keys in the data, or write a dataset file that names them: `{declared}`"
    return None
