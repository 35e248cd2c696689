"""Rows of every known shape become conversations; a row of no known shape says what is wrong with it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.core.errors import RowError
from policy_engine.data.conversation import read_row, without_null_fields
from policy_engine.data.formats import Format, named_format

OPENAI = named_format("messages")
SHAREGPT = named_format("sharegpt")
ALPACA = named_format("alpaca")
PAIR = named_format("prompt_completion")


def messages(row, spec=OPENAI):
    return [dict(m) for m in read_row(row, spec).messages]


class TestOpenAI:
    def test_messages_are_kept_as_they_are(self):
        row = {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "image"}], "name": "ann"},
                {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": {}}}]},
                {"role": "tool", "content": "3", "tool_call_id": "a"},
                {"role": "assistant", "content": "", "reasoning_content": "r", "reasoning": "s", "thinking": "t"},
                {"role": "narrator", "content": "x", "train": False, "meta": {"k": [1, None]}},
            ],
            "source": "web",
        }
        conversation = read_row(row, OPENAI)
        assert row["messages"] == [dict(m) for m in conversation.messages]
        assert conversation.sample["source"] == "web"

    def test_string_arguments_of_a_call_stay_a_string(self):
        call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
        (message,) = messages({"messages": [{"role": "assistant", "tool_calls": [call]}]})
        assert [call] == message["tool_calls"]

    def test_a_null_in_the_data_stays_visible(self):
        (message,) = messages({"messages": [{"role": "assistant", "content": None, "train": None}]})
        assert {"role": "assistant", "content": None, "train": None} == message

    def test_messages_as_json_text(self):
        assert [{"role": "user", "content": "a"}] == messages({"messages": '[{"role": "user", "content": "a"}]'})

    def test_a_row_that_is_a_list_of_messages(self):
        assert [{"role": "user", "content": "a"}] == messages([{"role": "user", "content": "a"}])

    def test_renamed_columns_keys_and_roles(self):
        spec = named_format(
            "messages",
            field="data.turns",
            role="speaker",
            content="said",
            reasoning="thoughts",
            roles={"bot": "assistant"},
        )
        row = {"data": {"turns": [{"speaker": "bot", "said": "a", "thoughts": "b", "k": 1}]}}
        assert [{"role": "assistant", "content": "a", "reasoning_content": "b", "k": 1}] == messages(row, spec)

    def test_reading_does_not_change_the_row(self):
        row = {"conversations": [{"from": "function_call", "value": '{"name": "f", "arguments": {}}'}], "tools": "[]"}
        before = json.dumps(row)
        read_row(row, SHAREGPT)
        assert before == json.dumps(row)


class TestBesideTheMessages:
    @pytest.mark.parametrize("as_text", [False, True])
    def test_tools_documents_and_template_arguments(self, as_text):
        tools = [{"type": "function", "function": {"name": "f"}}]
        documents = [{"title": "t", "text": "x"}]
        kwargs = {"enable_thinking": False}
        dump = json.dumps if as_text else lambda value: value
        row = {
            "messages": [{"role": "user", "content": "a"}],
            "tools": dump(tools),
            "documents": dump(documents),
            "chat_template_kwargs": dump(kwargs),
        }
        spec = named_format("messages", template_kwargs={"enable_thinking": True, "date": "1 May"})
        conversation = read_row(row, spec)
        assert tools == list(conversation.tools)
        assert documents == list(conversation.documents)
        assert {"enable_thinking": False, "date": "1 May"} == conversation.template_kwargs

    @pytest.mark.parametrize("empty", [None, "", "null", "  "])
    def test_empty_means_none(self, empty):
        assert read_row({"messages": [{"role": "user", "content": "a"}], "tools": empty}, OPENAI).tools is None

    @pytest.mark.parametrize("empty", ["[]", []])
    def test_an_empty_list_of_tools_is_a_list(self, empty):
        # transformers gives it to the template, and some write other text then.
        assert () == read_row({"messages": [{"role": "user", "content": "a"}], "tools": empty}, OPENAI).tools

    def test_sharegpt_functions_are_wrapped(self):
        row = {"conversations": [{"from": "human", "value": "a"}], "tools": '[{"name": "f", "parameters": {}}]'}
        expected = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
        assert expected == list(read_row(row, SHAREGPT).tools)


class TestShareGPT:
    def test_authors_become_roles(self):
        row = {
            "system": "S",
            "conversations": [
                {"from": "human", "value": "q", "weight": 0},
                {"from": "gpt", "value": "a"},
                {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1}}'},
                {"from": "observation", "value": "7"},
                {"from": "narrator", "value": "b"},
            ],
        }
        assert [
            {"role": "system", "content": "S"},
            {"role": "user", "content": "q", "weight": 0},
            {
                "role": "assistant",
                "content": "a",
                "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}],
            },
            {"role": "tool", "content": "7"},
            {"role": "narrator", "content": "b"},
        ] == messages(row, SHAREGPT)

    def test_several_calls_in_one_turn(self):
        value = json.dumps([{"name": "f", "arguments": {}}, {"name": "g", "arguments": "{}"}])
        (message,) = messages({"conversations": [{"from": "function_call", "value": value}]}, SHAREGPT)
        assert ["f", "g"] == [call["function"]["name"] for call in message["tool_calls"]]

    def test_a_system_message_in_the_list_wins_over_the_column(self):
        row = {"system": "S", "conversations": [{"from": "system", "value": "T"}, {"from": "human", "value": "q"}]}
        assert ["T", "q"] == [m["content"] for m in messages(row, SHAREGPT)]


class TestAlpaca:
    def test_instruction_input_output_system_history(self):
        row = {"instruction": "Add", "input": "1 2", "output": "3", "system": "S", "history": [["q", "a"]]}
        assert [("system", "S"), ("user", "q"), ("assistant", "a"), ("user", "Add\n1 2"), ("assistant", "3")] == [
            (m["role"], m["content"]) for m in messages(row, ALPACA)
        ]

    @pytest.mark.parametrize("given_input", [{}, {"input": ""}, {"input": None}])
    def test_without_input(self, given_input):
        row = {"instruction": "Add", "output": "3", **given_input}
        assert ["Add", "3"] == [m["content"] for m in messages(row, ALPACA)]


class TestPromptCompletion:
    def test_strings(self):
        row = {"prompt": "q", "completion": "a"}
        assert [("user", "q"), ("assistant", "a")] == [(m["role"], m["content"]) for m in messages(row, PAIR)]

    def test_message_lists(self):
        row = {
            "prompt": [{"role": "system", "content": "S"}, {"role": "user", "content": "q"}],
            "completion": [{"role": "assistant", "content": "a"}],
        }
        assert row["prompt"] + row["completion"] == messages(row, PAIR)

    def test_messages_with_a_plain_answer(self):
        row = {"prompt": [{"role": "user", "content": "q"}], "completion": "a"}
        assert [("user", "q"), ("assistant", "a")] == [(m["role"], m["content"]) for m in messages(row, PAIR)]


BROKEN = [
    (OPENAI, 3, "the row is a number, not an object"),
    (OPENAI, {"text": "a"}, "column `messages` with the messages is missing; the row's columns are `text`"),
    (OPENAI, {"messages": None}, "column `messages` with the messages is null"),
    (OPENAI, {"messages": {"role": "user"}}, "column `messages` is an object, not a list of messages"),
    (OPENAI, {"messages": []}, "the conversation has no messages"),
    (OPENAI, {"messages": ["hi"]}, "messages[0] is text, not an object with `role` and `content`"),
    (
        OPENAI,
        {"messages": [{"role": "user", "content": "a"}, {"content": "b", "name": "c"}]},
        "messages[1] has no `role`; its keys are `content`, `name`",
    ),
    (OPENAI, {"messages": [{"role": 1, "content": "a"}]}, "messages[0]: `role` is a number"),
    (OPENAI, {"messages": [{"role": "", "content": "a"}]}, "messages[0]: `role` is empty"),
    (
        OPENAI,
        {"messages": [{"role": "user", "text": "a"}]},
        "messages[0] has no `content`; its keys are `role`, `text`",
    ),
    (OPENAI, {"messages": [{"role": "user", "content": 4}]}, "messages[0]: `content` is a number"),
    (OPENAI, {"messages": [{"role": "tool", "content": {"t": 1}}]}, "messages[0]: `content` is an object"),
    (OPENAI, {"messages": [{"role": "user", "content": ["a"]}]}, "messages[0]: `content`[0] is text"),
    (OPENAI, {"messages": [{"role": "user", "content": [{"text": 1}]}]}, "`content`[0]: `text` is a number"),
    (OPENAI, {"messages": [{"role": "assistant", "tool_calls": "f()"}]}, "`tool_calls` is text, not a list of calls"),
    (OPENAI, {"messages": [{"role": "assistant", "tool_calls": [3]}]}, "`tool_calls`[0] is a number"),
    (
        OPENAI,
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "a"}]}]},
        "names no function; its keys are `id`",
    ),
    (
        OPENAI,
        {"messages": [{"role": "user", "content": "a"}], "tools": "f, g"},
        "column `tools` is text that is not JSON",
    ),
    (OPENAI, {"messages": [{"role": "user", "content": "a"}], "tools": {"f": 1}}, "column `tools` is an object"),
    (
        OPENAI,
        {"messages": [{"role": "user", "content": "a"}], "tools": ["f"]},
        "column `tools`[0] is text that is not",
    ),
    (
        OPENAI,
        {"messages": [{"role": "user", "content": "a"}], "chat_template_kwargs": [1]},
        "column `chat_template_kwargs` is a list; it has to be an object",
    ),
    (SHAREGPT, {"conversations": [{"from": "function_call", "value": "f(1)"}]}, "the call in `value` is not JSON"),
    (SHAREGPT, {"conversations": [{"from": "function_call", "value": '{"f": 1}'}]}, "found keys `f`"),
    (SHAREGPT, {"conversations": [{"from": "human", "value": "a"}], "system": 3}, "column `system` is a number"),
    (SHAREGPT, {"conversations": [{"from": "human", "value": "a", "role": "user"}]}, "has both `from`"),
    (ALPACA, {"instruction": "a", "output": None}, "column `output` is null; it has to be text"),
    (ALPACA, {"instruction": "a"}, "column `output` is missing; it has to be text"),
    (ALPACA, {"instruction": "a", "output": "b", "history": [["q"]]}, "`history[0]` is not a [question, answer] pair"),
    (PAIR, {"prompt": "a", "completion": 3}, "column `completion` is a number"),
    (PAIR, {"prompt": [{"content": "a"}], "completion": "b"}, "prompt[0] has no `role`"),
]


@pytest.mark.parametrize(("spec", "row", "reason"), BROKEN, ids=[reason[:50] for _, _, reason in BROKEN])
def test_a_row_of_unknown_shape_says_where_and_what(spec: Format, row, reason: str):
    with pytest.raises(RowError) as caught:
        read_row(row, spec, 7)
    assert str(caught.value).startswith("row 7: ")
    assert reason in caught.value.message
    assert caught.value.help


@pytest.mark.parametrize(
    ("spec", "row", "meant"),
    [
        (OPENAI, {"messages": [{"rol": "user", "content": "a"}]}, "did you mean `role` where it says `rol`?"),
        (OPENAI, {"messages": [{"role": "user", "contnet": "a"}]}, "`messages: {content: contnet}`"),
        (OPENAI, {"messages": [{"role": "user", "text": "a"}]}, "`messages: {content: text}`"),
        (OPENAI, {"messages": [{"speaker": "user", "content": "a"}]}, "`messages: {role: speaker}`"),
        (OPENAI, {"message": [{"role": "user", "content": "a"}]}, "`messages: {field: message}`"),
        (OPENAI, {"messages": [{"a": 1}]}, "say in a dataset file which key has it: `messages: {role: NAME}`"),
        (named_format("alpaca"), {"instruction": "a", "outptu": "b"}, "`messages: {output: outptu}`"),
        (named_format("prompt_completion"), {"prompt": "a", "answer": "b"}, "`messages: {completion: answer}`"),
    ],
)  # fmt: skip
def test_a_key_that_is_not_there_is_looked_for_among_those_that_are(spec: Format, row, meant: str):
    with pytest.raises(RowError) as caught:
        read_row(row, spec)
    assert meant in str(caught.value.help)


def test_the_number_is_left_out_where_none_is_known():
    with pytest.raises(RowError) as caught:
        read_row({"messages": []}, OPENAI)
    assert "the conversation has no messages" == caught.value.message


def test_null_fields_of_structs_are_dropped_but_not_content():
    row = {
        "messages": [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1, "b": None}}}],
            },
            {"role": "user", "content": "x", "tool_calls": None},
        ]
    }
    assert {
        "messages": [
            {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]},
            {"role": "user", "content": "x"},
        ]
    } == without_null_fields(row)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["messages", "conversations", "role", "from", "content", "value", "tool_calls", "tools", "x"]
            ),
            inner,
        )
    ),
    max_leaves=12,
)


@given(json_values, st.sampled_from([OPENAI, SHAREGPT, ALPACA, PAIR]))
def test_any_row_is_read_or_refused(row, spec):
    """Never another exception, and what is read has the promised shape."""
    try:
        conversation = read_row(row, spec, 1)
    except RowError as caught:
        error: RowError | None = caught
    else:
        error = None
    if error is not None:
        assert str(error).startswith("row 1: ")
        assert error.help
        return
    assert conversation.messages
    for message in conversation.messages:
        assert isinstance(message["role"], str)
        assert isinstance(message.get("content"), str | list | tuple | None)
