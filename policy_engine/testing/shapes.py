"""Small conversations of every shape that chat templates treat differently, one of each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from policy_engine.data.conversation import Conversation

_TOOL: Final[dict[str, Any]] = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Looks a city up.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "Its name."}},
            "required": ["city"],
        },
    },
}
_SYSTEM: Final = {"role": "system", "content": "Be brief."}


def _user(content: Any = "Where is it?") -> dict[str, Any]:
    return {"role": "user", "content": content}


def _answer(content: Any = "It is here.", **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **fields}


def _call(number: int, arguments: Any) -> dict[str, Any]:
    # Nine letters and digits, which is the only id that Mistral's templates take.
    return {
        "id": f"callid00{number}",
        "type": "function",
        "function": {"name": "look_up", "arguments": arguments},
    }


def _result(number: int) -> dict[str, Any]:
    # With name and id: templates read one or the other.
    return {"role": "tool", "name": "look_up", "tool_call_id": f"callid00{number}", "content": f"result {number}"}


def _chat(*messages: Mapping[str, Any], tools: bool = False) -> Conversation:
    return Conversation(messages=tuple(messages), tools=(_TOOL,) if tools else None)


_PARIS: Final = {"city": "Paris"}

SHAPES: Final[Mapping[str, Conversation]] = MappingProxyType(
    {
        "one exchange": _chat(_user(), _answer()),
        "several exchanges": _chat(
            _user(), _answer(), _user("Sure?"), _answer("Quite sure."), _user("Why?"), _answer("So.")
        ),
        "a system prompt": _chat(_SYSTEM, _user(), _answer(), _user("Sure?"), _answer("Quite sure.")),
        "a user turn last": _chat(_user(), _answer(), _user("Sure?")),
        "a user turn only": _chat(_user()),
        "an assistant turn first": _chat(_answer("Welcome."), _user(), _answer()),
        "two user turns in a row": _chat(_user(), _user("And there?"), _answer()),
        "two assistant turns in a row": _chat(_user(), _answer(), _answer("And there."), _user("Why?"), _answer("So.")),
        "empty texts": _chat(_user(""), _answer(""), _user("Why?"), _answer("So.")),
        "lists of content parts": _chat(
            _user([{"type": "text", "text": "Where is it?"}]), _answer([{"type": "text", "text": "It is here."}])
        ),
        "an image": _chat(_user([{"type": "image"}, {"type": "text", "text": "What is it?"}]), _answer("A cat.")),
        "tool schemas without calls": _chat(_user(), _answer(), tools=True),
        "a tool call and its result": _chat(
            _user(), _answer("", tool_calls=[_call(1, _PARIS)]), _result(1), _answer("In Paris."), tools=True
        ),
        "a tool call whose arguments are a string": _chat(
            _user(),
            _answer("", tool_calls=[_call(1, '{"city": "Paris"}')]),
            _result(1),
            _answer("In Paris."),
            tools=True,
        ),
        "two tool calls at once": _chat(
            _user(),
            _answer("I look.", tool_calls=[_call(1, _PARIS), _call(2, {"city": "Oslo"})]),
            _result(1),
            _result(2),
            _answer("In Paris."),
            tools=True,
        ),
        "a tool call without text": _chat(
            _user(), _answer(None, tool_calls=[_call(1, _PARIS)]), _result(1), _answer("In Paris."), tools=True
        ),
        "reasoning in a field": _chat(
            _user(), _answer(reasoning_content="Let me see."), _user("Why?"), _answer("So.", reasoning_content="Hm.")
        ),
        "reasoning inside content": _chat(
            _user(), _answer("<think>\nLet me see.\n</think>\n\nHere."), _user("Why?"), _answer("<think>Hm.</think>So.")
        ),
        "a developer turn": _chat({"role": "developer", "content": "Be brief."}, _user(), _answer()),
    }
)
"""Conversations by their special feature.

Every text but the empty ones is short and without control tokens.
"""
