"""Tools, documents, template arguments and messages that are given: read as what they are, or refused by name."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest

from policy_engine.core.errors import ConfigError, MediaError, RowError
from policy_engine.data.conversation import Conversation, read_row
from policy_engine.data.dataset import DatasetSpec, load_dataset_spec
from policy_engine.data.formats import named_format
from policy_engine.data.given import APPLY_ARGUMENTS, given_messages, given_tools
from policy_engine.mask.masker import Masker
from policy_engine.rules.compile import compile_text

CHAT = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "x"}]
TOOL = {"type": "function", "function": {"name": "find", "description": "d", "parameters": {"type": "object"}}}
ASKING = {
    "truncation": True, "padding": "max_length", "max_length": 4, "add_generation_prompt": True,
    "tokenizer_kwargs": {"stride": 1},
    "return_tensors": "pt", "messages": CHAT, "chat_template": "x", "tools": [TOOL], "documents": [{"text": "d"}],
}  # fmt: skip


@pytest.fixture(scope="module")
def masker() -> Masker:
    return Masker(compile_text("train assistant; on unrendered ignore"), "builtin")


@pytest.mark.parametrize("name", ASKING)
def test_arguments_of_apply_chat_template_are_refused_wherever_they_come_from(name, masker, tmp_path) -> None:
    value = ASKING[name]
    reason = f"`{name}` is an argument of `apply_chat_template`"
    if name not in ("messages", "tools", "documents"):  # parameters of the masker's own
        with pytest.raises(RowError, match=reason):
            masker(CHAT, **{name: value})
    with pytest.raises(RowError, match=reason):
        read_row({"messages": CHAT, "chat_template_kwargs": {name: value}}, named_format("messages"))
    with pytest.raises(RowError, match=reason):
        Masker(masker.program, masker.tokenizer, dataset=DatasetSpec(template_kwargs={name: value}))(CHAT)
    file = tmp_path / "data.yaml"
    file.write_text(f"template_kwargs:\n  enable_thinking: false\n  {name}: {json.dumps(value)}\n")
    with pytest.raises(ConfigError, match=rf"(?s){file}:3.*{reason}"):
        load_dataset_spec(file)


@pytest.mark.parametrize("name", APPLY_ARGUMENTS)
@pytest.mark.parametrize("value", [False, None])
def test_what_changes_nothing_is_left_out(name: str, value: Any) -> None:
    found = Conversation(messages=tuple(CHAT), template_kwargs={name: value, "enable_thinking": False})
    assert {"enable_thinking": False} == found.template_kwargs


def test_ids_are_those_of_transformers_with_a_variable_of_the_template(masker) -> None:
    tokenizer = masker.tokenizer.tokenizer
    source = "{{ extra }}{% for m in messages %}{{ m.content }}{% endfor %}"
    own = Masker(masker.program, "builtin", template=source)
    theirs = tokenizer.apply_chat_template(CHAT, chat_template=source, tokenize=True, return_dict=False, extra="E")
    assert list(theirs) == list(own(CHAT, extra="E").input_ids)


@pytest.mark.parametrize(
    "given", [[TOOL], (TOOL,), json.dumps([TOOL]), [json.dumps(TOOL)], json.dumps([json.dumps(TOOL)])]
)
def test_tools_as_data_or_as_text(given: Any) -> None:
    assert (TOOL,) == given_tools(given, "`tools`")


def look(city: str) -> str:
    """Looks something up.

    Args:
        city: the city
    """
    return city


def test_python_functions_are_tools_for_the_masker(masker) -> None:
    assert (look,) == given_tools([look], "`tools`", functions=True)
    assert "Looks something up." in masker(CHAT, tools=[look]).chat.text
    with pytest.raises(RowError, match="is a function, not a tool schema"):
        given_tools([look], "`tools`")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (TOOL, "is an object, not a list of tool schemas"),
        ("find", "text that is not JSON"),
        (repr([TOOL]), "what Python prints"),
        ([3], r"\[0\] is a number, not a tool schema"),
        ([{"city": "Paris"}], r"\[0\] is no tool schema"),
        (7, "is a number, not a list of tool schemas"),
        ([TOOL, None], r"\[1\] is null, not a tool schema"),
    ],
)
def test_anything_but_schemas_is_refused(given: Any, reason: str, masker) -> None:
    with pytest.raises(RowError, match=reason):
        masker(CHAT, tools=given)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (None, "the masker got null"),
        (3, "the masker got a number"),
        ({"messages": CHAT}, "an object with the keys `messages`"),
        ("Hello", "text that is not JSON"),
        (repr(CHAT), "what Python prints for a list"),
    ],
)
def test_what_is_not_a_list_of_messages_is_refused(given: Any, reason: str, masker) -> None:
    with pytest.raises(RowError, match=reason):
        masker(given)


def test_messages_as_json_text_are_read(masker) -> None:
    assert masker(CHAT).input_ids == masker(json.dumps(CHAT)).input_ids
    assert CHAT == given_messages(iter(CHAT))


def test_nulls_of_arrow_count_as_absent(masker) -> None:
    datasets = pytest.importorskip("datasets")
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"x": "1", "y": None}}}
    rows = [
        {"messages": [*CHAT, CHAT[0], {"role": "assistant", "content": None, "tool_calls": [call]}]},
        {"messages": [{"role": "user", "content": "b"}, {"role": "assistant", "content": "c", "train": True}]},
    ]  # fmt: skip
    data = datasets.Dataset.from_list(rows)
    policy = compile_text("train assistant; mask assistant where has message.train; on unrendered ignore")
    own = Masker(policy, masker.tokenizer)
    single = own(data[0]["messages"])
    batch = own.batch(data[:1])
    assert list(batch["input_ids"][0]) == list(single.input_ids)
    assert list(batch["labels"][0]) == list(single.labels)
    assert "null" not in single.chat.text


def test_one_masker_for_several_shapes_of_data(masker) -> None:
    own = Masker(masker.program, masker.tokenizer)
    shapes = [
        {"conversations": [[{"from": "human", "value": "a"}, {"from": "gpt", "value": "x"}]]},
        {"messages": [CHAT]},
        {"messages": [[{"from": "human", "value": "a"}, {"from": "gpt", "value": "x"}]]},
        {"prompt": ["a"], "completion": ["x"]},
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = [list(own.batch(dict(shape))["input_ids"][0]) for shape in (*shapes, *shapes[::-1])]
    assert all(ids == found[0] for ids in found)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"[]", "the masker got bytes, not a list of messages"),
        (json.dumps(json.dumps([{"role": "user", "content": "a"}])), "it was dumped twice, not a list of messages"),
    ],
)
def test_messages_in_another_wrapping(value: object, reason: str) -> None:
    with pytest.raises(RowError, match=reason):
        given_messages(value)


def test_tools_in_another_wrapping() -> None:
    with pytest.raises(RowError, match="`tools` is JSON text in JSON text: it was dumped twice"):
        given_tools(json.dumps(json.dumps([{"name": "f"}])), "`tools`")
    with pytest.raises(RowError, match=r"`tools`\[0\] is no tool schema"):
        given_tools([{}], "`tools`")


@pytest.mark.parametrize(
    ("part", "is_medium"),
    [
        ({"image": "a.png"}, True),
        ({"image_url": {"url": "a.png"}}, True),
        ({"type": "text", "text": "a", "image": "a.png"}, False),
        ({"text": "a", "image": None}, False),
    ],
)
def test_a_part_without_a_type_is_a_medium_by_its_key(part: dict[str, Any], is_medium: bool) -> None:
    source = "{% for m in messages %}{{ m.content if m.content is string else '<image>' }}{% endfor %}"
    own = Masker(compile_text("train assistant; on unrendered ignore"), "builtin", template=source)
    chat = [{"role": "user", "content": [part]}, CHAT[1]]
    if is_medium:
        with pytest.raises(MediaError, match="the row has images, sounds or videos"):
            own(chat)
    else:
        own(chat)
