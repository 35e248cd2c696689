"""The message and field that a template cannot take, found after it raised, and the remedy.

Qwen3.5     Can only get item pairs from a mapping.
found by    rendering the conversation again with each call's arguments parsed, which works
reported    `tool_calls[0].function.arguments` of message 1 is text, and the template wants an object
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from policy_engine.core.errors import TemplateError
from policy_engine.data.conversation import Conversation

Change = Callable[[Mapping[str, Any]], "tuple[Mapping[str, Any], str] | None"]
"""A message with one change, and the changed field; None if there is nothing to change."""


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """A change of messages that a template may ask for; `reason` follows the field's name."""

    change: Change
    reason: str
    help: str


def explained(
    error: TemplateError, conversation: Conversation, render: Callable[[Conversation], object]
) -> TemplateError:
    """The error with the field to blame, if one change of the data makes the template accept it.

    `render` raises TemplateError for what the template does not accept. The error as it is, if no change helps.

    >>> conversation = Conversation(messages=({"role": "assistant", "content": None},), sample={})
    >>> def render(conversation):
    ...     if conversation.messages[0]["content"] is None:
    ...         raise TemplateError("None has no strip")
    >>> explained(TemplateError("None has no strip"), conversation, render).message
    'None has no strip (`content` of message 0 is null or missing, and the template wants text)'
    """
    messages = conversation.messages
    # In their order: the first that works is the smallest change that explains the error.
    for remedy in _REMEDIES:
        made = [remedy.change(message) for message in messages]
        first = next((turn for turn, one in enumerate(made) if one is not None), None)
        if first is None:
            continue
        # All messages at once: a template that stops at one of them would stop at the next one too.
        changed = [one[0] if one is not None else message for one, message in zip(made, messages)]
        try:
            render(replace(conversation, messages=tuple(changed)))
        except TemplateError:
            continue
        one = made[first]
        field = "" if one is None else one[1]
        # Named by its first message; the others have the same.
        better = error.reworded(f"{error.message} (`{field}` of message {first} {remedy.reason})")
        better.help = remedy.help
        return better
    return error


def _with_text(message: Mapping[str, Any]) -> tuple[Mapping[str, Any], str] | None:
    return ({**message, "content": ""}, "content") if message.get("content") is None else None


def _joined(message: Mapping[str, Any]) -> tuple[Mapping[str, Any], str] | None:
    content = message.get("content")
    if not isinstance(content, list | tuple):
        return None
    texts = [part.get("text") for part in content if isinstance(part, Mapping)]
    return {**message, "content": "".join(text for text in texts if isinstance(text, str))}, "content"


def _as_part(message: Mapping[str, Any]) -> tuple[Mapping[str, Any], str] | None:
    content = message.get("content")
    return (
        ({**message, "content": [{"type": "text", "text": content}]}, "content") if isinstance(content, str) else None
    )


def _calls(message: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for index, call in enumerate(message.get("tool_calls") or ()):
        if isinstance(call, Mapping):
            yield f"tool_calls[{index}]", call


def _with_arguments(message: Mapping[str, Any], change: Callable[[Any], Any]) -> tuple[Mapping[str, Any], str] | None:
    changed: list[Any] = []
    field = None
    for name, call in _calls(message):
        # OpenAI's form has the function one level down; some data has it flat.
        function = call.get("function", call)
        arguments = function.get("arguments") if isinstance(function, Mapping) else None
        made = change(arguments)
        if made is not None:
            field = field or f"{name}.function.arguments".replace(".function" if function is call else "\0", "")
            function = {**function, "arguments": made}
        changed.append(function if function is call or "function" not in call else {**call, "function": function})
    return None if field is None else ({**message, "tool_calls": changed}, field)


def _parsed(arguments: Any) -> Any:
    if not isinstance(arguments, str):
        return None
    try:
        # An empty text is how OpenAI's interface gives a call without arguments.
        found = json.loads(arguments) if arguments.strip() else {}
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _dumped(arguments: Any) -> Any:
    return json.dumps(arguments, ensure_ascii=False) if isinstance(arguments, Mapping) else None


def _both(message: Mapping[str, Any]) -> tuple[Mapping[str, Any], str] | None:
    # Both at once, for templates that take neither; each alone was tried before.
    first = _with_arguments(message, _parsed)
    second = _with_text(message if first is None else first[0])
    return (second[0], (first or second)[1]) if second is not None else first


_PARSE = "write the arguments as an object, or say `messages: {arguments: parse}` in a dataset file, which does so"
_REMEDIES = (
    Remedy(
        change=_with_text,
        reason="is null or missing, and the template wants text",
        help='write an empty text as `content`, or use a template that takes a message without one',
    ),
    Remedy(
        change=lambda message: _with_arguments(message, _parsed),
        reason="is text, and the template wants an object",
        help=_PARSE,
    ),
    Remedy(
        change=_both,
        reason="is text, and the template wants an object; a null `content` is not taken either",
        help=f"{_PARSE}; and write an empty text as `content`",
    ),
    Remedy(
        change=lambda message: _with_arguments(message, _dumped),
        reason="is an object, and the template wants text",
        help="write the arguments as JSON text",
    ),
    Remedy(
        change=_joined,
        reason="is a list of parts, and the template wants text",
        help="write the content as text",
    ),
    Remedy(
        change=_as_part,
        reason="is text, and the template wants a list of parts",
        help='write the content as [{"type": "text", "text": …}], or say `messages: {content_as: parts}` in a dataset '
        "file, which does so",
    ),
)  # fmt: skip
