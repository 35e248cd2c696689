"""Conversations whose every piece of data is a word found nowhere else, and where each word belongs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from policy_engine.chat.segments import RenderedChat
from policy_engine.chat.template import ChatTemplate
from policy_engine.core.errors import TemplateError
from policy_engine.data.conversation import Conversation
from policy_engine.testing.templates import installed_templates
from tests.support.templates import SPECIAL_TOKENS

WORD = re.compile(r"Q(user|asst|tool|args|reas|syst)(\d)Z")

_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "lookup_it",
        "description": "looks up",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@dataclass(frozen=True, kw_only=True)
class Home:
    """Where a word belongs: the turn, the field below it and the part."""

    turn: int
    fields: tuple[str, ...]
    part: str


def _user(turn: int) -> dict[str, Any]:
    return {"role": "user", "content": f"Quser{turn}Z"}


def _answer(turn: int, **extra: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": f"Qasst{turn}Z", **extra}


def _call(turn: int, id: int, *, text: bool = False) -> dict[str, Any]:
    word = f"Qargs{turn}Z"
    arguments: Any = f'{{"city": "{word}"}}' if text else {"city": word}
    return {"id": f"callid00{id}", "type": "function", "function": {"name": "lookup_it", "arguments": arguments}}


def _result(turn: int, id: int) -> dict[str, Any]:
    return {"role": "tool", "name": "lookup_it", "tool_call_id": f"callid00{id}", "content": f"Qtool{turn}Z"}


_SYSTEM = {"role": "system", "content": "Qsyst0Z"}


def _conversation(*messages: dict[str, Any], tools: bool = False) -> Conversation:
    return Conversation(messages=messages, tools=(_TOOL,) if tools else None)


def _inline(turn: int) -> dict[str, Any]:
    return {"role": "assistant", "content": f"<think>\nQreas{turn}Z\n</think>\n\nQasst{turn}Z"}


SENTINELS: dict[str, Conversation] = {
    "system": _conversation(_SYSTEM, _user(1), _answer(2), _user(3), _answer(4)),
    "no_system": _conversation(_user(0), _answer(1), _user(2), _answer(3), _user(4), _answer(5)),
    "tools": _conversation(
        _user(0), _answer(1, tool_calls=[_call(1, 1)]), _result(2, 1), _answer(3), _user(4), _answer(5), tools=True
    ),
    "string_arguments": _conversation(
        _SYSTEM,
        _user(1),
        {"role": "assistant", "content": "", "tool_calls": [_call(2, 1, text=True)]},
        _result(3, 1),
        _answer(4),
        tools=True,
    ),
    "parallel": _conversation(
        _user(0),
        {"role": "assistant", "tool_calls": [_call(1, 1), _call(1, 2)]},
        _result(2, 1),
        _result(3, 2),
        _answer(4),
        tools=True,
    ),
    "reasoning": _conversation(
        _user(0), _answer(1, reasoning_content="Qreas1Z"), _user(2), _answer(3, reasoning_content="Qreas3Z")
    ),
    "reasoning_inline": _conversation(_user(0), _inline(1), _user(2), _inline(3)),
    "reasoning_and_tools": _conversation(
        _user(0),
        _answer(1, reasoning_content="Qreas1Z", tool_calls=[_call(1, 1)]),
        _result(2, 1),
        _answer(3, reasoning_content="Qreas3Z"),
        tools=True,
    ),
    "parts": _conversation(
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Quser0Z"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Qasst1Z"}]},
    ),
    "consecutive": _conversation(_user(0), _user(1), _answer(2), _answer(3), _user(4), _answer(5)),
    "assistant_first": _conversation(_answer(0), _user(1), _answer(2)),
    "user_only": _conversation(_user(0)),
}

_PARTS = {"args": "tool_call.arguments", "reas": "reasoning.text"}
_FIELDS = {"args": ("tool_calls",), "reas": ("reasoning_content", "content")}


def home(word: re.Match[str]) -> Home:
    """Where a word of `SENTINELS` belongs."""
    kind = word[1]
    return Home(turn=int(word[2]), fields=_FIELDS.get(kind, ("content",)), part=_PARTS.get(kind, "text"))


def compiled(name: str) -> ChatTemplate:
    """An installed template, compiled once a process. Models with the same template share it."""
    return _compiled(installed_templates()[name])


@cache
def _compiled(source: str) -> ChatTemplate:
    return ChatTemplate(source, special_tokens=SPECIAL_TOKENS)


def rendered(name: str, conversation: Conversation) -> RenderedChat | None:
    """A conversation of `SENTINELS` by an installed template; None where the template raises for it."""
    # Several tests look at the same renderings. The conversation is kept too, so that no other has its identity.
    key = installed_templates()[name], id(conversation)
    if key not in _RENDERED:
        try:
            # That templates read no message's words is tested over `SHAPES`, in `test_template_parity`.
            _RENDERED[key] = compiled(name).render(conversation, in_other_words=False), conversation
        except TemplateError:
            _RENDERED[key] = None, conversation
    return _RENDERED[key][0]


_RENDERED: dict[tuple[str, int], tuple[RenderedChat | None, Conversation]] = {}
