"""Fields of other messages: the one before, the one behind, the results of a call, the message that it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from policy_engine.core.errors import RowError
from policy_engine.rules.compile import compile_text
from tests.support.chats import build_chat
from tests.support.policies import trained, weights


def call(name: str, id: str | None = None) -> dict[str, Any]:
    made = {"type": "function", "function": {"name": name, "arguments": {}}}
    return made if id is None else {"id": id, **made}


USER = {"role": "user", "content": "Go.", "n": 1}
CALLS = {"role": "assistant", "content": "Calls.", "score": 3, "tool_calls": [call("f", "a"), call("g", "b")]}
ONE = {"role": "tool", "content": "Error: one", "tool_call_id": "b", "ok": False}
TWO = {"role": "tool", "content": "two", "tool_call_id": "a", "ok": True, "score": 0.5}
DONE = {"role": "assistant", "content": "Done."}
CHAT = (USER, CALLS, ONE, TWO, DONE)


def where(condition: str, chat: Sequence[Mapping[str, Any]] = CHAT) -> list[str]:
    """The texts of contents on which a condition is true."""
    return trained(f"train text where {condition}", chat)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ('previous.role == "user"', ["Calls."]),
        ('previous.content contains "Error"', ["two"]),
        ("has previous.role", ["Calls.", "Error: one", "two", "Done."]),
        ('not previous.role == "user"', ["Go.", "Error: one", "two", "Done."]),
        ('previous.role != "user"', ["Error: one", "two", "Done."]),
        ("previous.n == 1", ["Calls."]),
        ("previous.tool_calls[1].id == \"b\"", ["Error: one"]),
        ('next.role == "tool"', ["Calls.", "Error: one"]),
        ("next.score > 0", ["Go.", "Error: one"]),
        ("not has next.content", ["Done."]),
        ('next.role == "assistant" and previous.role == "tool"', ["two"]),
        ('result.content contains "Error"', ["Calls."]),
        ("result.ok", ["Calls."]),
        ("result.ok == true and result.ok == false", ["Calls."]),
        ("not result.ok == false", ["Go.", "Error: one", "two", "Done."]),
        ("result.score == 0.5", ["Calls."]),
        ("result.score != 0.5", []),
        ('result.role == "tool"', ["Calls."]),
        ("has result.absent", []),
        ("answer.score == 3", ["Error: one", "two"]),
        ('answer.content == "Calls."', ["Error: one", "two"]),
        ('not answer.role == "assistant"', ["Go.", "Calls.", "Done."]),
    ],
)  # fmt: skip
def test_fields_of_neighbours(condition: str, expected: list[str]) -> None:
    assert expected == where(condition)


@pytest.mark.parametrize("scope", ["previous", "next", "result", "answer"])
def test_where_there_is_no_neighbour_every_test_is_false_and_not_turns_it_round(scope: str) -> None:
    alone = [{"role": "user", "content": "Go."}]
    for test in (f"has {scope}.role", f"{scope}.keep", f'{scope}.role != "x"', f'{scope}.content in "abc"'):
        assert [] == where(test, alone), test
        assert ["Go."] == where(f"not {test}", alone), test
        # Text that no message owns has no neighbours either.
        chat = build_chat(alone, preamble="First.")
        assert ["First."] == trained(f"train preamble where not {test}", chat), test
        assert [] == trained(f"train preamble where {test}", chat), test


def test_text_of_a_call_has_the_results_of_that_call_alone() -> None:
    assert ["f"] == trained("train tool_call.name where result.ok", CHAT)
    assert ["g"] == trained("train tool_call.name where result.ok == false", CHAT)
    assert ["g"] == trained("train tool_call.name where not result.ok", CHAT)
    assert ["f", "g"] == trained("train tool_call.name where has result.content", CHAT)


def test_without_ids_results_answer_in_order() -> None:
    calls = {"role": "assistant", "content": "Calls.", "tool_calls": [call("f"), call("g")]}
    results = [{"role": "tool", "content": text} for text in ("one", "two", "three")]
    assert ["g"] == trained('train tool_call.name where result.content == "two"', [calls, *results])
    # The third result has no call left, so it answers none.
    assert ["one", "two"] == where("has answer.content", [calls, *results])
    assert [] == where('result.content == "three"', [calls, *results])


def test_an_id_that_no_call_has_answers_none() -> None:
    chat = [{**CALLS, "tool_calls": [call("f", "a")]}, {**TWO, "tool_call_id": "z"}]
    assert [] == where("has result.content or has answer.content", chat)


def test_an_id_that_comes_again_is_that_of_the_last_call() -> None:
    chat = [CALLS, {**TWO, "ok": False}, {**CALLS, "content": "Again."}, {**TWO, "content": "well"}]
    assert ["Again."] == where("result.ok", chat)
    assert ["Calls."] == where("result.ok == false", chat)


def test_a_call_that_two_messages_answer_has_both() -> None:
    chat = [{**CALLS, "tool_calls": [call("f", "a")]}, TWO, {**TWO, "ok": False}]
    assert ["f"] == trained("train tool_call.name where result.ok and result.ok == false", chat)


def test_a_neighbours_content_is_its_joined_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]
    chat = [{"role": "user", "content": parts}, DONE]
    assert ["Done."] == where('previous.content == "ab"', chat)
    assert [] == where("has previous.content", [{"role": "user", "content": None}, DONE])


def test_rules_decide_what_they_decide_with_longer_texts_too() -> None:
    """Texts past a length are searched where they are needed, and several results may differ in that."""
    long = "x" * 100
    chat = [CALLS, {**ONE, "content": f"{long} Error"}, {**TWO, "content": f"{long} fine"}]
    assert ["Calls."] == where('result.content contains "Error" and result.content contains "fine"', chat)
    assert ["g"] == trained('train tool_call.name where result.content contains "Error"', chat)
    assert [] == where("not result.content matches /x+ E/ and has result.role", chat)


def test_a_weight_of_a_neighbour() -> None:
    assert [("Error: one", 3.0)] == weights("train tool.text right after assistant weight answer.score", CHAT)
    assert ("Calls.", 0.5) in weights("train assistant weight result.score", CHAT)
    assert ("g", 1.0) in weights("train assistant weight result.score", CHAT)


def test_results_that_differ_are_no_weight_and_no_spans() -> None:
    chat = [CALLS, {**ONE, "score": 1}, {**TWO, "score": 2}]
    with pytest.raises(RowError, match=r"`result.score` of message 0 differs from result to result \(1, 2\)") as error:
        weights("train assistant.text weight result.score", chat)
    assert ("PE513", "weigh each call by its own result") == (error.value.code, str(error.value.help)[:33])
    assert [("f", 2.0), ("g", 1.0)] == weights("train tool_call.name weight result.score", chat)
    listed = [CALLS, {**ONE, "bad": [[0, 2]]}, {**TWO, "bad": [[2, 4]]}]
    with pytest.raises(RowError, match=r"`result\.bad` of message 0 differs from result to result"):
        trained("train spans result.bad in assistant.text", listed)


def test_spans_of_a_neighbour_count_in_the_messages_own_content() -> None:
    critic = {"role": "critic", "content": "Wrong.", "wrong": [[0, 2]]}
    assert ["Do"] == trained("train spans next.wrong in assistant.text", [DONE, critic])


def test_only_tool_messages_are_counted_where_results_have_no_ids() -> None:
    calls = {"role": "assistant", "content": "Calls.", "tool_calls": [call("f"), call("g")]}
    chat = [calls, USER, {"role": "tool", "content": "one"}, USER, {"role": "tool", "content": "two"}]
    assert ["f"] == trained('train tool_call.name where result.content == "one"', chat)
    assert ["g"] == trained('train tool_call.name where result.content == "two"', chat)


def test_a_field_of_a_neighbour_is_one_that_the_policy_reads() -> None:
    read = "train assistant where previous.note and result.ok weight answer.score; train spans next.cuts in assistant"
    assert {"note", "ok", "score", "cuts"} == compile_text(read).message_fields
