"""Messages as data writes them, brought to this project's names: role, content, tool calls.

{"from": "gpt", "value": "I look."}                                     {"role": "assistant", "content": "I look.",
{"from": "function_call", "value": "{\"name\": \"f\", …}"}    becomes     "tool_calls": [{"type": "function", …}]}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from policy_engine.core.vocabulary import MESSAGE_FIELDS
from policy_engine.core.wording import a_kind
from policy_engine.data.formats import CALL_ROLE, Format, column, is_broken_list, message_list
from policy_engine.data.json_text import read_json
from policy_engine.data.refusal import (
    ARRAYS,
    DROP,
    how_to_name,
    keys_of,
    of_other_interfaces,
    refuse,
    text_help,
    text_problem,
)

_REASONING: Final = "reasoning_content"
_CALL: Final = 'write calls as {"type": "function", "function": {"name": …, "arguments": …}}'
_SHAREGPT: Final = (
    "these are ShareGPT's keys: `messages: {format: sharegpt}` in a dataset file reads them; without one, "
    "`masker.batch` and the commands find that by themselves"
)

# `text` in place of `content` is a misspelled key more often than a template's own field.
_SPEAKING: Final = frozenset(name for name, kind in MESSAGE_FIELDS.items() if kind != "label" and name != "text")
"""Fields that make a message of an object: its text, calls, results, reasoning or media."""


def read_messages(row: Mapping[str, Any], spec: Format) -> list[dict[str, Any]]:
    """The messages of a column of messages.

    Raises RowError where the column or a message is of another shape.
    """
    return read_list(_message_column(row, spec.field), spec, spec.field)


def read_list(messages: Sequence[Any], spec: Format, name: str) -> list[dict[str, Any]]:
    """The messages of a list, which the row has under `name`.

    Some data writes a call as a message of its own (ShareGPT's `function_call`). It joins the assistant's message right
    before it: text and calls are one turn, which ends after the last call.

    >>> from policy_engine.data.formats import named_format
    >>> call = {"from": "function_call", "value": '{"name": "look", "arguments": {}}'}
    >>> made = read_list([{"from": "gpt", "value": "I look."}, call], named_format("sharegpt"), "conversations")
    >>> [(message["role"], message["content"], len(message["tool_calls"])) for message in made]
    [('assistant', 'I look.', 1)]
    """
    found: list[dict[str, Any]] = []
    # Not where one key has two meanings: what is wrong then is for the long way to say.
    is_usual = not {spec.role, spec.content} & {spec.tool_calls, spec.reasoning} and spec.role != spec.content
    is_usual = is_usual and spec.role != "content" and spec.content != "role"
    role_key, content_key, roles = spec.role, spec.content, spec.roles
    # No name changes, and arguments stay as they are.
    is_plain = (role_key, content_key, spec.tool_calls) == ("role", "content", "tool_calls")
    is_plain = is_plain and spec.reasoning in (None, _REASONING) and not spec.parses_arguments
    for index, message in enumerate(messages):
        # A role and a text and nothing else, as most messages are; written out, since it runs for each of them.
        if is_usual and type(message) is dict and len(message) == 2:
            role, content = message.get(role_key), message.get(content_key)
            if type(role) is str and role and type(content) is str:
                role = roles.get(role, role) if roles else role
                if role != CALL_ROLE:
                    found.append({"role": role, "content": content})
                    continue
        elif is_plain and type(message) is dict and type(message.get("content")) is str:
            role = message.get("role")
            if type(role) is str and role:
                role = roles.get(role, role) if roles else role
                if role != CALL_ROLE:
                    # In the order that `_renamed` makes.
                    result = {"role": role, **message}
                    result["role"] = role
                    if result.get("tool_calls") is not None:
                        result["tool_calls"] = _tool_calls(result["tool_calls"], f"{name}[{index}]: `tool_calls`")
                    found.append(result)
                    continue
        place = f"{name}[{index}]"
        made = _read_message(message, spec, place)
        # By the data's own name: the message that was made has the role `assistant` already.
        is_call = spec.roles.get(message[spec.role], message[spec.role]) == CALL_ROLE
        if is_call and found and found[-1]["role"] == "assistant":
            found[-1] = _join(found[-1], made, place)
        else:
            found.append(made)
    return found


def _join(before: dict[str, Any], call: dict[str, Any], place: str) -> dict[str, Any]:
    for key, value in call.items():
        if key not in ("content", "tool_calls") and key in before and before[key] != value:
            refuse(
                f"{place} is a call of the turn before it, and differs from that in `{key}`",
                f"give both the same `{key}`, or write them as one message",
            )
    calls = [*(before.get("tool_calls") or ()), *call["tool_calls"]]
    # The call's own text is empty, and stands in for an answer that had no text.
    content = call["content"] if before.get("content") is None else before["content"]
    return {**before, **call, "content": content, "tool_calls": calls}


def _message_column(row: Mapping[str, Any], name: str) -> Sequence[Any]:
    value = column(row, name)
    if value is None:
        reason = "is null" if name in row else "is missing"
        refuse(
            f"column `{name}` with the messages {reason}; the row's columns are {keys_of(row)}",
            DROP if name in row else text_help(row) or how_to_name("field", name, row, "column"),
        )
    messages = message_list(value)
    # Text that was meant as a list: say what is wrong in it, not that it is text.
    if messages is None and is_broken_list(value):
        problem, help = text_problem(value)
        refuse(f"column `{name}` is {problem}", help)
    if messages is None:
        refuse(
            f"column `{name}` is {a_kind(value)}, not a list of messages",
            # Only a list is a list: numpy and pandas make arrays of them.
            ARRAYS
            if hasattr(value, "dtype")
            else "write a list of objects with a role and a content, or that as JSON text",
        )
    return messages


def _read_message(message: Any, spec: Format, place: str) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        refuse(f"{place} is {a_kind(message)}, not an object with `{spec.role}` and `{spec.content}`", DROP)
    role = message.get(spec.role)
    if not isinstance(role, str) or not role:
        if spec.role not in message:
            refuse(
                f"{place} has no `{spec.role}`; its keys are {keys_of(message)}",
                _SHAREGPT
                if {"from", "value"} <= set(message)
                else of_other_interfaces(message) or how_to_name("role", spec.role, message, "key"),
            )
        refuse(
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
        calls = _tool_calls(result["tool_calls"], f"{place}: `{spec.tool_calls}`")
        result["tool_calls"] = _parsed(calls, f"{place}: `{spec.tool_calls}`") if spec.parses_arguments else calls
    # OpenAI's older form of a single call, which some data still has.
    if "function_call" in result and spec.parses_arguments and isinstance(result["function_call"], Mapping):
        result["function_call"] = _parsed([result["function_call"]], f"{place}: `function_call`")[0]
    # An object with nothing but a role is a misspelled key, not an empty message.
    if _SPEAKING.isdisjoint(result):
        refuse(
            f"{place} has no `{spec.content}`; its keys are {keys_of(message)}",
            of_other_interfaces(message) or how_to_name("content", spec.content, message, "key"),
        )
    return result


def _renamed(message: Mapping[str, Any], spec: Format, place: str) -> dict[str, Any]:
    """A copy with this project's key names, in the order the data has; `role` comes first."""
    names = {spec.role: "role", spec.content: "content", spec.tool_calls: "tool_calls"}
    if spec.reasoning is not None:
        names[spec.reasoning] = _REASONING
    result: dict[str, Any] = {"role": None}
    for key, value in message.items():
        name = names.get(key, key)
        # Two keys for one thing: taking either would lose the other silently.
        if name != key and name in message:
            refuse(
                f"{place} has both `{key}`, which is read as `{name}`, and a `{name}` of its own",
                "drop or rename one of the two in the data, or change `messages:` in the dataset file",
            )
        result[name] = value
    return result


def _check_content(content: Any, place: str) -> None:
    if content is None or isinstance(content, str):
        return
    if not isinstance(content, list | tuple):
        refuse(
            f"{place} is {a_kind(content)}; it has to be text, a list of parts, or null",
            "write an object, such as a tool's result, as JSON text",
        )
    for i, part in enumerate(content):
        if not isinstance(part, Mapping):
            refuse(f"{place}[{i}] is {a_kind(part)}, not an object", 'write parts as {"type": "text", "text": …}')
        if "text" in part and not isinstance(part["text"], str | None):
            refuse(f"{place}[{i}]: `text` is {a_kind(part['text'])}; it has to be text", DROP)


def _tool_calls(value: Any, place: str) -> list[Mapping[str, Any]]:
    calls = message_list(value)
    if calls is None:
        refuse(f"{place} is {a_kind(value)}, not a list of calls", "write a list, or that as JSON text")
    for i, call in enumerate(calls):
        if type(call) is not dict and not isinstance(call, Mapping):
            refuse(f"{place}[{i}] is {a_kind(call)}, not an object", _CALL)
        function = call.get("function", call)
        # Both forms: OpenAI's with `function`, and bare `{name, arguments}`.
        is_object = type(function) is dict or isinstance(function, Mapping)
        if not is_object or not isinstance(function.get("name"), str):
            refuse(f"{place}[{i}] names no function; its keys are {keys_of(call)}", _CALL)
    return list(calls)


def _parsed(calls: list[Mapping[str, Any]], place: str) -> list[Mapping[str, Any]]:
    """Calls whose arguments are objects, where they were the JSON text of one."""
    made: list[Mapping[str, Any]] = []
    for i, call in enumerate(calls):
        function = call.get("function", call)
        arguments = function.get("arguments")
        # A call without arguments may have null there, which Arrow leaves out.
        if isinstance(arguments, str) or (arguments is None and "parameters" not in function):
            arguments = _object_in(arguments or "", f"{place}[{i}]: `arguments`")
            function = {**function, "arguments": arguments}
        made.append({**call, "function": function} if "function" in call else function)
    return made


def _object_in(text: str, place: str) -> Mapping[str, Any]:
    try:
        # Some interfaces give empty text for a call without arguments.
        found = read_json(text) if text.strip() else {}
    except ValueError as error:
        refuse(f"{place} is text that is not JSON ({error}), and the dataset file says `arguments: parse`", DROP)
    if isinstance(found, str):
        refuse(f"{place} is JSON text in JSON text: it was dumped twice", "dump it once, or give it as an object")
    if not isinstance(found, Mapping):
        refuse(f"{place} is the JSON text of {a_kind(found)}; arguments have to be an object", DROP)
    return found


def _call_message(message: Mapping[str, Any], spec: Format, place: str) -> dict[str, Any]:
    """A ShareGPT `function_call` turn as an assistant message with tool calls and no text."""
    result = _renamed(message, spec, place)
    value = result.pop("content", None)
    if isinstance(value, str):
        try:
            value = read_json(value)
        except ValueError as error:
            refuse(f"{place}: the call in `{spec.content}` is not JSON ({error})", DROP)
    calls = value if isinstance(value, list | tuple) else [value]
    place = f"{place}: `{spec.content}`"
    made = []
    for i, call in enumerate(calls):
        if not isinstance(call, Mapping) or not isinstance(call.get("name"), str) or "arguments" not in call:
            found = f"keys {keys_of(call)}" if isinstance(call, Mapping) else a_kind(call)
            refuse(f"{place}: call {i + 1} has to be an object with `name` and `arguments`, found {found}", DROP)
        made.append(wrapped(call))
    made = _parsed(made, place) if spec.parses_arguments else made
    # An empty text, not an absent one: the turn says nothing beside its calls, and templates may add to `content`.
    return {**result, "role": "assistant", "content": "", "tool_calls": made}


def wrapped(call: Mapping[str, Any]) -> Mapping[str, Any]:
    """A bare `{name, …}` function as OpenAI's `{type: function, function: …}`.

    >>> wrapped({"name": "look", "arguments": {}})
    {'type': 'function', 'function': {'name': 'look', 'arguments': {}}}
    """
    return call if "function" in call or "name" not in call else {"type": "function", "function": call}
