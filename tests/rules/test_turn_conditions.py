"""What is told of all conditions at once is what each of them says."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given

from policy_engine import policy_from_text
from policy_engine.chat.segments import RenderedChat, TokenizedChat
from policy_engine.core.errors import PolicyCheckError, RowError
from policy_engine.lang import ast
from policy_engine.lang.check import check
from policy_engine.lang.format import format_policy
from policy_engine.lang.parse import parse
from policy_engine.rules.compile import compile_policy
from policy_engine.rules.conditions import turn_conditions
from policy_engine.rules.conditions.chat_view import ChatView
from policy_engine.rules.conditions.conditions import CompiledCondition
from policy_engine.rules.program import Program
from policy_engine.testing import strategies
from tests.support.chats import build_chat

LONG = "so many words that nobody would take them for a flag, and that hardly come twice in one dataset: "


def held_alike(program: Program, chat: RenderedChat) -> list[tuple[bool, bool]]:
    """Holds what is told at once against each condition; returns (holds, had to be asked) of each segment's."""
    view = ChatView(chat)
    program.decider.prepare(view)
    statements = [*program.policy.rules, *program.policy.guards]
    found = []
    for segment in chat.segments:
        held, still = view.held[-1 if segment.turn is None else segment.turn]
        assert still & held == still
        for number, statement in enumerate(statements):
            expected = statement.condition is None or CompiledCondition(statement.condition).holds(view, segment)
            told, asked = bool(held >> number & 1), bool(still >> number & 1)
            assert told >= expected if asked else told == expected, (statement.condition, segment)
            found.append((expected, asked))
    return found


@given(strategies.policies(), strategies.tokenized_chats(bad=True))
def test_any_conditions_on_any_chat(policy: ast.Policy, tokenized: TokenizedChat) -> None:
    try:
        checked = check(parse(format_policy(policy)))
    except PolicyCheckError:
        return
    program = compile_policy(checked)
    try:
        program.decider.prepare(ChatView(tokenized.chat))
    except RowError:
        return  # the data has no weight or spans where `trained` asks for them
    held_alike(program, tokenized.chat)


def told(condition: str, **message: Any) -> tuple[bool, bool]:
    program = policy_from_text(f"train assistant.text where {condition}")
    chat = build_chat([{"role": "assistant", "content": "Yo.", **message}], sample={"split": "train", "n": [1]})
    (text,) = [i for i, segment in enumerate(chat.segments) if segment.part == "text"]
    return held_alike(program, chat)[text]


@pytest.mark.parametrize(
    ("condition", "message", "expected"),
    [
        ("message.ok == true", {"ok": True}, True),
        ("message.ok == true", {"ok": 1}, False),
        ("message.ok == 1", {"ok": 1.0}, True),
        ("message.ok == 1", {"ok": True}, False),
        ("message.ok == null", {"ok": None}, True),
        ("not message.ok == null", {}, True),
        ("message.meta.source == 'web'", {"meta": {"source": "web"}}, True),
        ("message.meta.source != 'web'", {"meta": {"source": "book"}}, True),
        ("message.meta.source != 'web'", {"meta": "web"}, False),
        ("message.labels[1] == 2", {"labels": [1, 2]}, True),
        ("message.labels contains 'a'", {"labels": ["b", "a"]}, True),
        ("message.labels contains 'a'", {"labels": ["a"] * 100}, True),
        ("message.labels contains true", {"labels": [1]}, False),
        ("message.why contains 'x'", {"why": "axa"}, True),
        ("message.why contains 'x'", {"why": LONG}, False),
        ("message.why in ['a', 'b']", {"why": LONG}, False),
        (f"message.why in 'say: {LONG}'", {"why": LONG}, True),
        ("message.why matches /\\Qz/ or message.why matches /nobody/", {"why": LONG + "."}, True),
        ("message.why matches /NOBODY/i", {"why": "nobody"}, True),
        ("message.content == 'Yo.'", {}, True),
        ("message.role == 'assistant' and not message.role == 'user'", {}, True),
        ("turn.index == 0 and turn.from_end == 0 and turn.round == 0 and turn.chars == 3", {}, True),
        ("sample.split == 'train' and sample.n contains 1", {}, True),
        ("sample.split == 'test' or sample.gone == 1", {}, False),
    ],
)  # fmt: skip
def test_what_a_turn_and_a_row_say_is_known_without_asking(
    condition: str, message: dict[str, Any], expected: bool
) -> None:
    condition = condition.replace("'", '"')
    assert told(condition, **message)[0] == expected
    if "nobody" not in condition:
        assert told(condition, **message) == (expected, False)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("message.why contains 'nobody'", (True, True)),
        ("message.why matches /no.ody/ and message.ok", (True, True)),
        ("message.why matches /no.ody/ and message.bad", (False, False)),  # whatever the text says
        ("not message.why matches /no.ody/", (False, True)),
        ("not (message.why matches /no.ody/ or message.ok)", (False, False)),
        ("segment.text == 'Yo.' and message.ok", (True, True)),
        ("segment.text == 'Yo.' and message.bad", (False, False)),
        ("part.type == 'text'", (False, True)),
    ],
)
def test_what_takes_long_or_differs_by_segment_is_asked_only_where_it_matters(
    condition: str, expected: tuple[bool, bool]
) -> None:
    assert told(condition.replace("'", '"'), why=LONG, ok=True) == expected


def test_a_long_text_is_told_from_one_that_a_lone_surrogate_is_in() -> None:
    assert told('message.why contains "\ufffd"', why=LONG + "\ud800") == (False, True)


def test_answers_are_forgotten_when_there_are_many() -> None:
    program = policy_from_text(
        "train assistant where message.n > 5000 or message.n == 3; mask assistant where message.n == 4"
    )
    for n in (*range(5001), 3, 4):
        held_alike(program, build_chat([{"role": "assistant", "content": "", "n": n}]))


def test_searches_that_are_too_large_for_one_are_asked_one_by_one() -> None:
    large = "(?:(?:abcdefgh){100}){10}"
    rules = "\n".join(f"train assistant.text where message.why matches /{large}{n}|^z{n}/" for n in range(128))
    program = policy_from_text(rules)
    found = held_alike(program, build_chat([{"role": "assistant", "content": "Yo.", "why": f"z77 {LONG}"}]))
    assert (True, True) in found
    assert (False, True) in found


@pytest.mark.parametrize(
    "policy",
    [
        'train assistant where message.content contains "gold"; mask assistant where turn.index > 2',
        'train assistant where message.tag == "x" or message.content contains "old"; mask assistant where sample.bad',
        'train assistant where message.role == "assistant" and turn.from_end < 2 and not message.content contains "a"',
        "train assistant where message.content matches /^old/; mask assistant where turn.index > 2",
        'train assistant where message.content == "gold" or turn.round == 1',
    ],
)
def test_messages_of_a_role_and_a_text_hold_what_they_hold_one_by_one(policy: str) -> None:
    program = policy_from_text(policy)
    contents = [["gold", "old"], ["x", "y", "z", "w"], ["x", "y", LONG, f"{LONG} gold"], ["", "old gold"]]
    for row in [*contents, *contents]:
        messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(row)]
        for chat in (build_chat(messages), build_chat([{**messages[0], "tag": "x"}, *messages[1:]])):
            held_alike(program, chat)
            conditions = program.decider.conditions
            view = ChatView(dataclasses.replace(chat, sample={"bad": len(row) > 2}))
            slow = conditions._read(view, turn_conditions._asked(view.chat.sample, conditions._fields["sample"]))
            assert conditions.read(view) == slow
