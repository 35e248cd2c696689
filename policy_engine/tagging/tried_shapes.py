"""The conversations on which a tagged template is compared with the policy.

They are the shapes of `testing.shapes`, and further ones that templates branch on: calls with and without text and
reasoning, first, last and between other turns.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from itertools import product
from types import MappingProxyType
from typing import Any, Final

from policy_engine.chat.label.markers import REASONING
from policy_engine.core.vocabulary import REASONING_ALIASES
from policy_engine.data.conversation import Conversation
from policy_engine.testing.choices import RandomChoices
from policy_engine.testing.conversations import conversation as any_conversation
from policy_engine.testing.shapes import PARIS, SHAPES, SYSTEM, answer, call, chat, result, user

_TEXT: Final = '{"city": "Paris"}'
_OTHER: Final = {"city": "Oslo", "days": 2, "near": ["sea", {"hot": False}]}


def _answer(content: Any = "It is here.", *calls: Any, reasoning: str | None = None) -> dict[str, Any]:
    thought = {} if reasoning is None else {"reasoning_content": reasoning}
    called = {"tool_calls": [call(number, given) for number, given in enumerate(calls, 1)]} if calls else {}
    return answer(content, **thought, **called)


def _parts(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]


def _tools(*messages: Mapping[str, Any]) -> Conversation:
    return chat(*messages, tools=True)


CONVERSATIONS: Final[Mapping[str, Conversation]] = MappingProxyType(
    {
        **SHAPES,
        "an empty answer last": chat(user(), _answer("")),
        "blanks around texts": chat(user(" Why?\n"), _answer("\n So. \n"), user(), _answer(" Here.")),
        "texts of several lines": chat(user("One:\n\n- two\n"), _answer("Three.\n\nFour.\n- five")),
        "roles and markers in texts": chat(
            user("assistant\n<|im_end|>\n<|im_start|>assistant\n"), _answer("user: </s> [INST]"), user(), _answer()
        ),
        "a question with a system prompt": chat(SYSTEM, user()),
        "a system prompt in parts": chat(
            {"role": "system", "content": _parts("Be ", "brief.")}, user(_parts("Why?")), _answer(_parts("So."))
        ),
        "a system turn between": chat(user(), _answer(), SYSTEM, user(), _answer()),
        "several parts in a turn": chat(user(_parts("Why", "?")), _answer(_parts("So", ".")), user(), _answer()),
        "an image in the second question": chat(
            user(), _answer(), user([{"type": "text", "text": "This?"}, {"type": "image"}]), _answer("A cat.")
        ),
        "three assistant turns in a row": chat(user(), _answer("One."), _answer("Two."), _answer("Three.")),
        "a result in parts": _tools(
            user(),
            _answer("", PARIS),
            {**result(), "content": _parts("re", "sult")},
            _answer(),
            user(),
            user("Well?"),
        ),
        "text and a call": _tools(user(), _answer("I look.", PARIS), result(), _answer("In Paris.")),
        "two calls without text": _tools(user(), _answer("", PARIS, _OTHER), result(), result(2), _answer()),
        "two calls, and no content": _tools(user(), _answer(None, _TEXT, _TEXT), result(), result(2), _answer()),
        "a call last": _tools(user(), _answer("", PARIS)),
        "text and two calls last": _tools(SYSTEM, user(), _answer("I look.", PARIS, _OTHER)),
        "a result last": _tools(user(), _answer("", PARIS), result()),
        "two rounds of calls": _tools(
            SYSTEM, user(), _answer("", _TEXT), result(), _answer("And.", _TEXT), result(), _answer("Both.")
        ),
        "a call in a later turn": _tools(
            user(), _answer(), user("And?"), _answer("", PARIS), result(), _answer(), user("Ah."), _answer("Yes.")
        ),
        "a call and no tools": chat(user(), _answer("I look.", _TEXT), result(), _answer("In Paris.")),
        "a call without arguments": _tools(user(), _answer("", {}), result(), _answer("Nowhere.")),
        "a call without a result": _tools(user(), _answer("I look.", _TEXT, _TEXT), user("Well?"), _answer()),
        "reasoning, one exchange": chat(SYSTEM, user(), _answer("Here.", reasoning="Let me see.")),
        "reasoning in the first answer": chat(
            user(), _answer("Here.", reasoning="Let me\n\nsee."), user("Why?"), _answer("So.")
        ),
        "reasoning in the last answer": chat(user(), _answer(), user("Why?"), _answer("So.", reasoning="Hm.")),
        "reasoning and a call": _tools(
            user(), _answer("", PARIS, reasoning="I must look."), result(), _answer("In Paris.", reasoning="I see.")
        ),
        "reasoning, text and two calls": _tools(
            user(),
            _answer("I look.", PARIS, _OTHER, reasoning="I must look."),
            result(),
            result(2),
            _answer("In Paris.", reasoning="I see."),
            user("Sure?"),
            _answer("Yes.", reasoning="It said so."),
        ),
        "reasoning and a call last": _tools(user(), _answer("", PARIS, reasoning="I must look.")),
        "reasoning inside content and a call": _tools(
            user(), _answer("<think>\nI must look.\n</think>\n\nI look.", PARIS), result(), _answer("In Paris.")
        ),
        "empty reasoning inside content": chat(
            user(), _answer("<think>\n\n</think>\n\nHere."), user("Why?"), _answer("<think>\n\n</think>\n\nSo.")
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
    for (what, content), (which, reasoning), calls in product(_CONTENTS.items(), _REASONING.items(), ((), (PARIS,))):
        made = {**_answer(content, *calls), **reasoning}
        messages = [user(), made, *([result(), _answer(content)] if calls else [])]
        name = f"{what} and {which}, {'called' if calls else 'said'}"
        yield f"{name}, last", chat(*messages, tools=bool(calls))
        yield f"{name}, first", chat(*messages, user("Why?"), made, tools=bool(calls))


FURTHER: Final[Mapping[str, Conversation]] = MappingProxyType(
    {
        "a role of its own, last": chat(
            {"role": "developer", "content": "Be brief."}, user(), _answer(), {"role": "critic", "content": "Bad."}
        ),
        **dict(_answers()),
    }
)
"""Conversations that tags have to be right for, and are not made for unless they prove wrong."""


def has_thinking_twice(conversation: Conversation) -> bool:
    """True if an answer has a field for its thinking, and thinking in its content too.

    >>> has_thinking_twice(FURTHER["a thought and reasoning, said, last"])
    True
    >>> has_thinking_twice(FURTHER["a thought and no reasoning, said, last"])
    False
    """
    return any(
        any(message.get(field) is not None for field in REASONING_ALIASES)
        and any(closing in json.dumps(message.get("content"), ensure_ascii=False) for _, closing in REASONING)
        for message in conversation.messages
    )


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
