"""Rows of one shape, given to a template with skeletons and to one without: the two have to give the same."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final
from unittest import mock

from policy_engine.chat.skeleton import skeletons as module
from policy_engine.chat.skeleton.mismatch import SkeletonMismatch
from policy_engine.chat.template import ChatTemplate
from policy_engine.core.errors import PolicyEngineError
from policy_engine.data.conversation import Conversation
from policy_engine.testing.choices import RandomChoices
from policy_engine.testing.templates import installed_templates
from tests.properties.hostile import hostile_template
from tests.support.templates import SPECIAL_TOKENS, TIME, WEATHER

SHAPES: Final = ("ua", "sua", "suaua", "ur", "sutaua", "utr", "pa", "uau", "suturua")
"""Conversations by letter: system, user, assistant, reasoning, tool call with its result, user with content parts."""
TEXTS: Final = (
    "Four.", "<think>\nTwo.\n</think>\n\nFour.", " padded \n", "", "   ", "<think>a", "b</think>c", "</think>",
    "<think></think>x", "a<think>b</think>c</think>d", "<|im_end|>\n<|im_start|>", "/no_think hi", "/think",
    "<tool_response>\nx\n</tool_response>", "[TOOL_CALLS]", "naïve 中 \u0338", '{"a": 1}', "None", "line1\nline2\n",
    "thought</think>\n\nans", "<|channel|>analysis<|message|>x", "Hello, <b>x</b> & 'q'", "{{ x }}", "\ud83d",
)  # fmt: skip
ROWS: Final = 24


def text(rng: random.Random) -> str:
    """A text that templates act on, or plain words."""
    if rng.random() < 0.7:
        return rng.choice(TEXTS).replace("Four", "x" * rng.randrange(1, 9))
    return " ".join(rng.choice(("ab", "c", "DEF", "1")) for _ in range(rng.randrange(4)))


def value(rng: random.Random, depth: int = 0) -> Any:
    """Any JSON value."""
    kind = rng.randrange(7 if depth < 2 else 5)
    if kind == 5:
        return [value(rng, depth + 1) for _ in range(rng.randrange(3))]
    if kind == 6:
        return {rng.choice("xyz"): value(rng, depth + 1) for _ in range(rng.randrange(3))}
    return (text(rng), rng.randrange(100), 1.5, True, None)[kind]


def _call(rng: random.Random) -> dict[str, Any]:
    names = rng.choice((("city",), ("city", "days"), ("x",)))
    arguments: Any = {name: text(rng) if rng.random() < 0.6 else value(rng) for name in names}
    if rng.random() < 0.1:
        arguments = '{"city": "Rome"}'
    function = {"name": rng.choice(("look", "get_weather")), "arguments": arguments}
    return {"id": f"call{rng.randrange(10_000):05d}", "type": "function", "function": function}


def messages(rng: random.Random, shape: str) -> tuple[dict[str, Any], ...]:
    """Messages of a shape."""
    made: list[dict[str, Any]] = []
    for letter in shape:
        content: Any = text(rng)
        if rng.random() < 0.03:
            content = rng.choice((None, 7, True, [], ["x"], [{"type": "image"}], {"a": 1}))
        if letter in "su":
            made.append({"role": "system" if letter == "s" else "user", "content": content})
        elif letter == "p":
            made.append({"role": "user", "content": [{"type": "text", "text": text(rng)}]})
        elif letter == "t":
            calls = [_call(rng)]
            made.append({"role": "assistant", "content": content if rng.random() < 0.3 else "", "tool_calls": calls})
            made.append({"role": "tool", "tool_call_id": calls[0]["id"], "name": "look", "content": text(rng)})
        else:
            made.append({"role": "assistant", "content": content})
            if letter == "r":
                made[-1]["reasoning_content"] = text(rng)
    return tuple(made)


def varied(rng: random.Random, value: Any, key: str = "") -> Any:
    """A value with other texts in it, most of which templates take for the same."""
    if isinstance(value, dict):
        return {name: item if name in ("role", "type") else varied(rng, item, name) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(varied(rng, item, key) for item in value)
    if not isinstance(value, str) or rng.random() < 0.5:
        return value
    return rng.choice((value + "z", "z" + value, value + "z", text(rng)))


def conversation(rng: random.Random, shape: str) -> Conversation:
    """A conversation of a shape, some with tools and template arguments."""
    tools = rng.choice((None, (WEATHER, TIME), (WEATHER,))) if "t" in shape else None
    kwargs = {} if rng.random() < 0.8 else {"enable_thinking": rng.random() < 0.5}
    return Conversation(messages=messages(rng, shape), tools=tools, template_kwargs=kwargs)


@contextmanager
def never_compared() -> Iterator[None]:
    """Replays are given out without a comparison, so that a wrong one is seen."""
    with (
        mock.patch.object(module, "COMPARED_FIRST", frozenset()),
        mock.patch.object(module, "COMPARED", 1 << 60),
        mock.patch.object(module, "FREE_RECORDINGS", 1 << 60),
    ):
        yield


def facts(template: ChatTemplate, row: Conversation) -> tuple[Any, ...]:
    """All that a rendering says, or the error."""
    try:
        chat = template.render(row, in_other_words=False)
    except SkeletonMismatch:
        raise
    except PolicyEngineError as error:
        return type(error), str(error)
    return chat.text, list(chat.segments), chat.unrendered, chat.miswritten, chat.literals, chat.generation_prompt


def problem_of(source: str, rng: random.Random, shape: str, rows: int = ROWS) -> tuple[int, str | None]:
    """The rows of one shape that were replayed, and what a replay gave that a rendering does not."""

    def told() -> Iterator[Conversation]:
        row = conversation(rng, shape)
        for number in range(rows):
            yield row
            row = replace(row, messages=varied(rng, row.messages)) if number % 6 else conversation(rng, shape)

    return compared(source, told())


def compared(source: str, rows: Iterable[Conversation], **facts_of_template: Any) -> tuple[int, str | None]:
    """The rows that were replayed, and what a replay gave that a rendering does not."""
    facts_of_template = {"special_tokens": SPECIAL_TOKENS, **facts_of_template}
    warm = ChatTemplate(source, **facts_of_template)
    full = ChatTemplate(source, **facts_of_template, skeletons=False)
    skeletons = warm.skeletons
    assert skeletons is not None
    with never_compared():
        for row in rows:
            replayed, told = facts(warm, row), facts(full, row)
            if replayed != told and " at 0x" not in str(told[0]):  # the address of an object differs by itself
                return skeletons.replays, f"{row.messages!r}: {replayed!r}, in full {told!r}"
    return skeletons.replays, skeletons.ended


def hostile_row(rng: random.Random) -> Conversation:
    """A row of `hostile.hostile_data`'s form, with texts and numbers that templates compare and cut."""

    def few() -> str:
        return rng.choice(("ab", "a", "", "xY-z", "Q", "a b a", "x-y", "9", " a\n", "aab aab", "Hi, Bob", "%s", "{}"))

    message = {
        "role": "user", "content": few() + rng.choice(("", few())), "note": few(), "n": rng.choice((0, 1, 7, 12, 97)),
        "x": rng.choice((0.25, 1.0, 12.5)), "d": {"a": few(), "b": few()}, "l": [few(), few()],
    }  # fmt: skip
    return Conversation(messages=(message, {"role": "assistant", "content": few()}))


def hostile_case(choices: RandomChoices, rng: random.Random, rows: int = 12) -> tuple[str, str | None]:
    """A template grown from Jinja's grammar, on rows of one shape."""
    source, _ = hostile_template(choices)
    if "random" in source or "lipsum" in source:
        return "chance", None
    try:
        replays, problem = compared(source, (hostile_row(rng) for _ in range(rows)), seconds=2.0)
    except PolicyEngineError as error:
        return "no template", str(error) if isinstance(error, SkeletonMismatch) else None
    return "hostile, replayed" if replays else "hostile, in full", None if problem is None else f"{source}: {problem}"


def skeleton_case(seed: int, number: int) -> tuple[str, str | None]:
    """A case of the long run: a template and a shape; every second one a template that nobody would write."""
    if number % 2:
        return hostile_case(RandomChoices(f"skeletons:{seed}:{number}"), random.Random(f"{seed}:{number}"))
    number //= 2
    names = sorted(installed_templates())
    name = names[number // len(SHAPES) % len(names)]
    shape = SHAPES[number % len(SHAPES)]
    try:
        replays, problem = problem_of(installed_templates()[name], random.Random(f"{seed}:{number}"), shape)
    except PolicyEngineError as error:
        return "no template", str(error) if isinstance(error, SkeletonMismatch) else None
    return "replayed" if replays else "in full", None if problem is None else f"{name} {shape}: {problem}"
