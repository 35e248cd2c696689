"""A last message that stays open: transformers' `continue_final_message`.

    data        {"role": "assistant", "content": "The answer is"}
    rendered    <|im_start|>assistant⏎The answer isCONTINUE_FINAL_MESSAGE_TAG <|im_end|>
    cut         <|im_start|>assistant⏎The answer is

The template sees the message with a tag behind its field; the text ends where the tag is. So whatever it writes behind
the field is left out: the end of the turn, and calls behind the text, which are reported as lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from policy_engine.chat.trace.origins import LOST, Scaffold
from policy_engine.chat.trace.values import PlacedText
from policy_engine.chat.transformers_import import reasoning_has_aliases
from policy_engine.core.errors import RowError, TemplateError
from policy_engine.core.vocabulary import REASONING_ALIASES
from policy_engine.core.wording import a_kind

_TAG: Final = "CONTINUE_FINAL_MESSAGE_TAG "
"""transformers' own. Behind its blank it sees whether the template takes white space away."""
_HELP: Final = "leave out `continue_final_message`, or end the conversation with a message that can be continued"


class Opened(NamedTuple):
    """Messages with the tag, and the text before it."""

    messages: list[Mapping[str, Any]]
    final: str


def opened(messages: Sequence[Mapping[str, Any]], field: str, source: str) -> Opened:
    """The messages, the last one with a tag behind `field`.

    `source` is the template's. Raises RowError where the last message has no such text, and TemplateError for a field
    that the template does not name.

    >>> made = opened([{"role": "assistant", "content": "The answer is"}], "content", "{{ message.content }}")
    >>> str(made.messages[0]["content"]), made.final
    ('The answer isCONTINUE_FINAL_MESSAGE_TAG ', 'The answer is')
    """
    # Nulls are left out, as templates get messages without them.
    last = {key: value for key, value in messages[-1].items() if value is not None}
    fields = [field]
    final = last.get(field)
    if field in REASONING_ALIASES and reasoning_has_aliases():
        # The field is written under several names, and each copy gets the tag.
        # As transformers looks it up: `reasoning` itself is not searched for under other names.
        if final is None and field != "reasoning":
            final = next((last[name] for name in REASONING_ALIASES if name in last), None)
        fields = [name for name in REASONING_ALIASES if final is not None and last.get(name) == final]
    if final is None:
        raise RowError(f"the last message has no `{field}` that could be continued", help=_HELP)
    # The names under which transformers offers reasoning to templates.
    named = {*fields, "thinking", "reasoning_content"} if field in REASONING_ALIASES else fields
    if not any(name in source for name in named):
        raise TemplateError(
            f"the chat template does not name `{field}`, which is to be continued",
            help="name a field that the template writes, or leave out `continue_final_message`",
        )
    if isinstance(final, list | tuple):
        blocks, final = _opened_blocks(final, field)
        last[field] = blocks
    elif isinstance(final, str):
        last |= {name: _tagged(last[name]) for name in fields}
    else:
        raise RowError(f"`{field}` of the last message is {a_kind(final)}, which cannot be continued", help=_HELP)
    return Opened([*messages[:-1], last], str.__str__(final))


def _opened_blocks(blocks: Sequence[Any], field: str) -> tuple[list[Any], str]:
    # The last text block: a picture may come behind it.
    for at in reversed(range(len(blocks))):
        block = blocks[at]
        if isinstance(block, Mapping) and "text" in block:
            text = block["text"]
            if not isinstance(text, str):
                break
            return [*blocks[:at], {**block, "text": _tagged(text)}, *blocks[at + 1 :]], text
    raise RowError(f"`{field}` of the last message has no text that could be continued", help=_HELP)


def _tagged(text: str) -> PlacedText:
    # Marks of control tokens are in it already, if they were asked for.
    runs = text.runs if isinstance(text, PlacedText) else ((len(text), 0),)
    return PlacedText.of(f"{text}{_TAG}", (*runs, (len(_TAG), LOST)))


def cut_open(pieces: Sequence[tuple[str, Scaffold]], final: str, name: str) -> list[tuple[str, Scaffold]]:
    """The rendering up to the tag.

    `final` is the text before it, `name` the template's, for errors. Raises TemplateError where the template left out
    the text or the tag.
    """
    text = "".join([piece for piece, _ in pieces])
    tag = _TAG.strip()
    if final.strip() not in text or tag not in text:
        raise TemplateError(
            f"{name} does not write the last message as it is, so it cannot be continued",
            help="leave out `continue_final_message`, or use a template that keeps the message",
        )
    # The last one: the field may be printed twice, and the message is behind its copies.
    at = text.rindex(tag)
    keeps_blanks = text.startswith(_TAG, at)
    # The tag lost its own blank, so the template strips, and stripped what is before the tag in the data too.
    end = at if keeps_blanks else len(text[:at].rstrip())
    kept: list[tuple[str, Scaffold]] = []
    for piece, claim in pieces:
        if end <= 0:
            break
        kept.append((piece[:end] if len(piece) > end else piece, claim))
        end -= len(piece)
    return kept


def blanks_lost(final: str, text: str) -> bool:
    """True if the text, which ends with the open field, lacks white space at the field's end.

    >>> blanks_lost("Yes, ", "<a>Yes,"), blanks_lost("Yes, ", "<a>Yes, ")
    (True, False)
    """
    blanks = final[len(final.rstrip()) :]
    return bool(blanks) and not text.endswith(blanks)
