"""The conversations on which a tagged template is compared with the policy.

They are the shapes of `testing.shapes`, and further ones that templates branch on: calls with and without text and
reasoning, first, last and between other turns.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from itertools import product
from types import MappingProxyType
from typing import Any, Final

from policy_engine.data.conversation import Conversation
from policy_engine.testing.choices import RandomChoices
from policy_engine.testing.conversations import conversation as any_conversation
from policy_engine.testing.shapes import SHAPES

_TOOLS: Final = SHAPES["a tool call and its result"].tools
_SYSTEM: Final = {"role": "system", "content": "Be brief."}
_ONE: Final = {"city": "Paris"}
_TEXT: Final = '{"city": "Paris"}'
_OTHER: Final = {"city": "Oslo", "days": 2, "near": ["sea", {"hot": False}]}


def _user(content: Any = "Where is it?") -> dict[str, Any]:
    return {"role": "user", "content": content}


def _answer(content: Any = "It is here.", *calls: Any, reasoning: str | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {"role": "assistant", "content": content}
    if reasoning is not None:
        made["reasoning_content"] = reasoning
    if calls:
        made["tool_calls"] = [
            {"id": f"callid00{n}", "type": "function", "function": {"name": "look_up", "arguments": call}}
            for n, call in enumerate(calls, 1)
        ]
    return made


def _result(number: int = 1) -> dict[str, Any]:
    return {"role": "tool", "name": "look_up", "tool_call_id": f"callid00{number}", "content": f"result {number}"}


def _parts(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]


def _chat(*messages: Mapping[str, Any], tools: bool = False) -> Conversation:
    return Conversation(messages=messages, tools=_TOOLS if tools else None)


def _tools(*messages: Mapping[str, Any]) -> Conversation:
    return _chat(*messages, tools=True)


CONVERSATIONS: Final[Mapping[str, Conversation]] = MappingProxyType(
    {
        **SHAPES,
        "an empty answer last": _chat(_user(), _answer("")),
        "blanks around texts": _chat(_user(" Why?\n"), _answer("\n So. \n"), _user(), _answer(" Here.")),
        "texts of several lines": _chat(_user("One:\n\n- two\n"), _answer("Three.\n\nFour.\n- five")),
        "roles and markers in texts": _chat(
            _user("assistant\n<|im_end|>\n<|im_start|>assistant\n"), _answer("user: </s> [INST]"), _user(), _answer()
        ),
        "a question with a system prompt": _chat(_SYSTEM, _user()),
        "a system prompt in parts": _chat(
            {"role": "system", "content": _parts("Be ", "brief.")}, _user(_parts("Why?")), _answer(_parts("So."))
        ),
        "a system turn between": _chat(_user(), _answer(), _SYSTEM, _user(), _answer()),
        "several parts in a turn": _chat(_user(_parts("Why", "?")), _answer(_parts("So", ".")), _user(), _answer()),
        "an image in the second question": _chat(
            _user(), _answer(), _user([{"type": "text", "text": "This?"}, {"type": "image"}]), _answer("A cat.")
        ),
        "three assistant turns in a row": _chat(_user(), _answer("One."), _answer("Two."), _answer("Three.")),
        "a result in parts": _tools(
            _user(),
            _answer("", _ONE),
            {**_result(), "content": _parts("re", "sult")},
            _answer(),
            _user(),
            _user("Well?"),
        ),
        "text and a call": _tools(_user(), _answer("I look.", _ONE), _result(), _answer("In Paris.")),
        "two calls without text": _tools(_user(), _answer("", _ONE, _OTHER), _result(), _result(2), _answer()),
        "two calls, and no content": _tools(_user(), _answer(None, _TEXT, _TEXT), _result(), _result(2), _answer()),
        "a call last": _tools(_user(), _answer("", _ONE)),
        "text and two calls last": _tools(_SYSTEM, _user(), _answer("I look.", _ONE, _OTHER)),
        "a result last": _tools(_user(), _answer("", _ONE), _result()),
        "two rounds of calls": _tools(
            _SYSTEM, _user(), _answer("", _TEXT), _result(), _answer("And.", _TEXT), _result(), _answer("Both.")
        ),
        "a call in a later turn": _tools(
            _user(), _answer(), _user("And?"), _answer("", _ONE), _result(), _answer(), _user("Ah."), _answer("Yes.")
        ),
        "a call and no tools": _chat(_user(), _answer("I look.", _TEXT), _result(), _answer("In Paris.")),
        "a call without arguments": _tools(_user(), _answer("", {}), _result(), _answer("Nowhere.")),
        "a call without a result": _tools(_user(), _answer("I look.", _TEXT, _TEXT), _user("Well?"), _answer()),
        "reasoning, one exchange": _chat(_SYSTEM, _user(), _answer("Here.", reasoning="Let me see.")),
        "reasoning in the first answer": _chat(
            _user(), _answer("Here.", reasoning="Let me\n\nsee."), _user("Why?"), _answer("So.")
        ),
        "reasoning in the last answer": _chat(_user(), _answer(), _user("Why?"), _answer("So.", reasoning="Hm.")),
        "reasoning and a call": _tools(
            _user(), _answer("", _ONE, reasoning="I must look."), _result(), _answer("In Paris.", reasoning="I see.")
        ),
        "reasoning, text and two calls": _tools(
            _user(),
            _answer("I look.", _ONE, _OTHER, reasoning="I must look."),
            _result(),
            _result(2),
            _answer("In Paris.", reasoning="I see."),
            _user("Sure?"),
            _answer("Yes.", reasoning="It said so."),
        ),
        "reasoning and a call last": _tools(_user(), _answer("", _ONE, reasoning="I must look.")),
        "reasoning inside content and a call": _tools(
            _user(), _answer("<think>\nI must look.\n</think>\n\nI look.", _ONE), _result(), _answer("In Paris.")
        ),
        "empty reasoning inside content": _chat(
            _user(), _answer("<think>\n\n</think>\n\nHere."), _user("Why?"), _answer("<think>\n\n</think>\n\nSo.")
        ),
    }
)
"""The 49 conversations, by what is special about them."""


_CONTENTS: Final = {
    "text": "It is here.",
    "nothing": "",
    "a hard blank": "\xa0<s> It is here.",
    "an open thought": "It is <think>",
    "a closed thought": "it is.</think>Here.",
    "a thought": "<think>Let me see.</think>Here.",
    "a thought inside": "It is <think>Let me see.</think> here.",
}
_REASONING: Final[Mapping[str, Mapping[str, str]]] = {
    "no reasoning": {},
    "empty reasoning": {"reasoning_content": ""},
    "reasoning": {"reasoning": "Let me see."},
    "reasoning content": {"reasoning_content": "Let me see."},
    "thinking": {"thinking": "Let me see."},
}


def _answers() -> Iterator[tuple[str, Conversation]]:
    """Answers of each content and kind of reasoning, with and without a call, last and first.

    A template's condition mostly reads one of these, and conversations drawn at random meet few of their combinations.
    """
    for (what, content), (which, reasoning), calls in product(_CONTENTS.items(), _REASONING.items(), ((), (_ONE,))):
        answer = {**_answer(content, *calls), **reasoning}
        messages = [_user(), answer, *([_result(), _answer(content)] if calls else [])]
        name = f"{what} and {which}, {'called' if calls else 'said'}"
        yield f"{name}, last", _chat(*messages, tools=bool(calls))
        yield f"{name}, first", _chat(*messages, _user("Why?"), answer, tools=bool(calls))


FURTHER: Final[Mapping[str, Conversation]] = MappingProxyType(
    {
        "a role of its own, last": _chat(
            {"role": "developer", "content": "Be brief."}, _user(), _answer(), {"role": "critic", "content": "Bad."}
        ),
        **dict(_answers()),
    }
)
"""Conversations that tags have to be right for, and are not made for unless they prove wrong."""


@functools.cache
def generated(count: int) -> Mapping[str, Conversation]:
    """Conversations of any roles, calls, parts and control text, the same ones every time.

    Answers have no images: templates mostly write an answer with its media by one macro, which no tag can cut.
    """
    return MappingProxyType({f"generated {number}": _generated(number) for number in range(count)})


def _generated(number: int) -> Conversation:
    made = any_conversation(RandomChoices(f"tag:{number}"), most=5, marks=False)
    return Conversation(messages=tuple(map(_without_media, made.messages)), tools=made.tools)


def _without_media(message: Mapping[str, Any]) -> Mapping[str, Any]:
    content = message.get("content")
    if message["role"] != "assistant" or not isinstance(content, list):
        return message
    return {**message, "content": [part for part in content if part.get("type") == "text"]}
