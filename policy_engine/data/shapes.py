"""The shape of data, found in its rows: columns of the conversation, and those left over.

[{"conversations": [{"from": "human", "value": "Hi"}], "tool_defs": "[…]"}]
read as ShareGPT conversations: column `conversations` holds lists of objects with `from` and `value` (1 of 1 row
looked at); authors `human` as user; column `tool_defs` is not used: `messages: {tools: tool_defs}` …
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import replace
from typing import Any, Final

from policy_engine.core.errors import ConfigError
from policy_engine.core.wording import counted
from policy_engine.data.formats import (
    CALL_ROLE,
    OTHER_NAMES,
    SHAREGPT_ROLES,
    USUAL_FIELDS,
    Format,
    FormatKind,
    column,
    list_kind,
    message_list,
    named_format,
    role_of,
)
from policy_engine.data.json_text import read_json
from policy_engine.data.refusal import ANSWERS, NEXT_STEP, nothing_fits, what_to_do
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
_TOOLS: Final = (
    "tools", "tool_defs", "tool_definitions", "tool_schemas", "tools_json", "available_tools", "functions",
    "function_definitions", "function_descriptions", "apis",
)  # fmt: skip
_SYSTEMS: Final = ("system", "system_prompt", "system_message", "sys_prompt", "instructions", "preprompt")
_OF_SYSTEMS: Final = frozenset(
    {"system", "sys", "prompt", "message", "msg", "instruction", "instructions", "text", "content", "default", "custom"}
)
"""Words that the name of a column of system prompts may have beside `system`."""
_CONTEXTS: Final = ("context", "passage")
_OF_ANSWERS: Final = frozenset(
    {"answer", "answers", "response", "responses", "output", "outputs", "completion", "completions", "reply", "gold",
     "target", "solution", "reference", "generation", "generations", "assistant", "truth", "chosen", "result"}
)  # fmt: skip


def detect_format(rows: Iterable[Any]) -> Format:
    """The format that most of the given rows have; `description` says what was seen, and why.

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
    votes: Counter[tuple[FormatKind, tuple[str, ...]]] = Counter()
    for row in seen:
        shape = shape_of(row)
        if shape is not None:
            votes[shape] += 1
    if not votes:
        raise ConfigError(nothing_fits(seen), help=what_to_do(seen))
    (kind, names), count = votes.most_common(1)[0]
    fitting = [row for row in seen if shape_of(row) == (kind, names)]
    return _described(kind, names, fitting, looked_at=len(seen), count=count)


def _described(
    kind: FormatKind, names: tuple[str, ...], rows: list[Mapping[str, Any]], *, looked_at: int, count: int
) -> Format:
    notes: list[str] = []
    if kind in ("messages", "sharegpt"):
        (field_name,) = names
        fmt = named_format(kind, field=field_name)
        why = f"column `{field_name}` holds lists of objects with `{fmt.role}`"
        why += f" and `{fmt.content}`" if _has_key(rows, fmt, fmt.content) else ""
        roles = _authors(rows, fmt)
        notes.append("authors " + ", ".join(_author(fmt, role) for role in roles))
        # OpenAI's keys with ShareGPT's authors: nothing would be trained.
        if kind == "messages" and "assistant" not in roles and any(SHAREGPT_ROLES.get(r) == "assistant" for r in roles):
            notes.append("no author is called `assistant`: map them with `messages: {roles: …}` in a dataset file")
    elif kind == "turns":
        (field_name,) = names
        fmt = named_format(kind, field=field_name)
        why = f"column `{field_name}` holds turns with the token ids of each, and nothing is rendered"
    else:
        fmt = named_format(kind, **dict(zip(_PAIR[kind], names, strict=True)))
        used = (*names, *(("label",) if kind == "unpaired_preference" else ()))
        why = "columns " + " and ".join(f"`{name}`" for name in used)
        if kind == "preference":
            # Without a prompt of its own, a pair has it in what both answers begin with.
            with_prompt = any(column(row, fmt.prompt) is not None for row in rows)
            why += f" answer column `{fmt.prompt}`" if with_prompt else " begin with the same messages, the prompt"
            alone = "format: prompt_completion, completion: chosen" if with_prompt else "field: chosen"
            notes.append(f"`messages: {{{alone}}}` in a dataset file reads the preferred answer alone")
    for name in (fmt.system, fmt.tools, fmt.documents, fmt.chat_template_kwargs):
        if name is not None and any(_is_there(column(row, name)) for row in rows):
            notes.append(f"{_USE.get(name, name)} from column `{name}`{_but(rows, fmt, name)}")
    notes += _of_tokens(rows, fmt)
    rest = "" if count == looked_at else f"; {looked_at - count} with another shape"
    text = f"read as {_TITLES[kind]}: {why} ({count} of {counted(looked_at, 'row')} looked at{rest})"
    return noted(named_format(kind, **{**_names(fmt), "description": "; ".join([text, *notes])}), rows)


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


def noted(format: Format, rows: Iterable[Any], declared: Container[str] = ()) -> Format:
    """The format, with a sentence in `unused` for each column that is left over.

    These are tools where the format finds no tools, a system prompt, the messages before conversations that open with
    an answer, and the answer to conversations that end with the user. `declared` are options that a dataset file sets,
    and which therefore say nothing.

    >>> row = {"messages": [{"role": "user", "content": "Hi"}], "answer": "Yes."}
    >>> noted(named_format("messages"), [row]).unused[0].partition(":")[0]
    'the conversations end with the user, and column `answer` is not used'
    """
    fitting = [row for row in rows if isinstance(row, Mapping)]
    found = (*_inputs(fitting, format, declared), *_openings(fitting, format), *_answers(fitting, format))
    description = "; ".join([format.description, *found])
    return replace(format, unused=found, description=description) if found else format


def _inputs(rows: Sequence[Mapping[str, Any]], format: Format, declared: Container[str]) -> Iterator[str]:
    for option, names, is_one, does in (
        ("tools", _TOOLS, _holds_tools, "gives it to the template"),
        ("system", _SYSTEMS, _is_system, "puts it in front"),
        ("input", _CONTEXTS if format.kind == "alpaca" else (), None, "puts it behind the instruction"),
    ):
        used = getattr(format, option)
        # The usual column is there, so other names are no candidates.
        if option in declared or (used is not None and _filled(rows, used)):
            continue
        others = [name for name in _columns(rows) if name not in names and is_one is not None and is_one(rows, name)]
        for name in (*names, *others):
            if name != used and _filled(rows, name) and not _is_copied(rows, name, format):
                yield f"column `{name}` is not used: `messages: {{{option}: {name}}}` in a dataset file {does}"


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    # Rows in Python may have numbers for names; these tell nothing.
    return list(dict.fromkeys(str(name) for row in rows for name in row))


def _words(name: str) -> set[str]:
    """The words of a column's name, in lower case.

    >>> sorted(_words("systemPrompt_v2"))
    ['prompt', 'system', 'v']
    """
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}


def _is_system(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    words = _words(name)
    return (
        bool(words & {"system", "sys"})
        and words <= _OF_SYSTEMS
        and all(isinstance(row.get(name), str | None) for row in rows)
    )


def _holds_tools(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    """True for lists of tool schemas, as data or JSON text, whatever the column is called."""
    # By type first: arrays, which rows in Python may hold, are neither true nor false.
    values = (row.get(name) for row in rows)
    value = next((value for value in values if isinstance(value, str | list | tuple) and len(value) > 0), None)
    tools = message_list(value) or ()
    first = next(iter(tools), None)
    if isinstance(first, str) and first.lstrip().startswith("{"):
        try:
            first = read_json(first)
        except ValueError:
            return False
    if not isinstance(first, Mapping):
        return False
    function = first.get("function", first)
    # A call has a name too, and its arguments.
    return (
        isinstance(function, Mapping)
        and isinstance(function.get("name"), str)
        and not {"parameters", "input_schema", "description"}.isdisjoint(function)
        and "arguments" not in function
    )


def _is_copied(rows: Sequence[Mapping[str, Any]], name: str, format: Format) -> bool:
    """True if each text of a column is that of a message in its row."""
    if format.kind not in ("messages", "sharegpt"):
        return False
    texts = [(row, text) for row in rows if isinstance(text := column(row, name), str) and text.strip()]
    return bool(texts) and all(
        any(
            isinstance(message, Mapping) and message.get(format.content) == text
            for message in message_list(column(row, format.field)) or ()
        )
        for row, text in texts
    )


def _openings(rows: Sequence[Mapping[str, Any]], format: Format) -> Iterator[str]:
    if format.kind != "messages":
        return
    first = [next(iter(message_list(column(row, format.field)) or [None])) for row in rows]
    answers = sum(role_of(message, format) == "assistant" for message in first)
    # Of most rows, since single conversations open and end in many ways.
    if 2 * answers <= len(rows):
        return
    lists = (name for row in rows for name in row if list_kind(row[name]) == "messages")
    names = (name for name in (*OTHER_NAMES["prompt"], *dict.fromkeys(lists)) if name != format.field)
    name = next((name for name in names if _filled(rows, name)), None)
    if name is not None:
        prompt = "" if name == "prompt" else f"prompt: {name}, "
        declared = f"messages: {{format: prompt_completion, {prompt}completion: {format.field}}}"
        yield (
            f"the conversations open with an answer, and column `{name}` is not used: `{declared}` in a dataset file "
            "puts it in front"
        )


def _answers(rows: Sequence[Mapping[str, Any]], format: Format) -> Iterator[str]:
    if format.kind not in ("messages", "sharegpt"):
        return
    if format.kind == "messages" and _filled(rows, "chosen") and _filled(rows, "rejected"):
        yield (
            "columns `chosen` and `rejected` are not used: `messages: {format: preference}` in a dataset file reads "
            f"them as a pair of answers, and `prompt: {format.field}` beside it that column as their prompt"
        )
        return
    last = [list(message_list(column(row, format.field)) or [None])[-1] for row in rows]
    if 2 * sum(role_of(message, format) == "user" for message in last) <= len(rows):
        return
    named = [name for name in _columns(rows) if _words(name) & _OF_ANSWERS]
    name = next((name for name in (*ANSWERS, *named) if name != format.field and _holds_answers(rows, name)), None)
    if name is None:
        return
    keys = "" if format.kind == "messages" else ", role: from, content: value, roles: {human: user, gpt: assistant}"
    declared = f"messages: {{format: prompt_completion, prompt: {format.field}, completion: {name}{keys}}}"
    yield (
        f"the conversations end with the user, and column `{name}` is not used: `{declared}` in a dataset file "
        "reads it as the answer"
    )


def _holds_answers(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    values = [value for row in rows if (value := column(row, name)) is not None]
    is_text = any(isinstance(value, str) and value.strip() and message_list(value) is None for value in values)
    return is_text or any(list_kind(value) is not None for value in values)


def _is_there(value: Any) -> bool:
    # Arrays are neither true nor false.
    return len(value) > 0 if isinstance(value, Sized) else bool(value)


def _filled(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    return any(isinstance(value := column(row, name), str | list | tuple) and len(value) > 0 for row in rows)


_PAIR: Final[dict[FormatKind, tuple[str, str]]] = {
    "alpaca": ("instruction", "output"),
    "prompt_completion": ("prompt", "completion"),
    "preference": ("chosen", "rejected"),
    "unpaired_preference": ("prompt", "completion"),
}


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


def shape_of(row: Any) -> tuple[FormatKind, tuple[str, ...]] | None:
    """Kind of a row and the columns that say so.

    >>> shape_of({"messages": [{"role": "user", "content": "Hi"}]})
    ('messages', ('messages',))
    """
    if not isinstance(row, Mapping):
        return None
    # The usual names first: a second list of messages beside them is something else, such as a rejected answer.
    for name in USUAL_FIELDS:
        kind = list_kind(row.get(name))
        if kind is not None:
            return kind, (name,)
    if "prompt" in row:
        for answer in ("completion", "response"):
            if answer in row:
                # A number under `label` may be a class or a score.
                judged = isinstance(row.get("label"), bool)
                return ("unpaired_preference" if judged else "prompt_completion"), ("prompt", answer)
    if _is_pair(row):
        return "preference", ("chosen", "rejected")
    if "instruction" in row and "output" in row:
        return "alpaca", ("instruction", "output")
    others = [(kind, name) for name in row if (kind := list_kind(row[name])) is not None]
    # Two lists of messages leave the choice to the user.
    return (others[0][0], (others[0][1],)) if len(others) == 1 else None


def _is_pair(row: Mapping[str, Any]) -> bool:
    """True if `chosen` and `rejected` are two answers: messages, or text to a prompt."""
    answers = [row.get(name) for name in ("chosen", "rejected")]
    texts = [isinstance(answer, str) and list_kind(answer) is None for answer in answers]
    # Text answers something; two texts alone may be any data.
    if any(texts) and row.get("prompt") is None:
        return False
    return all(is_text or list_kind(answer) == "messages" for is_text, answer in zip(texts, answers))
