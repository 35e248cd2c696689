"""Pieces of a conversation that never reached the text.

They are refused where they are trained, else counted:

tool_calls[1] of message 3 (`assistant`), which the policy trains     UnrenderedError
reasoning_content of 2 assistant messages                             counted, and reported once
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from dataclasses import dataclass, replace
from typing import Any

from policy_engine.chat.label.board import field_value
from policy_engine.chat.segments import WHOLE, RenderedChat, Unrendered
from policy_engine.core.errors import TemplateError, UnrenderedError
from policy_engine.core.wording import counted, field_path
from policy_engine.rules.hypothetical import would_train
from policy_engine.rules.program import Program

Lost = Counter[tuple[str, str]]
"""Number of messages that lost a piece, by (role, piece): `("assistant", "tool_calls[1]")`.

The role is empty for tools and documents, and the piece is `message` for a whole message.
"""


@dataclass(frozen=True, kw_only=True)
class LostPiece:
    """A piece that messages of a role lost in a dataset.

    `role` and `field` are those of `Lost`, `messages` is how many messages lost it (rows, where the role is empty), and
    `rows` the numbers of the rows with one, in order; at most the first 100,000 of a run.
    """

    role: str
    field: str
    messages: int
    rows: tuple[int, ...]


_SHOWN = 32
"""Characters of a lost text that are shown in an error."""
_REFUSED = ("text", "call", "message")
"""Kinds of pieces whose loss is an error where the policy trains them and does not say `on unrendered`."""


def refuse_unrendered(program: Program, chat: RenderedChat) -> bool:
    """Applies `on unrendered` to what a template dropped; True if the rest is to be reported.

    Unset, text or calls of a message that the policy would train are an error, and anything else is reported. `error`
    refuses every loss, `warn` reports all, `ignore` says nothing.

    Raises UnrenderedError for the first piece that must not be lost.
    """
    setting = program.setting("unrendered")
    if setting == "ignore":
        return False
    for unrendered in chat.unrendered:
        # Asking what a policy would have done costs an evaluation, so only where the answer matters.
        if setting == "error" or (setting is None and _is_trained(program, chat, unrendered)):
            raise _error(chat, unrendered, trained=setting is None)
    return True


def check_written(chat: RenderedChat) -> None:
    """Raises TemplateError where the template writes a field letter by letter."""
    for wrong in chat.miswritten:
        if wrong.how == "letters":
            is_call = wrong.path[-1:] == ("arguments",)
            raise TemplateError(
                f"the template writes `{field_path(wrong.path) or WHOLE}` of message {wrong.turn} "
                f"(`{chat.messages[wrong.turn]['role']}`) letter by letter: it is text, and the template wants "
                f"{'an object' if is_call else 'a list'}",
                help="write the arguments as an object, or say `messages: {arguments: parse}` in a dataset file"
                if is_call
                else "write it as a list, or use a template that takes text",
            )


def printed_text(name: str, rows: str) -> str:
    """The finding of a field that is written as Python prints it, in words.

    >>> printed_text("content", "3 rows")
    'the template writes `content` as Python prints a list or an object (`[{…}]` with single quotes), in 3 rows'
    """
    return (
        f"the template writes `{name}` as Python prints a list or an object (`[{{…}}]` with single quotes), in {rows}"
    )


def printed_help(name: str) -> str:
    """The advice for a field that is written as Python prints it."""
    known = {
        "arguments": "write the arguments as JSON text, or use a template that writes objects as JSON",
        "content": "write `content` as text, or use a template that takes a list of parts",
        WHOLE: "use a template that writes the fields of a message one by one",
    }
    return known.get(name, f"write `{name}` as JSON text, or use a template that reads it")


def lost_of(chat: RenderedChat, turns: Container[int] | None = None) -> Lost:
    """Pieces of all messages, or of some, that never reached the text."""
    lost: Lost = Lost()
    for unrendered in chat.unrendered:
        if unrendered.turn is None:
            # Tools and documents belong to no message, so to no role.
            piece = "", unrendered.field
        elif turns is None or unrendered.turn in turns:
            piece = str(chat.messages[unrendered.turn]["role"]), unrendered.field
        else:
            continue
        lost[piece] = lost.get(piece, 0) + 1  # a Counter asks its own code for what is missing
    return lost


def lost_text(role: str, piece: str, count: int) -> str:
    """A loss in words: `tool_calls[1] of 2 assistant messages`, `tools of 3 rows`.

    >>> lost_text("assistant", "tool_calls[1]", 2), lost_text("user", WHOLE, 1), lost_text("", "tools", 3)
    ('tool_calls[1] of 2 assistant messages', '1 whole user message', 'tools of 3 rows')
    """
    if not role:
        return f"{piece} of {counted(count, 'row')}"
    if piece == WHOLE:
        return counted(count, f"whole {role} message")
    return f"{piece} of {counted(count, f'{role} message')}"


def lost_piece(lost: Unrendered) -> str:
    """One loss in words: `tool_calls[1] of turn 3`, `all of turn 2`, `tools`.

    >>> lost = Unrendered(turn=3, path=("tool_calls", 1), kind="call")
    >>> lost_piece(lost)
    'tool_calls[1] of turn 3'
    """
    if lost.turn is None:
        return lost.field
    return f"all of turn {lost.turn}" if lost.kind == "message" else f"{lost.field} of turn {lost.turn}"


def lost_json(chat: RenderedChat) -> list[dict[str, Any]]:
    """The losses as JSON values: message, piece in words, and kind of piece."""
    return [{"turn": lost.turn, "field": lost.field, "kind": lost.kind} for lost in chat.unrendered]


def without_read(chat: RenderedChat, fields: Container[str]) -> RenderedChat:
    """The chat, without losses of unlisted message fields that are read for other ends."""
    # Only fields that nothing lists: text, reasoning and calls are lost even if a condition reads them too.
    kept = tuple(u for u in chat.unrendered if u.kind != "other" or u.path[0] not in fields)
    return chat if len(kept) == len(chat.unrendered) else replace(chat, unrendered=kept)


def _is_trained(program: Program, chat: RenderedChat, lost: Unrendered) -> bool:
    # Thinking of earlier turns is dropped by most templates, as at inference, so its loss is only counted.
    if lost.turn is None or lost.kind not in _REFUSED:
        return False
    return would_train(program, chat, lost.turn, lost.path, lost.kind)


def _error(chat: RenderedChat, lost: Unrendered, *, trained: bool) -> UnrenderedError:
    why = ", which the policy trains," if trained else ""
    reason = "the template does not write it"
    if lost.kind == "argument":
        what, reason = f"template argument `{lost.path[0]}` ", "the template does not read it"
    elif lost.turn is None:
        what = f"`{lost.field}`, given beside the messages, "
    elif lost.kind == "message":
        what = f"message {lost.turn} (`{chat.messages[lost.turn]['role']}`){why} "
    elif lost.cut is None:
        what = f"`{lost.field}` of message {lost.turn} (`{chat.messages[lost.turn]['role']}`){why} "
    else:
        message = chat.messages[lost.turn]
        text = str(field_value(message, lost.path))[slice(*lost.cut)]
        what = f"part of `{field_path(lost.path)}` of message {lost.turn} (`{message['role']}`){why} "
        reason = f"the template leaves out {text if len(text) <= _SHOWN else f'{text[:_SHOWN]}…'!r}"
    help = "use a template that writes it, move it to a field that the template reads, or say `on unrendered warn`"
    # Templates of Idefics3 and SmolVLM leave out a content that is text without an error.
    if lost.turn is not None and lost.path == ("content",) and isinstance(chat.messages[lost.turn]["content"], str):
        parts = "if the template reads lists of parts only, say `messages: {content_as: parts}` in a dataset file"
        help = f"{parts}; else {help}"
    return UnrenderedError(f"{what}never reached the text: {reason}", help=help)
