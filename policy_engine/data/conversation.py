"""Conversations as data brings them, brought to one form."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, fields
from reprlib import Repr
from typing import Any, Final, NoReturn

from policy_engine.core.errors import RowError
from policy_engine.core.source import Place
from policy_engine.core.wording import a_kind
from policy_engine.data.formats import (
    CALL_ROLE,
    Format,
    column,
    detect_format,
    key_meant,
    message_list,
)
from policy_engine.data.json_text import read_json

__all__ = ["Conversation", "Format", "detect_format", "null_key_kept", "read_row", "without_null_fields"]


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """OpenAI-style messages, whatever format they came in.

    Each message has a `role` (str), and `content` (str, list of parts, None or absent), `tool_calls`,
    `reasoning_content` … as in the data, any further keys kept. `sample` is the dataset row
    they came from (for `sample.` conditions).
    """

    messages: tuple[Mapping[str, Any], ...]
    tools: tuple[Mapping[str, Any], ...] | None = None
    documents: tuple[Mapping[str, Any], ...] | None = None
    sample: Mapping[str, Any] = field(default_factory=dict)
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """What is there, long texts cut in the middle."""
        given = {f.name: value for f in fields(self) if (value := getattr(self, f.name))}
        return f"Conversation({', '.join(f'{name}={_SHORT.repr(value)}' for name, value in given.items())})"


def _short() -> Repr:
    short = Repr()
    short.maxstring = short.maxother = 200
    short.maxdict = short.maxtuple = short.maxlist = 30
    short.maxlevel = 8
    return short


_SHORT: Final = _short()


def read_row(row: Any, spec: Format, number: int | None = None) -> Conversation:
    """The conversation of one dataset row.

    Messages keep every key the row has; a key whose value is null stays, so that `has message.KEY` tells null from
    absent (rendering leaves it out, as transformers does). `number` (from 1) opens the text of an error.

    Raises:
        RowError: the row does not have the shape that `spec` says, with the place and what stands there.
    """
    try:
        return _read(row, spec)
    except RowError as error:
        if number is None:
            raise
        raise error.at(Place(file=None, number=number)) from None


def without_null_fields(value: Any) -> Any:
    """`value` without the object keys whose value is null, at any depth.

    For rows that went through Arrow structs, where every object has every key of its column and null stands for absent.
    The content of a message stays even if it is null, so that a message without text is told from one of unknown shape.
    """
    if isinstance(value, Mapping):
        kept = null_key_kept(value)
        return {key: without_null_fields(item) for key, item in value.items() if item is not None or key == kept}
    if isinstance(value, list | tuple):
        return [without_null_fields(item) for item in value]
    return value


def null_key_kept(keys: Container[str]) -> str | None:
    """The key of an object with these keys that keeps a null where Arrow's nulls are dropped: a message's content."""
    if "role" in keys:
        return "content"
    return "value" if "from" in keys else None


def _read(row: Any, spec: Format) -> Conversation:
    if isinstance(row, list):
        row = {"messages": row}
    if not isinstance(row, Mapping):
        _refuse(f"the row is {a_kind(row)}, not an object", _DROP)
    messages = _READERS[spec.kind](row, spec)
    if spec.system is not None:
        system = column(row, spec.system)
        if system is not None and not isinstance(system, str):
            _refuse(
                f"column `{spec.system}` is {a_kind(system)}; a system message is text",
                "write text, or say in a dataset file that the column is none: `messages: {system: null}`",
            )
        if system and not (messages and messages[0]["role"] == "system"):
            messages.insert(0, {"role": "system", "content": system})
    if not messages:
        _refuse("the conversation has no messages", _DROP)
    tools = _objects(row, spec.tools)
    if tools is not None and spec.kind != "messages":
        tools = tuple(_wrapped(tool) for tool in tools)
    kwargs = _object(row, spec.chat_template_kwargs)
    return Conversation(
        messages=tuple(messages),
        tools=tools,
        documents=_objects(row, spec.documents),
        sample=row,
        template_kwargs={**spec.template_kwargs, **kwargs} if kwargs else spec.template_kwargs,
    )


def _refuse(reason: str, help: str) -> NoReturn:
    raise RowError(reason, help=help)


_DROP: Final = "mend the row, or drop it"


def _named(option: str, name: str, keys: Mapping[Any, Any], noun: str) -> str:
    """What to do where `name` is not among the keys: a dataset file says under `option` what it is called."""
    meant = key_meant(option, name, keys)
    if meant is None:
        return f"add it, or say in a dataset file which {noun} has it: `messages: {{{option}: NAME}}`"
    return (
        f"did you mean `{name}` where it says `{meant}`? Rename it in the data, or say in a dataset file what it is "
        f"called: `messages: {{{option}: {meant}}}`"
    )


def _read_messages(row: Mapping[str, Any], spec: Format) -> list[dict[str, Any]]:
    return [_message(m, spec, f"{spec.field}[{i}]") for i, m in enumerate(_message_column(row, spec.field))]


def _message_column(row: Mapping[str, Any], name: str) -> Sequence[Any]:
    value = column(row, name)
    if value is None:
        reason = "is null" if name in row else "is missing"
        _refuse(
            f"column `{name}` with the messages {reason}; the row's columns are {_keys(row)}",
            _DROP if name in row else _named("field", name, row, "column"),
        )
    messages = message_list(value)
    if messages is None:
        _refuse(
            f"column `{name}` is {a_kind(value)}, not a list of messages",
            "write a list of objects with a role and a content, or that as JSON text",
        )
    return messages


def _keys(value: Mapping[Any, Any]) -> str:
    return ", ".join(f"`{key}`" for key in list(value)[:12]) or "none"


def _message(message: Any, spec: Format, place: str) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        _refuse(f"{place} is {a_kind(message)}, not an object with `{spec.role}` and `{spec.content}`", _DROP)
    role = message.get(spec.role)
    if not isinstance(role, str) or not role:
        if spec.role not in message:
            _refuse(
                f"{place} has no `{spec.role}`; its keys are {_keys(message)}",
                _named("role", spec.role, message, "key"),
            )
        _refuse(
            f"{place}: `{spec.role}` is {'empty' if role == '' else a_kind(role)}; it has to name the author",
            "write who the message is from, such as `user` or `assistant`",
        )
    role = spec.roles.get(role, role)
    if role == CALL_ROLE:
        return _call_message(message, spec, place)
    result = _renamed(message, spec, place)
    result["role"] = role
    if "content" in result:
        _check_content(result["content"], f"{place}: `{spec.content}`")
    if result.get("tool_calls") is not None:
        result["tool_calls"] = _tool_calls(result["tool_calls"], f"{place}: `{spec.tool_calls}`")
    if not any(key in result for key in ("content", "tool_calls", "reasoning_content", "reasoning", "thinking")):
        _refuse(
            f"{place} has no `{spec.content}`; its keys are {_keys(message)}",
            _named("content", spec.content, message, "key"),
        )
    return result


def _renamed(message: Mapping[str, Any], spec: Format, place: str) -> dict[str, Any]:
    """A copy with this project's key names, in the order the data has; `role` comes first."""
    names = {spec.role: "role", spec.content: "content", spec.tool_calls: "tool_calls"}
    if spec.reasoning is not None:
        names[spec.reasoning] = "reasoning_content"
    result: dict[str, Any] = {"role": None}
    for key, value in message.items():
        name = names.get(key, key)
        if name != key and name in message:
            _refuse(
                f"{place} has both `{key}`, which is read as `{name}`, and a `{name}` of its own",
                "drop or rename one of the two in the data, or change `messages:` in the dataset file",
            )
        result[name] = value
    return result


def _check_content(content: Any, place: str) -> None:
    if content is None or isinstance(content, str):
        return
    if not isinstance(content, list | tuple):
        _refuse(
            f"{place} is {a_kind(content)}; it has to be text, a list of parts, or null",
            "write an object, such as a tool's result, as JSON text",
        )
    for i, part in enumerate(content):
        if not isinstance(part, Mapping):
            _refuse(f"{place}[{i}] is {a_kind(part)}, not an object", 'write parts as {"type": "text", "text": …}')
        if "text" in part and not isinstance(part["text"], str | None):
            _refuse(f"{place}[{i}]: `text` is {a_kind(part['text'])}; it has to be text", _DROP)


_CALL: Final = 'write calls as {"type": "function", "function": {"name": …, "arguments": …}}'


def _tool_calls(value: Any, place: str) -> list[Mapping[str, Any]]:
    calls = message_list(value)
    if calls is None:
        _refuse(f"{place} is {a_kind(value)}, not a list of calls", "write a list, or that as JSON text")
    for i, call in enumerate(calls):
        if not isinstance(call, Mapping):
            _refuse(f"{place}[{i}] is {a_kind(call)}, not an object", _CALL)
        function = call.get("function", call)
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            _refuse(f"{place}[{i}] names no function; its keys are {_keys(call)}", _CALL)
    return list(calls)


def _call_message(message: Mapping[str, Any], spec: Format, place: str) -> dict[str, Any]:
    """A ShareGPT `function_call` turn as an assistant message with tool calls and no text."""
    result = _renamed(message, spec, place)
    value = result.pop("content", None)
    if isinstance(value, str):
        try:
            value = read_json(value)
        except ValueError as error:
            _refuse(f"{place}: the call in `{spec.content}` is not JSON ({error})", _DROP)
    calls = value if isinstance(value, list | tuple) else [value]
    place = f"{place}: `{spec.content}`"
    wrapped = []
    for i, call in enumerate(calls):
        if not isinstance(call, Mapping) or not isinstance(call.get("name"), str) or "arguments" not in call:
            found = f"keys {_keys(call)}" if isinstance(call, Mapping) else a_kind(call)
            _refuse(f"{place}: call {i + 1} has to be an object with `name` and `arguments`, found {found}", _DROP)
        wrapped.append(_wrapped(call))
    # An empty text, not an absent one: the turn says nothing beside its calls, and templates may add to `content`.
    return {**result, "role": "assistant", "content": "", "tool_calls": wrapped}


def _wrapped(call: Mapping[str, Any]) -> Mapping[str, Any]:
    """A bare `{name, …}` function as OpenAI's `{type: function, function: …}`."""
    return call if "function" in call or "name" not in call else {"type": "function", "function": call}


def _read_alpaca(row: Mapping[str, Any], spec: Format) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    history = column(row, spec.history)
    if history is not None:
        if not isinstance(history, list | tuple):
            _refuse(
                f"column `{spec.history}` is {a_kind(history)}; it has to be a list of [question, answer] pairs",
                _DROP,
            )
        for i, pair in enumerate(history):
            if not (isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
                _refuse(f"`{spec.history}[{i}]` is not a [question, answer] pair of texts", _DROP)
            messages += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    instruction = _text(row, "instruction", spec.instruction)
    given = _text(row, "input", spec.input) if column(row, spec.input) is not None else ""
    question = "\n".join(text for text in (instruction, given) if text)
    messages.append({"role": "user", "content": question})
    messages.append({"role": "assistant", "content": _text(row, "output", spec.output)})
    return messages


def _text(row: Mapping[str, Any], option: str, name: str) -> str:
    value = column(row, name)
    if not isinstance(value, str):
        found, help = (a_kind(value), _DROP) if name in row else ("missing", _named(option, name, row, "column"))
        _refuse(f"column `{name}` is {found}; it has to be text", help)
    return value


def _read_pair(row: Mapping[str, Any], spec: Format) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    for option, name, role in (("prompt", spec.prompt, "user"), ("completion", spec.completion, "assistant")):
        value = column(row, name)
        if isinstance(value, list | tuple):
            messages += [_message(m, spec, f"{name}[{i}]") for i, m in enumerate(value)]
        elif isinstance(value, str):
            messages.append({"role": role, "content": value})
        else:
            found, help = (a_kind(value), _DROP) if name in row else ("missing", _named(option, name, row, "column"))
            _refuse(f"column `{name}` is {found}; it has to be text or a list of messages", help)
    return messages


_READERS = {
    "messages": _read_messages,
    "sharegpt": _read_messages,
    "alpaca": _read_alpaca,
    "prompt_completion": _read_pair,
}


def _json(row: Mapping[str, Any], name: str | None) -> Any:
    """A column that is null, data, or data as JSON text; None for null, absent and empty."""
    value = None if name is None else column(row, name)
    if isinstance(value, str) and value.strip():
        try:
            value = read_json(value)
        except ValueError as error:
            _refuse(f"column `{name}` is text that is not JSON ({error})", _DROP)
    return value if value not in (None, "", [], {}) and not (isinstance(value, str) and not value.strip()) else None


def _objects(row: Mapping[str, Any], name: str | None) -> tuple[Mapping[str, Any], ...] | None:
    value = _json(row, name)
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        _refuse(f"column `{name}` is {a_kind(value)}; it has to be a list of objects, or that as JSON text", _DROP)
    for i, item in enumerate(value):
        if not isinstance(item, Mapping):
            _refuse(f"`{name}[{i}]` is {a_kind(item)}, not an object", _DROP)
    return tuple(value)


def _object(row: Mapping[str, Any], name: str | None) -> Mapping[str, Any] | None:
    value = _json(row, name)
    if value is not None and not isinstance(value, Mapping):
        _refuse(f"column `{name}` is {a_kind(value)}; it has to be an object, or that as JSON text", _DROP)
    return value
