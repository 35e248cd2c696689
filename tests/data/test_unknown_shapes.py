"""Data of no known shape: the help is a dataset file that reads it, or says what to change in the data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from policy_engine.core.errors import ConfigError, RowError
from policy_engine.data.dataset import Beside, DatasetSpec, load_dataset_spec
from policy_engine.data.formats import named_format
from policy_engine.data.messages import read_list
from policy_engine.data.pairs import conversations_in
from policy_engine.data.shapes.detect import detect_format
from policy_engine.mask.batch import rows_of_columns

HI, YO = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}


def help_for(row: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        detect_format([row])
    return str(caught.value.help)


@pytest.mark.parametrize(
    "row",
    [
        {"q": "hi", "a": "yo"},
        {"Human": "hi", "Assistant": "yo"},
        {"query": "hi", "reply": "yo", "id": "7"},
        {"problem": "hi", "solution": "yo", "answer": "4"},
        {"prompt": "hi", "output": "yo"},
        {"input": "hi", "chosen": "yo", "rejected": "no"},
        {"question": "hi", "input": "", "chosen": "yo", "rejected": "no"},
        {"text": "hi", "answer": "yo"},
        {"prompt": "hi", "chosen": "yo", "reject": "no"},
        {"question": "hi", "response_chosen": "yo", "response_rejected": "no"},
        {"query": "hi", "response": "yo", "rejected_response": "no"},
        {"ask": "hi", "goodReply": "yo", "badReply": "no", "score": 3},
        {"preferred": [HI, YO], "other_bad": [HI, {"role": "assistant", "content": "no"}]},
        {"dialogues": [{"speaker": "user", "text": "hi"}, {"speaker": "assistant", "text": "yo"}]},
    ],
)
def test_the_dataset_file_that_the_help_shows_reads_the_row(tmp_path: Path, row: dict[str, Any]) -> None:
    declared = re.findall(r"`(messages: \{.*?\})`", help_for(row))
    (tmp_path / "data.yaml").write_text(declared[0])
    layout = load_dataset_spec(tmp_path / "data.yaml").format_of([row])
    (_, conversation), *_ = conversations_in(row, layout)
    assert [HI, YO] == [dict(message) for message in conversation.messages]


@pytest.mark.parametrize(
    ("row", "help"),
    [
        ({"text": "<|im_start|>user\nhi<|im_end|>"}, "`text` does not say who wrote which part of it"),
        ({"dialog": ["hi", "yo"]}, 'write each message in `dialog` as an object, such as `{"role": "user"'),
        ({"messages": [["user", "hi"]]}, "write each message in `messages` as an object"),
        ({"conversation": [{"user": "hi", "assistant": "yo"}]}, "write each message in `conversation` as an object"),
        ({"question": "hi", "answers": ["yo", "no"]}, "completion: NAME}`; the answer has to be text, or a list"),
        ({"chosen": "yo", "rejected": "no"}, "no column says what they answer: add it as `prompt`, or write both"),
        (
            {"first": "hi", "second": "hi", "chosen": "yo", "rejected": "no"},
            "`messages: {format: preference, prompt: NAME}`; NAME is one of `first`, `second`",
        ),
        (
            {"chosen": "\n\nHuman: hi\n\nAssistant: yo", "rejected": "\n\nHuman: hi\n\nAssistant: no"},
            "are conversations as text (HH-RLHF): split them at the speakers",
        ),
        ({"text": "Once upon a time.", "url": "u", "date": "d"}, "Text to pretrain on needs no policy"),
        ({"text": "[INST] hi [/INST]", "source": "s"}, "a template wrote it; give the messages that it was made of"),
    ],
)
def test_what_no_dataset_file_can_name_is_said(row: dict[str, Any], help: str) -> None:
    assert help in help_for(row)


def test_text_among_conversations_is_called_that() -> None:
    with pytest.raises(RowError, match="column `messages` with the messages is missing") as caught:
        conversations_in({"text": "Once upon a time."}, named_format("messages"))
    assert "Text to pretrain on needs no policy" in str(caught.value.help)


def test_a_pair_without_its_prompt_names_the_column_that_may_have_it(tmp_path: Path) -> None:
    row = {"question": "hi", "chosen": "yo", "rejected": "no"}
    with pytest.raises(RowError) as caught:
        conversations_in(row, named_format("preference"))
    (tmp_path / "data.yaml").write_text(re.findall(r"`(messages: .*?)`", str(caught.value.help))[0])
    pair = conversations_in(row, load_dataset_spec(tmp_path / "data.yaml").format_of([row]))
    assert [["hi", "yo"], ["hi", "no"]] == [[m["content"] for m in told.messages] for _, told in pair]


@pytest.mark.parametrize(
    ("field", "name", "value"),
    [("messages", "prompt", "hi"), ("messages", "question", [HI]), ("conversation", "context", [HI])],
)
def test_messages_before_conversations_that_open_with_an_answer_are_named(
    tmp_path: Path, field: str, name: str, value: Any
) -> None:
    row = {field: [YO], name: value}
    said = detect_format([row]).description
    assert f"the conversations open with an answer, and column `{name}` is not used" in said
    (tmp_path / "data.yaml").write_text(re.findall(r"`(messages: .*?)`", said)[0])
    (_, read), *_ = conversations_in(row, load_dataset_spec(tmp_path / "data.yaml").format_of([row]))
    assert [HI, YO] == [dict(message) for message in read.messages]


def test_keys_that_the_messages_lack_are_not_said_to_be_there() -> None:
    said = detect_format([{"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}]).description
    assert "holds lists of objects with `role` (1 of 1 row looked at)" in said


def test_a_list_in_sharegpts_keys_and_a_dataset_are_named() -> None:
    with pytest.raises(RowError) as caught:
        DatasetSpec().read_given([{"from": "human", "value": "hi"}], Beside())
    assert "`messages: {format: sharegpt}` in a dataset file reads them" in str(caught.value.help)
    datasets = pytest.importorskip("datasets")
    with pytest.raises(RowError, match="the masker got a dataset") as caught:
        DatasetSpec().read_given(datasets.Dataset.from_list([{"messages": [HI, YO]}]), Beside())
    assert "say `dataset.map(masker.batch, batched=True)`" == caught.value.help


@pytest.mark.parametrize("field", ["tool_results", "tool_responses", "refusal", "reasoning_content", "images"])
def test_a_message_of_any_field_but_labels_is_a_message(field: str) -> None:
    (made,) = read_list([{"role": "tool", field: ["yo"]}], named_format("messages"), "messages")
    assert {"role": "tool", field: ["yo"]} == made


@pytest.mark.parametrize("field", ["text", "name", "tool_call_id", "train"])
def test_a_message_of_labels_alone_is_refused(field: str) -> None:
    with pytest.raises(RowError, match=r"messages\[0\] has no `content`; its keys are `role`"):
        read_list([{"role": "tool", field: "yo"}], named_format("messages"), "messages")


def test_datasets_in_the_format_of_numpy_or_arrow_are_named() -> None:
    with pytest.raises(ConfigError, match=r"their columns are `messages` \(a ndarray\)") as caught:
        detect_format([{"messages": np.array([HI, YO], dtype=object)}])
    assert "say `dataset.with_format(None)`, and `map` that" in str(caught.value.help)
    with pytest.raises(ConfigError, match=r"`masker.batch` got `pyarrow\.Table`, not columns by name") as caught:
        rows_of_columns(pa.table({"messages": [[HI, YO]]}))
    assert "dataset.with_format(None).map(masker.batch, batched=True)" in str(caught.value.help)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"role": "model", "parts": [{"text": "Yes."}]}, "the role `model` as `assistant`"),
        ({"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]}, "a `functionCall` as `tool_calls`"),
        (
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            "a `function_call` as `tool_calls`",
        ),
        ({"type": "function_call_output", "call_id": "c", "output": "x"}, "a message of role `tool`"),
        ({"type": "reasoning", "summary": []}, "`reasoning` as `reasoning_content`"),
    ],
)
def test_messages_of_other_interfaces_are_named(message: dict[str, Any], said: str) -> None:
    with pytest.raises(RowError, match=r"messages\[1\] has no `(role|content)`") as caught:
        read_list([HI, message], named_format("messages"), "messages")
    assert said in str(caught.value.help)


def test_a_type_that_is_no_text_is_an_error_of_its_row() -> None:
    with pytest.raises(RowError, match=r"messages\[1\] has no `role`"):
        read_list([HI, {"content": [{"type": ["text"]}]}], named_format("messages"), "messages")


def test_columns_of_openais_responses_are_named() -> None:
    asked = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}]
    with pytest.raises(ConfigError) as caught:
        detect_format([{"input": asked, "output": [{"type": "function_call", "name": "f"}, {**asked[0], **YO}]}])
    assert "this is an item of OpenAI's Responses" in str(caught.value.help)


@pytest.mark.parametrize(
    ("rows", "help"),
    [
        (["Water boils.", "Ice melts."], "a row of text does not say who wrote which part of it. Text to pretrain on"),
        (["<|im_start|>user\nHi<|im_end|>"], "who wrote which part of it: a template wrote it; give the messages"),
        (['{"messages": []}'], "JSON text in JSON text: they were dumped twice; dump them once"),
        ([3, None], 'write each row as an object: `{"messages": [{"role": "user", "content": …}'),
    ],
)
def test_rows_without_columns_are_not_asked_for_the_names_of_columns(rows: list[Any], help: str) -> None:
    with pytest.raises(ConfigError) as caught:
        detect_format(rows)
    assert help in str(caught.value.help)
    assert "name the columns" not in str(caught.value.help)
