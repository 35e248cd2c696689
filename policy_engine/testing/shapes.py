"""Small conversations of every shape that chat templates treat differently, one of each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from policy_engine.data.conversation import Conversation

TOOL: Final[dict[str, Any]] = {
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
SYSTEM: Final = {"role": "system", "content": "Be brief."}


def user(content: Any = "Where is it?") -> dict[str, Any]:
    """A question."""
    return {"role": "user", "content": content}


def answer(content: Any = "It is here.", **fields: Any) -> dict[str, Any]:
    """An answer, with further fields of its message."""
    return {"role": "assistant", "content": content, **fields}


def call(number: int, arguments: Any) -> dict[str, Any]:
    """A tool call, by its number in its message."""
    # Nine letters and digits, which is the only id that Mistral's templates take.
    return {
        "id": f"callid00{number}",
        "type": "function",
        "function": {"name": "look_up", "arguments": arguments},
    }


def result(number: int = 1) -> dict[str, Any]:
    """The result of the call of that number."""
    # With name and id: templates read one or the other.
    return {"role": "tool", "name": "look_up", "tool_call_id": f"callid00{number}", "content": f"result {number}"}


def chat(*messages: Mapping[str, Any], tools: bool = False) -> Conversation:
    """The messages as a conversation, with the schema of the tool if it is asked for."""
    return Conversation(messages=tuple(messages), tools=(TOOL,) if tools else None)


PARIS: Final = {"city": "Paris"}

SHAPES: Final[Mapping[str, Conversation]] = MappingProxyType(
    {
        "one exchange": chat(user(), answer()),
        "several exchanges": chat(user(), answer(), user("Sure?"), answer("Quite sure."), user("Why?"), answer("So.")),
        "a system prompt": chat(SYSTEM, user(), answer(), user("Sure?"), answer("Quite sure.")),
        "a user turn last": chat(user(), answer(), user("Sure?")),
        "a user turn only": chat(user()),
        "an assistant turn first": chat(answer("Welcome."), user(), answer()),
        "two user turns in a row": chat(user(), user("And there?"), answer()),
        "two assistant turns in a row": chat(user(), answer(), answer("And there."), user("Why?"), answer("So.")),
        "empty texts": chat(user(""), answer(""), user("Why?"), answer("So.")),
        "lists of content parts": chat(
            user([{"type": "text", "text": "Where is it?"}]), answer([{"type": "text", "text": "It is here."}])
        ),
        "an image": chat(user([{"type": "image"}, {"type": "text", "text": "What is it?"}]), answer("A cat.")),
        "tool schemas without calls": chat(user(), answer(), tools=True),
        "a tool call and its result": chat(
            user(), answer("", tool_calls=[call(1, PARIS)]), result(1), answer("In Paris."), tools=True
        ),
        "a tool call whose arguments are a string": chat(
            user(),
            answer("", tool_calls=[call(1, '{"city": "Paris"}')]),
            result(1),
            answer("In Paris."),
            tools=True,
        ),
        "two tool calls at once": chat(
            user(),
            answer("I look.", tool_calls=[call(1, PARIS), call(2, {"city": "Oslo"})]),
            result(1),
            result(2),
            answer("In Paris."),
            tools=True,
        ),
        "a tool call without text": chat(
            user(), answer(None, tool_calls=[call(1, PARIS)]), result(1), answer("In Paris."), tools=True
        ),
        "reasoning in a field": chat(
            user(), answer(reasoning_content="Let me see."), user("Why?"), answer("So.", reasoning_content="Hm.")
        ),
        "reasoning inside content": chat(
            user(), answer("<think>\nLet me see.\n</think>\n\nHere."), user("Why?"), answer("<think>Hm.</think>So.")
        ),
        "a developer turn": chat({"role": "developer", "content": "Be brief."}, user(), answer()),
    }
)
"""Conversations by their special feature.

Every text but the empty ones is short and without control tokens.
"""
