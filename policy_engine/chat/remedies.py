"""The message and field that a template cannot take, found after it raised, and the remedy.

Qwen3.5     Can only get item pairs from a mapping.
found by    rendering the conversation again with each call's arguments parsed, which works
reported    `tool_calls[0].function.arguments` of message 1 is text, and the template wants an object
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Final

from policy_engine.chat.trace.bounds import TooMuchWork
from policy_engine.chat.trace.meter import OutOfTime
from policy_engine.chat.trace.origins import OutputTooLarge
from policy_engine.core.errors import TemplateError, TemplateLimitError
from policy_engine.data.conversation import Conversation
from policy_engine.data.formats import CALL_ROLE
from policy_engine.data.role_spelling import read_elsewhere_as

Change = Callable[[Mapping[str, Any]], "tuple[Mapping[str, Any], str] | None"]
"""A message with one change, and the changed field; None if there is nothing to change."""

_RAISES: Final = "raises for this conversation"
_UNDEFINED: Final = re.compile(r"'((?:bos|eos|pad|unk|sep|cls|mask)_token)' is undefined")
"""Jinja's error for a special token that a template adds to text, with a tokenizer that lacks it."""
_USUAL_ROLES: Final = frozenset({"system", "user", "assistant", "tool"})
_TRIED: Final = 8
"""Messages that are tried one by one for the one to blame."""


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """A change of messages that a template may ask for; `reason` follows the field's name."""

    change: Change
    reason: str
    help: str


def explained(
    error: TemplateError, conversation: Conversation, render: Callable[[Conversation], object]
) -> TemplateError:
    """The error with the field to blame, or else with the message.

    A field is to blame if one or two changes make the template accept the conversation.

    `render` raises TemplateError for what the template does not accept.

    >>> conversation = Conversation(messages=({"role": "assistant", "content": None},), sample={})
    >>> def render(conversation):
    ...     if conversation.messages[0]["content"] is None:
    ...         raise TemplateError("None has no strip")
    >>> explained(TemplateError("None has no strip"), conversation, render).message
    'None has no strip (`content` of message 0 is null or missing, and the template wants text)'
    """
    # In their order: the first that works is the smallest change that explains the error.
    for remedies in (*((one,) for one in _REMEDIES), *combinations(_REMEDIES, 2)):
        found = _changed(conversation, remedies)
        if not all(found.fields) or not _renders(found.conversation, render):
            continue
        reasons = [
            f"`{fields[turn]}` of message {turn} {remedy.reason}"
            for at, (remedy, fields) in enumerate(zip(remedies, found.fields, strict=True))
            for turn in [_refused(conversation, remedies, at, list(fields), render)]
        ]
        better = error.reworded(f"{error.message} ({'; '.join(reasons)})")
        better.help = "; and ".join(remedy.help for remedy in remedies)
        return better
    turn = _blamed(error, conversation, render)
    # A copy in any case: it is raised from the error, and an error is not its own cause.
    return error.reworded(error.message) if turn is None else _at_message(error, conversation, turn)


def _blamed(error: TemplateError, conversation: Conversation, render: Callable[[Conversation], object]) -> int | None:
    """The message that the template was writing as it raised, or without which it renders."""
    messages = conversation.messages
    if error.turn is not None or error.raised is None or len(messages) < 2:
        return error.turn
    # Without a message that is not to blame, the template may raise something else.
    left_out = ((len(messages) - 1, messages[:-1]), (0, messages[1:]))
    return next((turn for turn, rest in left_out if _renders(replace(conversation, messages=rest), render)), None)


def _at_message(error: TemplateError, conversation: Conversation, turn: int) -> TemplateError:
    roles = [str(message.get("role")) for message in conversation.messages[: turn + 1]]
    where = f"at message {turn} (`{roles[-1]}`" + (f" after `{roles[-2]}`)" if turn else ")")
    better = error.reworded(error.message.replace(_RAISES, f"{_RAISES}, {where}", 1))
    read_as = f"say in a dataset file what it is read as: `messages: {{roles: {{{roles[-1]}: …}}}}`"
    change = "change that message to what the template accepts" if roles[-1] in _USUAL_ROLES else read_as
    better.help = f"{change}, drop the row, or use another template"
    return better


@dataclass(frozen=True, kw_only=True)
class _Changed:
    """A conversation with the changes of remedies; `fields` has, for each, the field by message."""

    conversation: Conversation
    fields: list[dict[int, str]]


def _changed(
    conversation: Conversation, remedies: Sequence[Remedy], *, spared: tuple[int, int] | None = None
) -> _Changed:
    """All changes, but not that of the remedy and message `spared`."""
    messages = list(conversation.messages)
    fields: list[dict[int, str]] = []
    for at, remedy in enumerate(remedies):
        fields.append({})
        for turn, message in enumerate(messages):
            made = remedy.change(message) if (at, turn) != spared else None
            if made is not None:
                messages[turn], fields[-1][turn] = made
    return _Changed(conversation=replace(conversation, messages=tuple(messages)), fields=fields)


def _refused(
    conversation: Conversation,
    remedies: Sequence[Remedy],
    at: int,
    turns: Sequence[int],
    render: Callable[[Conversation], object],
) -> int:
    """The first message that the template does not take without a remedy's change."""
    spared = ((turn, _changed(conversation, remedies, spared=(at, turn))) for turn in turns[:_TRIED])
    return next((turn for turn, left in spared if not _renders(left.conversation, render)), turns[0])


def _renders(conversation: Conversation, render: Callable[[Conversation], object]) -> bool:
    try:
        render(conversation)
    except TemplateError:
        return False
    return True


def not_compiled(error: Exception, name: str, line: int | None) -> TemplateError:
    """The error of a template that does not compile; `line` is where, if it is known.

    >>> not_compiled(ValueError("unexpected '}'"), "chat.jinja", 3).message
    "chat.jinja:3 does not compile: unexpected '}'"
    """
    if isinstance(error, RecursionError):
        return TemplateError(f"{name} does not compile: nested too deeply")
    place = name
    if line is not None:
        # A name that is a Jinja file is given as a place in it.
        place = f"{name}:{line}" if name.endswith((".jinja", ".jinja2", ".j2")) else name
    at_line = f" at line {line}" if line is not None and place == name else ""
    return TemplateError(f"{place} does not compile{at_line}: {error}", help="correct the template's Jinja syntax")


def too_much(name: str) -> TemplateLimitError:
    """The error of a template that writes too much text."""
    return _limit(name, "writes more text than a template may", "check its loops")


def not_rendered(error: Exception, name: str, seconds: float) -> TemplateError:
    """The error of a template that did not render a conversation, by what stopped it.

    What the template itself raised is its cause; a limit has no other.

    >>> not_rendered(OutOfTime(), "chat.jinja", 10.0).message
    'chat.jinja ran longer than 10 s'
    """
    match error:
        case OutputTooLarge():
            return too_much(name)
        case TooMuchWork():
            message, help = "compares or searches more than a template may", "check what it compares"
        case OutOfTime():
            message, help = f"ran longer than {seconds:g} s", "check its loops, or raise `seconds`"
        case RecursionError():
            message, help = "recurses without end", "check its macros"
        case MemoryError():
            message, help = "needs more memory than a template may", "check its loops"
        case _ if (missing := _UNDEFINED.fullmatch(str(error))) is not None:
            made = TemplateError(
                f"{name} writes `{missing[1]}`, and the tokenizer has no such token",
                help="take template and tokenizer of one model, or write the token's text into a copy of the template",
            )
            made.__cause__ = error
            return made
        case _:
            made = TemplateError(
                f"{name} {_RAISES}: {error}",
                help="change the conversation to what the template accepts, or use another template",
            )
            made.raised, made.turn = str(error), getattr(error, "pe_turn", None)
            made.__cause__ = error
            return made
    return _limit(name, message, help)


def _limit(name: str, message: str, help: str) -> TemplateLimitError:
    error = TemplateLimitError(f"{name} {message}", help=help)
    error.__cause__ = None  # nor is a context shown: where the template was says nothing
    return error


def reads_words(name: str, found: str) -> TemplateError:
    """The error of a template that writes text because of a message's words: `found` says where."""
    return TemplateError(
        f"{name} {found}",
        help="use a template that prints messages as they are: whose text this is, nobody can say",
        code="PE405",
    )


def _with_content(message: Mapping[str, Any], change: Callable[[Any], Any]) -> tuple[Mapping[str, Any], str] | None:
    made = change(message.get("content"))
    return None if made is None else ({**message, "content": made}, "content")


def _texts(content: Any) -> list[Any] | None:
    """The texts of a list of parts, None for a part of another kind; None if it is no list."""
    if not isinstance(content, list | tuple):
        return None
    return [part.get("text") for part in content if isinstance(part, Mapping)]


def _joined(content: Any) -> str | None:
    texts = _texts(content)
    # A file or a picture is not written as text.
    return "".join(texts) if texts is not None and all(isinstance(text, str) for text in texts) else None


def _without_parts(content: Any) -> str | None:
    """Only the texts of a list that has other parts, such as calls."""
    texts = _texts(content)
    if texts is None or _joined(content) is not None:
        return None
    return "".join(text for text in texts if isinstance(text, str))


def _as_part(content: Any) -> list[dict[str, str]] | None:
    return [{"type": "text", "text": content}] if isinstance(content, str) else None


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


def _emptied(arguments: Any) -> Any:
    return None if isinstance(arguments, Mapping) else {}


def _elsewhere(message: Mapping[str, Any]) -> tuple[Mapping[str, Any], str] | None:
    """The message with the role that is meant by a name of other programs."""
    known = read_elsewhere_as(str(message.get("role")))
    if known is None:
        return None
    return {**message, "role": "assistant" if known == CALL_ROLE else known}, "role"


def _dumped(arguments: Any) -> Any:
    return json.dumps(arguments, ensure_ascii=False) if isinstance(arguments, Mapping) else None


_PARSE = "write the arguments as an object, or say `messages: {arguments: parse}` in a dataset file, which does so"
_REMEDIES = (
    Remedy(
        change=lambda message: _with_content(message, lambda content: "" if content is None else None),
        reason="is null or missing, and the template wants text",
        help='write an empty text as `content`, or use a template that takes a message without one',
    ),
    Remedy(
        change=lambda message: _with_content(message, lambda content: _as_part("") if content is None else None),
        reason="is null or missing, and the template wants a list of parts",
        help='write [{"type": "text", "text": ""}] as `content`, or use a template that takes a message without one',
    ),
    Remedy(
        change=lambda message: _with_arguments(message, _parsed),
        reason="is text, and the template wants an object",
        help=_PARSE,
    ),
    Remedy(
        change=lambda message: _with_arguments(message, _emptied),
        reason="is missing, null, a list or text that is not JSON, and the template wants an object",
        help="write an object, and `{}` for a call without arguments, as `messages: {arguments: parse}` in a dataset "
        "file does for null and empty text",
    ),
    Remedy(
        change=lambda message: _with_arguments(message, _dumped),
        reason="is an object, and the template wants text",
        help="write the arguments as JSON text",
    ),
    Remedy(
        change=_elsewhere,
        reason="is one that the template does not take",
        help="say in a dataset file what it is read as: `messages: {roles: {ROLE: …}}`, with `function_call` for a "
        "message that is the JSON text of a call",
    ),
    Remedy(
        change=lambda message: _with_content(message, _joined),
        reason="is a list of parts, and the template wants text",
        help="write the content as text",
    ),
    Remedy(
        change=lambda message: _with_content(message, _without_parts),
        reason="is a list of parts that are not all text, and the template wants text",
        help="write its text as `content`, a `tool_use` as `tool_calls` and a `tool_result` as a message of role "
        "`tool`, or use a template that takes such parts",
    ),
    Remedy(
        change=lambda message: _with_content(message, _as_part),
        reason="is text, and the template wants a list of parts",
        help='write the content as [{"type": "text", "text": …}], or say `messages: {content_as: parts}` in a dataset '
        "file, which does so",
    ),
)  # fmt: skip
