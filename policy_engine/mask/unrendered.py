"""Message fields that never reached the text: refused where the policy trains them, counted elsewhere."""

from __future__ import annotations

from collections import Counter

from policy_engine.chat.segments import RenderedChat, Unrendered
from policy_engine.core.errors import UnrenderedError
from policy_engine.rules.hypothetical import would_train
from policy_engine.rules.program import Program

Lost = Counter[tuple[str, str]]
"""How many messages lost a field, by (role, field)."""


def check_unrendered(program: Program, chat: RenderedChat) -> Lost:
    """Applies `on unrendered` to what a template dropped; returns what to warn about.

    Unset, the content or tool calls of a message that the policy would train are an error, and anything else is
    returned. `error` refuses every loss, `warn` returns all, `ignore` says nothing.

    Raises UnrenderedError for the first message that lost something it must not.
    """
    lost: Lost = Counter()
    setting = program.setting("unrendered")
    if setting == "ignore":
        return lost
    for unrendered in chat.unrendered:
        if setting == "error" or (setting is None and _is_trained(program, chat, unrendered)):
            raise _error(chat, unrendered, trained=setting is None)
        lost[str(chat.messages[unrendered.turn]["role"]), unrendered.field] += 1
    return lost


def _is_trained(program: Program, chat: RenderedChat, unrendered: Unrendered) -> bool:
    return unrendered.field != "reasoning" and would_train(program, chat, unrendered.turn, unrendered.field)


def _error(chat: RenderedChat, unrendered: Unrendered, *, trained: bool) -> UnrenderedError:
    role = chat.messages[unrendered.turn]["role"]
    why = "which the policy trains, " if trained else ""
    return UnrenderedError(
        f"`{unrendered.field}` of message {unrendered.turn} (`{role}`), {why}never reached the text: "
        "the template does not write it",
        help="use a template that writes it, move it to a field that the template reads, or say `on unrendered warn`",
    )
