"""Dataset files bind a policy to data, and say with a line what is wrong in them."""

from __future__ import annotations

import contextlib
import json
import os
import pickle

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policy_engine.core.errors import ConfigError, DataError, DatasetFileError
from policy_engine.data.conversation import read_row
from policy_engine.data.dataset import DatasetSpec, load_dataset_spec

FULL = """\
policy: mine.policy
tokenizer: builtin
messages:
  field: dialogue
  role: speaker
  content: said
  reasoning: thoughts
  tools: functions
  system: null
  roles: {customer: user, agent: assistant, reviewer: critic-2}
trained_roles: [assistant, critic-2]
fields:
  message.train: boolean
  sample.meta.source: string
template_kwargs: {enable_thinking: false}
tests:
  - name: greets
    messages:
      - {role: user, content: Hi}
      - {role: assistant, content: Hello}
    tools: [{type: function, function: {name: f}}]
    sample: {source: web}
    expect: "<user>Hi<assistant>⟦Hello⟧"
  - messages: [{role: user, content: Hi}]
    expect: Hi
"""


def load(tmp_path, text):
    path = tmp_path / "data.yaml"
    path.write_text(text, encoding="utf-8")
    return load_dataset_spec(path)


def problems(tmp_path, text):
    """What is wrong: line, message and help of each."""
    with pytest.raises(DatasetFileError) as caught:
        load(tmp_path, text)
    assert caught.value.diagnostics
    assert {str(tmp_path / "data.yaml")} == {d.span.source.name for d in caught.value.diagnostics}
    return [
        f"{d.span.line}: {d.message}" + ("" if "nothing was read" in d.help else f"; {d.help}")
        for d in caught.value.diagnostics
    ]


def test_a_tokenizer_is_looked_for_beside_the_file_first(tmp_path, monkeypatch):
    stands = tmp_path / "project" / "work"
    for folder in (stands, tmp_path / "project" / "model", tmp_path / "model"):
        folder.mkdir(parents=True)
    monkeypatch.chdir(stands)
    text = "tokenizer: ../model\n"
    # `../model` is there from both folders, then from the second only.
    (tmp_path / "policies").mkdir()
    assert str(tmp_path / "policies" / "../model") == load(tmp_path / "policies", text).tokenizer
    (tmp_path / "model").rmdir()
    assert "../model" == load(tmp_path / "policies", text).tokenizer


def test_everything_a_file_can_say(tmp_path):
    (tmp_path / "mine.policy").write_text("train assistant\n")
    spec = load(tmp_path, FULL)
    assert str(tmp_path / "mine.policy") == spec.policy
    assert "builtin" == spec.tokenizer
    schema = spec.to_schema()
    assert {"user", "assistant", "critic-2"} == schema.roles
    assert {"assistant", "critic-2"} == schema.trained_roles
    assert {"message.train": "boolean", "sample.meta.source": "string"} == schema.fields
    first, second = spec.tests
    assert ("greets", 17, "<user>Hi<assistant>⟦Hello⟧") == (first.name, first.line, first.expect)
    assert "test 2" == second.name
    conversation = first.conversation({"enable_thinking": True})
    assert "web" == conversation.sample["source"]
    assert "f" == conversation.tools[0]["function"]["name"]
    assert {"enable_thinking": True} == conversation.template_kwargs


def test_a_file_of_names_alone_is_not_said_to_declare_the_format(tmp_path):
    spec = load(tmp_path, "messages: {prompt: question, completion: answer}\n")
    found = spec.format_of([{"question": "Hi", "answer": "Bad", "label": False}]).description
    assert f"read as `unpaired_preference`, with what {tmp_path / 'data.yaml'} declares" == found


def test_the_declared_names_read_the_rows(tmp_path):
    spec = load(tmp_path, FULL)
    row = {
        "dialogue": [{"speaker": "agent", "said": "a", "thoughts": "b"}],
        "functions": [{"name": "g"}],
        "system": "S",
    }
    fmt = spec.format_of([row])
    assert f"read as `messages`, with what {tmp_path / 'data.yaml'} declares" == fmt.description
    conversation = read_row(row, fmt)
    assert [{"role": "assistant", "content": "a", "reasoning_content": "b"}] == [dict(m) for m in conversation.messages]
    assert [{"name": "g"}] == list(conversation.tools)
    assert {"enable_thinking": False} == conversation.template_kwargs


def test_nothing_declared_means_detected():
    spec = DatasetSpec(template_kwargs={"x": 1})
    fmt = spec.format_of([{"conversations": [{"from": "human", "value": "a"}]}])
    assert "sharegpt" == fmt.kind
    assert "read as ShareGPT" in fmt.description
    assert {"x": 1} == fmt.template_kwargs


@pytest.mark.parametrize(
    ("names", "row", "kind"),
    [
        ({"prompt": "q", "completion": "a"}, {"q": "1", "a": "2"}, "prompt_completion"),
        ({"instruction": "ask", "output": "reply"}, {"ask": "1", "reply": "2"}, "alpaca"),
        ({"role": "from", "content": "value"}, {"conversations": [{"from": "gpt", "value": "a"}]}, "sharegpt"),
        ({"field": "x"}, {"x": [{"from": "gpt", "value": "a"}]}, "sharegpt"),
        ({"field": "x.y"}, {"x": {"y": [{"role": "user", "content": "a"}]}}, "messages"),
        ({"roles": {"boss": "user"}}, {"chat": [{"role": "boss", "content": "a"}]}, "messages"),
    ],
)
def test_what_is_declared_in_part_is_completed_from_the_data(names, row, kind):
    fmt = DatasetSpec(names=names).format_of([row])
    assert kind == fmt.kind
    assert read_row(row, fmt).messages[0]["role"] in ("user", "assistant")


def test_a_declared_column_without_messages_is_an_error():
    with pytest.raises(ConfigError, match="column `x` holds no messages"):
        DatasetSpec(names={"field": "x"}).format_of([{"messages": []}])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mesages: {}\n", ["1: unknown key `mesages` in the dataset file; did you mean `messages`?"]),
        ("messages:\n  rolle: x\n", ["2: unknown key `rolle` in `messages`; did you mean `role`?"]),
        ("messages:\n  format: sharegtp\n", ["2: unknown format `sharegtp`; did you mean `sharegpt`?"]),
        ("messages: [a]\n", ["1: `messages` has to be a mapping, found a list"]),
        ("messages:\n  field: 3\n", ["2: `messages: field` has to be text, found a number"]),
        ("messages:\n  roles: {1: user}\n", ["2: key `1` of `messages: roles` is a number; put it in quotes"]),
        ("messages:\n  roles: {no: user}\n", ["2: key `no` of `messages: roles` is a boolean; put it in quotes"]),
        ("policy: a\npolicy: b\n", ["2: key `policy` of the dataset file is written twice; keep one of them"]),
        ("policy: 3\n", ["1: `policy` has to be text, found a number"]),
        (
            "trained_roles: assistant\n",
            ["1: `trained_roles` has to be a list of roles; write `trained_roles: [assistant]`"],
        ),
        ("fields:\n  mesage.x: string\n", None),
        ("fields:\n  message.x: bool\n", ["2: unknown type `bool` of field `message.x`; did you mean `boolean`?"]),
        ("template_kwargs: 3\n", ["1: `template_kwargs` has to be a mapping, found a number"]),
        ("tests: {}\n", ["1: `tests` has to be a list of tests"]),
        ("tests:\n  - expect: x\n", ["2: test 1 has no `messages`"]),
        (
            "tests:\n  - messages: []\n",
            ['2: test 1 has no `expect`; write `expect: ""`, and `policy-engine test FILE --update` fills it in'],
        ),
        ("tests:\n  - expekt: x\n", ["2: unknown key `expekt` in test 1; did you mean `expect`?"]),
        (
            "tests:\n  - expect: x\n    messages: [{content: a}]\n",
            [
                "3: test 1: messages[0] has no `role`; its keys are `content`; add it"
                ", or say in a dataset file which key has it: `messages: {role: NAME}`"
            ],
        ),
        (
            "tests:\n  - {messages: [{role: user, content: a}], expect: 3}\n",
            ["2: `expect` of test 1 has to be text, found a number"],
        ),
        (
            "template_kwargs: {a: 2020-99-99}\n",
            ["1: not valid YAML: month must be in 1..12; fix the line, or quote it"],
        ),
        (
            "a: [\n",
            ["2: not valid YAML: expected the node content, but found '<stream end>'; fix the line, or quote it"],
        ),
        ("policy: !!python/object:os.system x\n", None),
    ],
)  # fmt: skip
def test_problems_name_file_line_and_what_was_meant(tmp_path, text, expected):
    found = problems(tmp_path, text)
    if expected is not None:
        assert expected == found
    else:
        assert found


def test_all_problems_come_at_once(tmp_path):
    assert 4 == len(problems(tmp_path, "polcy: x\ntrained_roles: 1\nfields: {message.a: txt}\ntests: [{}]\n"))


def test_an_empty_file(tmp_path):
    (found,) = problems(tmp_path, "# nothing\n")
    assert found.startswith("1: the dataset file is empty; its keys are `policy`, ")


def test_what_is_wrong_is_quoted_with_a_caret(tmp_path):
    with pytest.raises(DatasetFileError) as caught:
        load(tmp_path, "messages:\n  rolle: speaker\n  roles:\n    a: 3\n")
    assert "     2 |   rolle: speaker\n       |   ^^^^^\n  help: did you mean `role`?" in str(caught.value)
    assert "     4 |     a: 3\n       |        ^" in str(caught.value)
    assert caught.value.diagnostics == pickle.loads(pickle.dumps(caught.value)).diagnostics


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        load_dataset_spec(tmp_path / "no.yaml")


def test_a_file_that_is_not_text(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read"):
        load_dataset_spec(tmp_path / "x.yaml")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet=" \n:-[]{}#&*!|>'\"%@`abc?,policy", max_size=40) | st.text(max_size=40))
def test_any_text_is_a_dataset_file_or_a_config_error(tmp_path, text):
    with contextlib.suppress(ConfigError, DataError):
        load(tmp_path, text)


def _outside(tmp_path, name):
    folder = tmp_path / "shared"
    folder.mkdir(exist_ok=True)
    (tmp_path / name).write_text("train assistant\n")
    return folder


@pytest.mark.parametrize("key", ["policy", "template"])
@pytest.mark.parametrize("how", ["../x.{}", "{}", "link"])
def test_files_stay_in_the_folder_of_the_dataset_file(tmp_path, key, how):
    ending = {"policy": "policy", "template": "jinja"}[key]
    folder = _outside(tmp_path, f"x.{ending}")
    written = {"../x.{}": f"../x.{ending}", "{}": str(tmp_path / f"x.{ending}"), "link": f"y.{ending}"}[how]
    if how == "link":
        (folder / f"y.{ending}").symlink_to(tmp_path / f"x.{ending}")
    with pytest.raises(DatasetFileError, match=f"`{key}` leads out of the folder of the dataset file"):
        load(folder, f"{key}: {written}\n")


def test_a_pipe_is_no_policy(tmp_path):
    os.mkfifo(tmp_path / "p.policy")
    with pytest.raises(DatasetFileError, match="`policy` is no file"):
        load(tmp_path, "policy: p.policy\n")


def test_a_template_in_the_file_is_its_text(tmp_path):
    text = "{% for m in messages %}{{ m.content }}{% endfor %}" * 200
    assert text == load(tmp_path, f"template: {json.dumps(text)}\n").template


@pytest.mark.parametrize("expect", ["", "\n    expect:"])
def test_a_test_without_its_text_names_the_command_that_writes_it(tmp_path, expect):
    (tmp_path / "d.yaml").write_text(f"tests:\n  - messages: [{{role: user, content: Hi}}]{expect}\n")
    with pytest.raises(DatasetFileError) as caught:
        load_dataset_spec(tmp_path / "d.yaml")
    (finding,) = caught.value.diagnostics
    assert 'write `expect: ""`, and `policy-engine test FILE --update` fills it in' == finding.help
