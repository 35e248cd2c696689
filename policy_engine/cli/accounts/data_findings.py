"""Findings about data that a template drops or quotes twice, and about a second `<s>`.

warning[PE521]: nothing of 12 messages of role `tool_call` reached the text: the template leaves them out
  help: say in a dataset file what it is read as: `messages: {roles: {tool_call: function_call}}`
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from policy_engine.chat.segments import WHOLE
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.errors import PolicyEngineError
from policy_engine.core.source import Place
from policy_engine.core.wording import counted
from policy_engine.data.conversation import Conversation
from policy_engine.data.role_spelling import DoubtfulRole, as_declared, read_elsewhere_as, what_to_do
from policy_engine.mask.unrendered import printed_help, printed_text


def data_findings(
    lost: Iterable[tuple[str, str, int]],
    *,
    doubtful: Sequence[DoubtfulRole] = (),
    quoted: int,
    bos: int,
    tokenizer: ChatTokenizer,
    printed: Mapping[str, int] = MappingProxyType({}),
) -> tuple[Diagnostic, ...]:
    """The findings of a run.

    `lost` are (role, piece, messages), `doubtful` roles that look misspelled, `quoted` rows with arguments that are
    quoted twice, `printed` rows by the field that is written as Python prints it, `bos` how often a row opens with what
    the tokenizer would add in front.
    """
    dropped = {role: count for role, piece, count in lost if piece == WHOLE}
    # One finding for a role: that it is misspelled, or that the template drops what other programs call so.
    misspelled = [d for d in doubtful if d.role not in dropped or read_elsewhere_as(d.role) is None]
    found = [*doubtful_roles(misspelled)]
    found += [_dropped(role, count) for role, count in dropped.items() if role not in {d.role for d in misspelled}]
    if quoted:
        found.append(_quoted(quoted))
    found += [
        Diagnostic(
            code="PE523",
            severity="warning",
            message=printed_text(name, counted(rows, "row")),
            help=printed_help(name),
        )
        for name, rows in printed.items()
    ]
    doubled = tokenizer.double_bos(bos)
    return (*found, *(() if doubled is None else (doubled,)))


def doubtful_roles(found: Iterable[DoubtfulRole]) -> tuple[Diagnostic, ...]:
    """Roles of the data that look misspelled, as findings at the first row that has them.

    >>> found = DoubtfulRole(role="asistant", meant="assistant", read_as="assistant", messages=2, row=1)
    >>> doubtful_roles([found])[0].message
    'nothing declares the role `asistant`, which 2 messages have, here first'
    """
    return tuple(
        Diagnostic(
            code="PE518",
            severity="warning",
            message=f"nothing declares the role `{d.role}`, which {counted(d.messages, 'message')} "
            f"{'has' if d.messages == 1 else 'have, here first'}",
            help=what_to_do(d.role, meant=d.meant, read_as=d.read_as),
            place=Place.parse(d.place or f"row {d.row}"),
        )
        for d in found
    )


def opening_bos(tokenizer: ChatTokenizer) -> int:
    """The times that a short conversation's ids open with what the tokenizer would add."""
    try:
        chat = tokenizer.template.render(Conversation(messages=({"role": "user", "content": "a"},)))
        return tokenizer.times_bos(tokenizer.encode(chat).input_ids)
    # A template that refuses this conversation says so on the rows, where it matters.
    except PolicyEngineError:
        return 0


def _dropped(role: str, count: int) -> Diagnostic:
    if role == "tool":
        help = "write the calls before them as `tool_calls`: some templates write the results of these only"
        return Diagnostic(code="PE521", severity="warning", message=_left_out(role, count), help=help)
    if role == "system":
        help = "write its text in front of the first question, drop such messages, or use a template that writes it"
        return Diagnostic(code="PE521", severity="warning", message=_left_out(role, count), help=help)
    known = read_elsewhere_as(role)
    declared = as_declared(role, known or "ROLE")
    return Diagnostic(
        code="PE521",
        severity="warning",
        message=_left_out(role, count),
        help=f"say in a dataset file what it is read as: {declared}"
        if known is not None
        else f"use a template that writes it, drop such messages, or have them read as a role that the template takes "
        f"in their place: {declared}",
    )


def _left_out(role: str, count: int) -> str:
    them = "it" if count == 1 else "them"
    return f"nothing of {counted(count, 'message')} of role `{role}` reached the text: the template leaves {them} out"


def _quoted(rows: int) -> Diagnostic:
    return Diagnostic(
        code="PE522",
        severity="warning",
        message=f"arguments of calls are JSON text in {counted(rows, 'row')}, and the template quotes it once more",
        help="say `messages: {arguments: parse}` in a dataset file, so that the model learns to write an object",
    )
