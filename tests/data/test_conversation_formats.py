"""The format is detected from the data, and what was detected is said aloud."""

from __future__ import annotations

import pytest

from policy_engine.core.errors import ConfigError, RowError
from policy_engine.data.conversation import read_row
from policy_engine.data.formats import named_format
from policy_engine.data.shapes.detect import detect_format

USER = {"role": "user", "content": "a"}
BOT = {"role": "assistant", "content": "b"}
DETECTED = [
    ({"messages": [USER, BOT]}, "messages", "read as OpenAI messages: column `messages`"),
    ({"id": 1, "dialog": [USER]}, "messages", "column `dialog`"),
    ({"payload": [USER]}, "messages", "column `payload`"),
    ({"messages": '[{"role": "user", "content": "a"}]'}, "messages", "column `messages`"),
    ([USER, BOT], "messages", "column `messages`"),
    ({"conversations": [{"from": "human", "value": "a"}]}, "sharegpt", "authors `human` as user"),
    ({"messages": [{"from": "human", "value": "a"}]}, "sharegpt", "column `messages`"),
    ({"instruction": "a", "input": "", "output": "b"}, "alpaca", "columns `instruction` and `output`"),
    ({"prompt": "a", "completion": "b"}, "prompt_completion", "columns `prompt` and `completion`"),
    ({"prompt": "a", "response": "b"}, "prompt_completion", "columns `prompt` and `response`"),
    ({"prompt": [USER], "completion": [BOT]}, "prompt_completion", "columns `prompt` and `completion`"),
]


@pytest.mark.parametrize(("row", "kind", "said"), DETECTED)
def test_detected_and_said(row, kind, said):
    found = detect_format([row])
    assert kind == found.kind
    assert said in found.description
    assert "(1 of 1 row looked at)" in found.description


def test_most_rows_decide_and_the_others_are_mentioned():
    found = detect_format([{"text": "x"}, {"messages": [USER]}, {"messages": [USER]}, 3])
    assert "messages" == found.kind
    assert "2 of 4 rows looked at; 2 with another shape" in found.description


def test_an_empty_or_broken_first_row_does_not_hide_the_format():
    assert "messages" == detect_format([{"messages": []}, {"messages": [{}, USER]}]).kind


def test_columns_that_are_used_are_said():
    row = {"conversations": [{"from": "gpt", "value": "a"}], "system": "S", "tools": "[{}]"}
    said = detect_format([row]).description
    assert "`gpt` as assistant" in said
    assert "system message from column `system`" in said
    assert "tools from column `tools`" in said


def test_a_system_column_beside_openai_messages_is_not_used_in_silence():
    assert "column `system` is not used" in detect_format([{"messages": [USER], "system": "S"}]).description


def test_foreign_authors_in_openai_messages_are_pointed_out():
    row = {"messages": [{"role": "human", "content": "a"}, {"role": "gpt", "content": "b"}]}
    found = detect_format([row])
    assert "no author is called `assistant`" in found.description
    assert {} == dict(found.roles)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([], "no row could be read"),
        ([3], "a row is a number, not an object"),
        ([{"text": "a", "n": 3}], "their columns are `text` (text), `n` (a number)"),
        ([{"first": [USER], "second": [USER]}], "columns `first` and `second` all hold messages"),
    ],
)
def test_nothing_detected_says_what_was_seen_and_what_to_do(rows, reason):
    with pytest.raises(ConfigError) as caught:
        detect_format(rows)
    assert reason in caught.value.message
    assert caught.value.help


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"messages": [USER], "functions": "[{}]"}, "`messages: {tools: functions}`"),
        ({"messages": [USER], "tool_defs": [{"name": "f"}]}, "column `tool_defs` is not used"),
        ({"messages": [USER], "system_prompt": "S"}, "`messages: {system: system_prompt}`"),
        ({"conversations": [{"from": "human", "value": "q"}], "system_prompt": "S"}, "`system_prompt` is not used"),
        ({"instruction": "q", "output": "a", "system_prompt": "S"}, "`system_prompt` is not used"),
        ({"prompt": [USER], "messages": [{"role": "assistant", "content": "a"}]}, "open with an answer, and column"),
        (
            {"messages": [USER], "answer": "a"},
            "`messages: {format: prompt_completion, prompt: messages, completion: answer}`",
        ),
        ({"messages": [USER], "chosen": [{"role": "assistant", "content": "a"}]}, "completion: chosen}`"),
    ],
)  # fmt: skip
def test_columns_that_are_left_over_are_named(row, said):
    assert said in detect_format([row]).description


def test_columns_that_say_nothing_of_the_conversation_are_not_named():
    row = {"messages": [USER, {"role": "assistant", "content": "a"}], "answer": "a", "functions": [], "id": 1}
    assert "not used" not in detect_format([row]).description
    assert (
        "not used"
        not in detect_format([{"messages": [USER], "tools": [{"name": "f"}], "functions": "[{}]"}]).description
    )


def test_a_system_column_gives_way_to_a_system_message():
    talk = [{"from": "system", "value": "s"}, {"from": "human", "value": "q"}]
    rows = [{"system": "S", "conversations": talk}, {"system": "S", "conversations": talk[1:]}]
    said = detect_format(rows).description
    assert "system message from column `system`, not used in 1 row that opens with a system message" in said


@pytest.mark.parametrize(
    ("row", "help"),
    [
        ({"prompt": [USER], "chosen": [BOT], "other": [BOT]}, "prompt: prompt, completion: chosen"),
        ({"prompt": "q", "chosen": "a"}, "prompt: prompt, completion: chosen"),
        ({"chosen": [USER, BOT], "other": [USER, BOT]}, "`messages: {field: chosen}`"),
        ({"question": "q", "answer": "a"}, "prompt: question, completion: answer"),
        ({"prompt": [USER], "chosen": [USER, BOT], "other": [USER, BOT]}, "`messages: {field: chosen}`"),
    ],
)
def test_the_help_names_a_reading(row, help):
    with pytest.raises(ConfigError) as caught:
        detect_format([row])
    assert help in caught.value.help


def test_a_declared_question_and_answer_are_read():
    spec = named_format("prompt_completion", prompt="messages", completion="chosen")
    assert [USER, BOT] == [dict(m) for m in read_row({"messages": [USER], "chosen": [BOT]}, spec).messages]


@pytest.mark.parametrize("text", [repr([USER]), "[{role: user}]"])
def test_text_that_is_not_json_is_called_that(text):
    with pytest.raises(ConfigError, match="column `messages` is text that is not JSON"):
        detect_format([{"messages": text}])
    with pytest.raises(RowError, match="column `messages` is text that is not JSON"):
        read_row({"messages": text}, named_format("messages"))
