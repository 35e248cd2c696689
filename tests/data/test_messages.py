"""Calls as messages of their own, arguments as JSON text, and a second system message."""

from __future__ import annotations

import json
from typing import Any

import pytest

from policy_engine.core.errors import RowError
from policy_engine.data.conversation import Conversation, read_row
from policy_engine.data.formats import named_format
from policy_engine.data.messages import read_list

SHAREGPT = named_format("sharegpt")
ASK = {"from": "human", "value": "Open?"}


def call(name: str, **more: Any) -> dict[str, Any]:
    return {"from": "function_call", "value": json.dumps({"name": name, "arguments": {}}), **more}


def turns(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    return [dict(message) for message in read_row({"conversations": list(messages)}, SHAREGPT).messages]


def names(message: dict[str, Any]) -> list[str]:
    return [call["function"]["name"] for call in message["tool_calls"]]


def test_a_call_joins_the_text_before_it() -> None:
    _, answer, result = turns(
        ASK, {"from": "gpt", "value": "I look."}, call("f"), {"from": "observation", "value": "y"}
    )
    assert ("assistant", "I look.", ["f"]) == (answer["role"], answer["content"], names(answer))
    assert "tool" == result["role"]


def test_calls_in_a_row_are_one_turn() -> None:
    _, answer = turns(ASK, call("f"), call("g"))
    assert ["f", "g"] == names(answer)


def test_a_call_after_a_result_opens_a_turn() -> None:
    found = turns(ASK, call("f"), {"from": "observation", "value": "y"}, call("g"), {"from": "gpt", "value": "Yes."})
    assert ["user", "assistant", "tool", "assistant", "assistant"] == [message["role"] for message in found]


def test_flags_of_both_are_kept_and_have_to_agree() -> None:
    _, answer = turns(ASK, {"from": "gpt", "value": "I look.", "weight": 1}, call("f", weight=1, train=True))
    assert (1, True) == (answer["weight"], answer["train"])
    with pytest.raises(RowError, match=r"conversations\[2\] is a call of the turn before it.*`weight`"):
        turns(ASK, {"from": "gpt", "value": "I look.", "weight": 1}, call("f", weight=0))


def test_ms_swift_roles_are_read_where_a_dataset_file_maps_them() -> None:
    spec = named_format("messages", roles={"tool_call": "function_call", "tool_response": "tool"})
    rows = [{"role": "user", "content": "Rain?"}, {"role": "tool_call", "content": '{"name": "w", "arguments": {}}'}]
    found = read_row({"messages": [*rows, {"role": "tool_response", "content": "wet"}]}, spec).messages
    assert ["user", "assistant", "tool"] == [message["role"] for message in found]


PARSED = named_format("messages", arguments="parse")


def with_arguments(arguments: Any, key: str = "tool_calls") -> dict[str, Any]:
    function = {"name": "f", "arguments": arguments}
    value = function if key == "function_call" else [{"type": "function", "function": function}]
    return {"messages": [{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": None, key: value}]}


@pytest.mark.parametrize(
    ("given", "read"), [('{"q": "tea"}', {"q": "tea"}), ({"q": 1}, {"q": 1}), ("", {}), (None, {})]
)
def test_arguments_are_parsed(given: Any, read: Any) -> None:
    row = with_arguments(given)
    assert read == read_row(row, PARSED).messages[1]["tool_calls"][0]["function"]["arguments"]
    assert given == read_row(row, named_format("messages")).messages[1]["tool_calls"][0]["function"]["arguments"]
    assert read == read_row(with_arguments(given, "function_call"), PARSED).messages[1]["function_call"]["arguments"]


@pytest.mark.parametrize(
    ("given", "reason"), [("{q: tea}", "not JSON"), ("[1]", "JSON text of a list"), ('"{}"', "dumped twice")]
)
def test_arguments_that_cannot_be_parsed_are_refused(given: str, reason: str) -> None:
    with pytest.raises(RowError, match=rf"tool_calls`\[0\]: `arguments`.*{reason}"):
        read_row(with_arguments(given), PARSED)


def test_content_that_is_text_becomes_a_part() -> None:
    spec = named_format("sharegpt", content_as="parts")
    row = {
        "system": "Be short.",
        "conversations": [{"from": "human", "value": "<image>Tea?"}, {"from": "gpt", "value": "Yes."}],
    }
    found = read_row({**row, "image": "a.png"}, spec).messages
    text = [{"type": "text", "text": "Be short."}]
    assert [text, [{"type": "text", "text": "Yes."}]] == [found[0]["content"], found[2]["content"]]
    assert ["image", "text"] == [part["type"] for part in found[1]["content"]]
    assert "Yes." == read_row(row, named_format("sharegpt")).messages[2]["content"]


@pytest.mark.parametrize(
    ("column", "message", "unused", "first"),
    [
        ("Speak Dutch.", "Be short.", ("system",), "Be short."),
        ("Be short.", "Be short.", (), "Be short."),
        ("", "Be short.", (), "Be short."),
        ("Speak Dutch.", None, (), "Speak Dutch."),
    ],
)
def test_a_system_column_beside_a_system_message(column: str, message: str | None, unused: Any, first: str) -> None:
    own = [] if message is None else [{"from": "system", "value": message}]
    found = read_row({"system": column, "conversations": [*own, ASK]}, SHAREGPT)
    assert (first, unused) == (found.messages[0]["content"], found.unused)


def test_an_object_without_anything_said_is_no_message() -> None:
    with pytest.raises(RowError, match="has no `content`"):
        read_row({"messages": [{"role": "user", "text": "Hi"}]}, named_format("messages"))
    for speaking in ({"audio": {"id": "a"}}, {"refusal": "No."}, {"thinking": "Hm"}, {"function_call": {"name": "f"}}):
        assert read_row({"messages": [{"role": "assistant", **speaking}]}, named_format("messages")).messages


def test_nothing_is_unused_unless_said() -> None:
    assert () == Conversation(messages=()).unused


@pytest.mark.parametrize(
    "message",
    [
        {"content": "Hi", "role": "tool", "name": "f", "tool_call_id": "1"},
        {"content": "", "tool_calls": [{"function": {"name": "f", "arguments": {}}}], "role": "gpt", "x": None},
        {"role": "user", "content": "Hi", "tool_calls": None, "reasoning_content": "Hm."},
        {"role": "user", "content": "Hi", "tool_calls": '[{"name": "f"}]'},
    ],
)
def test_messages_of_the_usual_names_are_read_as_any_others(message: dict[str, object]) -> None:
    class Other(dict[str, object]):
        """An object that is not taken as it is."""

    spec = named_format("messages", roles={"gpt": "assistant"})
    (made,) = read_list([message], spec, "messages")
    (expected,) = read_list([Other(message)], spec, "messages")
    assert list(expected.items()) == list(made.items())
    assert made is not message
