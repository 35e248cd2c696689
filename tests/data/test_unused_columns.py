"""Columns beside the conversation that look like a part of it, and that nothing reads."""

from __future__ import annotations

import json
import re
import warnings

import numpy as np
import pytest
import yaml

from policy_engine.core.errors import RowError
from policy_engine.data.conversation import read_row
from policy_engine.data.dataset import DatasetSpec, load_dataset_spec
from policy_engine.data.pairs import conversations_in
from policy_engine.data.shapes.detect import detect_format
from policy_engine.mask.masker import Masker
from policy_engine.mask.warner import UnusedColumnWarning
from policy_engine.rules.compile import compile_text

USER = {"role": "user", "content": "q"}
SCHEMA = {"type": "function", "function": {"name": "f", "parameters": {}}}
TALK = [USER, {"role": "assistant", "content": "a"}]
GPT = {"from": "gpt", "value": "a"}
HUMAN = {"from": "human", "value": "q"}


@pytest.mark.parametrize(
    ("row", "remedy", "text"),
    [
        ({"messages": TALK, "mcp_specs": [SCHEMA]}, "messages: {tools: mcp_specs}", None),
        ({"messages": TALK, "api": json.dumps([json.dumps(SCHEMA)])}, "messages: {tools: api}", None),
        ({"messages": TALK, "systemPrompt": "S."}, "messages: {system: systemPrompt}", "S."),
        ({"instruction": "q", "context": "C.", "output": "a"}, "messages: {input: context}", "q\nC."),
        (
            {"messages": [USER], "final_answer": "A."},
            "messages: {format: prompt_completion, prompt: messages, completion: final_answer}",
            "A.",
        ),
        (
            {"conversations": [HUMAN], "gold": "A."},
            "messages: {format: prompt_completion, prompt: conversations, completion: gold}",
            "A.",
        ),
    ],
)
def test_columns_are_known_by_what_they_hold_and_the_remedy_reads_them(row, remedy, text, tmp_path):
    (said,) = detect_format([row]).unused
    assert f"`{remedy}`" in said
    (tmp_path / "d.yaml").write_text(f"{remedy}\n")
    layout = load_dataset_spec(tmp_path / "d.yaml").format_of([row])
    read = read_row(row, layout)
    assert () == layout.unused
    assert read.tools if text is None else text in [message["content"] for message in read.messages]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": TALK, "tool_calls": [{"name": "f", "arguments": {}, "description": "d"}]},
        {"messages": TALK, "operating_system": "linux", "system_id": "3", "answer": "a"},
        {"messages": [{"role": "system", "content": "S."}, *TALK], "system_prompt": "S."},
        {"messages": TALK, "prompt": "q", "source": "s", "tags": ["x"]},
        {"conversations": [HUMAN, GPT], "system_prompt": None, "title": "t", "answers": ["a"]},
        {"messages": TALK, "embedding": np.zeros(3), "tools": np.zeros(3), 3: "x"},
    ],
)
def test_other_columns_are_not_named(row):
    assert () == detect_format([row]).unused


def test_a_question_that_the_prompt_repeats_is_not_left_over_whatever_its_quotes_and_lines():
    """Python prints a list with escapes, so that the text is in it only as JSON writes both."""
    asked = 'It\'s "A"\nor B?'
    answers = {"chosen": [{"role": "assistant", "content": "A"}], "rejected": [{"role": "assistant", "content": "B"}]}
    row = {"prompt": [{"role": "user", "content": asked}], "instruction": asked, **answers}
    assert () == detect_format([row]).unused
    assert () == detect_format([{**row, "prompt": json.dumps(row["prompt"])}]).unused
    assert "`instruction` is not used" in detect_format([{**row, "instruction": "Be kind."}]).unused[0]


def test_context_of_questions_in_messages_has_to_go_into_them():
    """The option `input` is for a question that is text; with messages it is refused, also where answers have them."""
    answers = {"chosen": [USER, TALK[1]], "rejected": [USER, {"role": "assistant", "content": "b"}]}
    for row in ({"prompt": [USER], "completion": [TALK[1]], "context": "Rome."}, {**answers, "context": "Rome."}):
        found = detect_format([row])
        assert ("column `context` is not used: the questions are in lists of messages; put its text into them",) == (
            found.unused
        )
        for option, given in (("input", {}), ("history", {"context": [["x", "y"]]})):
            declared = DatasetSpec(kind=found.kind, names={option: "context"}).format_of([row])
            with pytest.raises(RowError, match="`context` holds has no place in it") as error:
                conversations_in({**row, **given}, declared)
            assert f"{option}: null" in error.value.help


def test_the_remedy_for_preferences_keeps_earlier_turns():
    row = {"instruction": "i", "history": [["x", "y"]], "chosen": "a", "rejected": "b"}
    declared = re.search(r"`messages: ({.*?})` in a dataset file", detect_format([row]).description)
    names = yaml.safe_load(declared[1])
    alone = DatasetSpec(kind=names.pop("format"), names=names).format_of([row])
    assert ["x", "y", "i", "a"] == [message["content"] for message in read_row(row, alone).messages]


def test_a_dataset_file_that_leaves_columns_over_says_so_too():
    row = {"dialogue": TALK, "tool_defs": [SCHEMA], "system_prompt": "S."}
    spec = DatasetSpec(names={"field": "dialogue", "role": "role", "content": "content"})
    assert 2 == len(spec.format_of([row]).unused)
    switched_off = DatasetSpec(names={**spec.names, "tools": None, "system": None})
    assert () == switched_off.format_of([row]).unused


def test_maskers_warn_of_columns_that_are_left_over():
    masker = Masker(compile_text("train assistant"), "builtin")
    with pytest.warns(UnusedColumnWarning, match="`system_prompt` is not used"):
        masker.batch({"messages": [TALK], "system_prompt": ["S."]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        masker.batch({"messages": [TALK], "system_prompt": ["S."]})
