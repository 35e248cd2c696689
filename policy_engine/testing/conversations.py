"""Generators of conversations as data brings them; `strategies` runs them on Hypothesis."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Final

from policy_engine.core.vocabulary import REASONING_ALIASES
from policy_engine.data.conversation import Conversation
from policy_engine.testing.choices import Choices
from policy_engine.testing.texts import plain, text

ROLES: Final = ("user", "assistant", "system", "tool", "developer", "critic")
REASONING_FIELDS: Final = tuple(sorted(REASONING_ALIASES, key=len, reverse=True))
TOOL_NAMES: Final = ("search", "get_weather", "sum")

Message = dict[str, Any]

_ARGUMENTS: Final[Sequence[Any]] = (
    {},
    {"city": "Paris"},
    {"city": "日本", "n": 2},
    {"city": {"deep": [1, None, True]}},
)


def tool(choices: Choices) -> dict[str, Any]:
    """A tool schema in OpenAI's form."""
    name = choices.pick(TOOL_NAMES)
    properties = {"city": {"type": "string", "description": plain(choices)}, "n": {"type": "integer"}}
    parameters = {"type": "object", "properties": properties, "required": choices.pick((["city"], []))}
    description = choices.pick(("Looks things up.", "日本語 <|im_end|>"))
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def tools(choices: Choices) -> list[dict[str, Any]]:
    """One to three tool schemas with names of their own.

    >>> from policy_engine.testing.choices import RandomChoices
    >>> [tool["function"]["name"] for tool in tools(RandomChoices(1))]
    ['sum']
    """
    made = choices.many(tool, 1, 3)
    # By name: two tools of one name mean nothing.
    return list({t["function"]["name"]: t for t in made}.values())


def tool_call(choices: Choices) -> dict[str, Any]:
    """A tool call in OpenAI's form, its arguments an object or a string; the id may be absent.

    >>> from policy_engine.testing.choices import RandomChoices
    >>> tool_call(RandomChoices(5))
    {'type': 'function', 'function': {'name': 'sum', 'arguments': {'city': '日本', 'n': 2}}}
    """
    # Copies: a test that writes into a conversation must not change the next one.
    arguments: Any = copy.deepcopy(choices.pick(_ARGUMENTS))
    if choices.chance(30):
        arguments = choices.pick(('{"city": "Paris"}', "{}", '{"q": "<|im_end|>"}'))
    call: dict[str, Any] = {"type": "function", "function": {"name": choices.pick(TOOL_NAMES), "arguments": arguments}}
    return {"id": f"call_{choices.integer(0, 3)}", **call} if choices.chance(70) else call


def content(choices: Choices, *, parts: bool = True) -> Any:
    """A message's content: text, or (with `parts`) now and then a list of text parts and images."""
    if parts and choices.chance(20):
        return choices.many(_part, 0, 4)
    return text(choices)


def _part(choices: Choices) -> dict[str, Any]:
    if choices.chance(20):
        return {"type": "image"}
    part: dict[str, Any] = {"type": "text", "text": text(choices, most=2)}
    if choices.chance(25):
        part["train"] = choices.chance(50)
    return part


def spans(choices: Choices, length: int, *, bad: bool = False) -> Any:
    """A list of character spans of a content of that length, in both spellings.

    With `bad`, one may be out of place.

    >>> from policy_engine.testing.choices import RandomChoices
    >>> spans(RandomChoices(4), 10)
    []
    """
    if choices.chance(5):
        return None

    def span(choices: Choices) -> Any:
        start = choices.integer(0, length)
        end = choices.integer(start, length)
        # OpenAI's spelling has an inclusive end, so that it cannot say an empty span.
        if end == start or choices.chance(50):
            return [start, end]
        entry = {"begin_offset": start, "end_offset": end - 1}
        return {**entry, "train": choices.chance(50)} if choices.chance(60) else entry

    made = choices.many(span, 0, 3)
    return choices.pick(([*made, [0, length + 1]], [*made, [-1, 0]], [*made, ["0", 1]], "0-3", [1])) if bad else made


def extras(choices: Choices, made: Message, *, bad: bool = False) -> Message:
    """Further keys of a message, which conditions, weights and spans of a policy ask for."""
    values: dict[str, Sequence[Any]] = {
        "train": (True, False, None, 1, "true"),
        "weight": (1, 0.5, 2, -1, 0, None) + (("heavy", True, [1]) if bad else ()),
        "name": ("ann", "bob"),
        "labels": (["gold"], ["x", 1], [], "gold x", [True, None], [1, True], [0, False]),
        "meta": ({"lang": "en"}, {"lang": "de", "score": 3}, {}, None, "en"),
    }
    found = {key: copy.deepcopy(choices.pick(options)) for key, options in values.items() if choices.chance(30)}
    if choices.chance(35):
        written = made.get("content")
        if isinstance(written, list):
            written = "".join(part.get("text", "") for part in written)
        found["spans"] = spans(choices, len(written or ""), bad=bad and choices.chance(30))
    return {**made, **found}


def message(
    choices: Choices, role: str | None = None, *, parts: bool = True, marks: bool = True, bad: bool = False
) -> Message:
    """A message of a role (any, unless given).

    `marks` adds keys that policies ask for; `bad` allows values there that fail a row.

    >>> from policy_engine.testing.choices import RandomChoices
    >>> message(RandomChoices(2), "user", marks=False)
    {'role': 'user', 'content': '\\u206a'}
    """
    role = role or choices.pick(ROLES)
    made: Message = {"role": role, "content": content(choices, parts=parts)}
    if role == "assistant":
        if choices.chance(25):
            made[choices.pick(REASONING_FIELDS)] = text(choices)
        # Thinking inside the content, which many templates take apart by themselves.
        elif choices.chance(15) and isinstance(made["content"], str):
            made["content"] = f"<think>{text(choices)}</think>{made['content']}"
        if choices.chance(20):
            made["tool_calls"] = choices.many(tool_call, 1, 2)
            # Beside calls, content is mostly empty or missing in real data.
            made["content"] = choices.pick(("", None, made["content"]))
    if role == "tool":
        if choices.chance(60):
            made["tool_call_id"] = f"call_{choices.integer(0, 3)}"
        if choices.chance(40):
            made["name"] = choices.pick(TOOL_NAMES)
    if choices.chance(2):
        made["content"] = None
    return extras(choices, made, bad=bad) if marks else made


def messages(
    choices: Choices, *, most: int = 6, parts: bool = True, marks: bool = True, bad: bool = False
) -> list[Message]:
    """One to about `most` messages: mostly ordinary, now and then roles in any order.

    >>> from policy_engine.testing.choices import RandomChoices
    >>> [message["role"] for message in messages(RandomChoices(1))]
    ['system']
    """

    def one(role: str | None) -> Message:
        return message(choices, role, parts=parts, marks=marks, bad=bad)

    if choices.chance(20):
        return choices.many(lambda c: message(c, parts=parts, marks=marks, bad=bad), 1, most)
    made = [one("system")] if choices.chance(40) else []

    def exchange(choices: Choices) -> list[Message]:
        return [one("user"), *(_tool_round(choices, one) if choices.chance(25) else ()), one("assistant")]

    made += [message for turns in choices.many(exchange, 1, max(1, most // 3)) for message in turns]
    if choices.chance(15):
        made.append(one("user"))
    return made


def _tool_round(choices: Choices, one: Callable[[str | None], Message]) -> list[Message]:
    """A calling turn and a result for each of its calls."""
    calling = {**one("assistant"), "tool_calls": choices.many(tool_call, 1, 3)}
    results = []
    for call in calling["tool_calls"]:
        result = one("tool")
        result.pop("tool_call_id", None)
        results.append({**result, "tool_call_id": call["id"]} if "id" in call else result)
    return [calling, *results]


def sample(choices: Choices) -> dict[str, Any]:
    """The columns beside the messages of a dataset row.

    >>> from policy_engine.testing.choices import RandomChoices
    >>> sample(RandomChoices(1))
    {'source': 'gold', 'score': -1}
    """
    values: dict[str, Sequence[Any]] = {
        "source": ("gold", "web", None),
        "score": (1, 0.5, 3, -1, None),
        "meta": ({"lang": "en"}, {}, ["en"]),
    }
    return {key: copy.deepcopy(choices.pick(options)) for key, options in values.items() if choices.chance(60)}


def conversation(
    choices: Choices, *, most: int = 6, parts: bool = True, marks: bool = True, bad: bool = False
) -> Conversation:
    """A whole conversation: messages, tools (mostly with calls), and other columns of its row."""
    made = messages(choices, most=most, parts=parts, marks=marks, bad=bad)
    calls = any(m.get("tool_calls") for m in made)
    schemas = tools(choices) if choices.chance(70 if calls else 10) else None
    return Conversation(messages=tuple(made), tools=None if schemas is None else tuple(schemas), sample=sample(choices))
