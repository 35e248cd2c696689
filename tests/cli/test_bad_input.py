"""What each kind of bad input gets: a finding that says what and what next, exit code 2, no traceback, no output."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from policy_engine import builtin
from tests.cli.support import GOOD, cli, write_chats, write_policy

RAISES = "{{ raise_exception('only alternating roles are supported') }}"


def no_data(folder: Path) -> dict[str, object]:
    return {"data": folder / "none.jsonl"}


def unreadable_data(folder: Path) -> dict[str, object]:
    path = folder / "chats.parquet"
    path.write_bytes(b"PAR1 but not really")
    return {"data": path}


def empty_data(folder: Path) -> dict[str, object]:
    return {"data": write_chats(folder, [])}


def no_messages(folder: Path) -> dict[str, object]:
    return {"data": write_chats(folder, ['{"question": "a", "reply": "b"}'])}


def no_line_of_json(folder: Path) -> dict[str, object]:
    return {"data": write_chats(folder, ["not json", "nor this"])}


def three_errors(folder: Path) -> dict[str, object]:
    return {
        "policy": write_policy(
            folder, "train asistant.txt\nuse nothing_there\nmask user where mesage.x == 1\n", name="b.policy"
        )
    }


def no_policy(folder: Path) -> dict[str, object]:
    return {"policy": folder / "none.policy"}


def binary_policy(folder: Path) -> dict[str, object]:
    path = folder / "b.policy"
    path.write_bytes(b"\xff\xfe\x00")
    return {"policy": path}


def no_tokenizer(folder: Path) -> dict[str, object]:
    return {"tokenizer": folder / "none"}


def no_template(folder: Path) -> dict[str, object]:
    path = folder / "tokenizer.json"
    path.write_text(builtin.TOKENIZER.read_text(encoding="utf-8"), encoding="utf-8")
    return {"tokenizer": path}


def broken_template(folder: Path) -> dict[str, object]:
    path = folder / "t.jinja"
    path.write_text("{% for m in messages %}", encoding="utf-8")
    return {"template": path}


def no_dataset_file(folder: Path) -> dict[str, object]:
    return {"dataset": folder / "none.yaml"}


def wrong_dataset_file(folder: Path) -> dict[str, object]:
    path = folder / "d.yaml"
    path.write_text("messages: {feild: chat}\ntokeniser: x\n", encoding="utf-8")
    return {"dataset": path}


CASES: list[Callable[[Path], dict[str, object]]] = [
    no_data, unreadable_data, empty_data, no_messages, no_line_of_json, three_errors, no_policy, binary_policy,
    no_tokenizer, no_template, broken_template, no_dataset_file, wrong_dataset_file,
]  # fmt: skip
SAYS = {
    "no_data": "none.jsonl", "unreadable_data": "chats.parquet", "empty_data": "empty", "no_messages": "`question`",
    "no_line_of_json": "chats.jsonl:1: error[PE502]: the line is not JSON",
    "three_errors": "b.policy:3:", "no_policy": "none.policy", "binary_policy": "UTF-8", "no_tokenizer": "none",
    "no_template": "template", "broken_template": "does not compile", "no_dataset_file": "none.yaml",
    "wrong_dataset_file": "`tokeniser`",
}  # fmt: skip


@pytest.mark.parametrize("verb", ["apply", "show", "explain"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_bad_input(tmp_path: Path, verb: str, case: Callable[[Path], dict[str, object]]) -> None:
    given: dict[str, object] = {"data": write_chats(tmp_path), "policy": write_policy(tmp_path), "tokenizer": "builtin"}
    given |= case(tmp_path)
    out = tmp_path / "out.parquet"
    arguments = [verb, str(given.pop("data")), *(["-o", str(out)] if verb == "apply" else [])]
    arguments += [part for name, value in given.items() for part in (f"--{name}", str(value))]
    ran = cli(*arguments)
    assert ran.code == 2
    assert SAYS[case.__name__] in ran.err
    assert "help: " in ran.err
    assert "Traceback" not in ran.err
    assert ran.out == ""
    assert [] == list(tmp_path.glob("*out*"))
    document = cli(*arguments, "--format", "json").document
    assert (2, "could not answer") == (document["exit_code"], document["verdict"])
    assert document["diagnostics"]


def test_all_three_errors_are_told(tmp_path: Path) -> None:
    policy = three_errors(tmp_path)["policy"]
    ran = cli("apply", write_chats(tmp_path), "-p", str(policy), "-t", "builtin", "-o", tmp_path / "out.parquet")
    assert [1, 2, 3] == [n for n in (1, 2, 3) if f"b.policy:{n}:" in ran.err]


def test_a_template_that_raises_for_the_data_fails_its_rows(tmp_path: Path) -> None:
    template = tmp_path / "t.jinja"
    template.write_text(
        "{% if messages|length > 2 %}" + RAISES + "{% endif %}" + builtin.template_text(), encoding="utf-8"
    )
    arguments = [write_chats(tmp_path), "-p", write_policy(tmp_path), "-t", "builtin", "--template", template]
    ran = cli("apply", *arguments, "-o", tmp_path / "out.parquet", "--format", "json")
    assert ran.code == 1
    assert [2] == [f["row"] for f in ran.document["summary"]["failures"]]
    assert "only alternating roles are supported" in json.dumps(ran.document["diagnostics"])


def test_a_guard_that_breaks_fails_the_row(tmp_path: Path) -> None:
    policy = write_policy(tmp_path, "train assistant\nnever train assistant where message.training == false\n")
    ran = cli("show", write_chats(tmp_path), "-p", policy, "-t", "builtin")
    assert ran.code == 1
    assert "chats.jsonl:2: " in ran.err
    assert "error[PE301]" in ran.err


def test_a_policy_whose_guard_fails_masks_nothing_unless_told_to(tmp_path: Path) -> None:
    policy = write_policy(tmp_path, "train assistant\nnever train assistant where message.training == false\n")
    arguments = ["apply", write_chats(tmp_path), "-p", policy, "-t", "builtin", "-o", tmp_path / "out.parquet"]
    refused = cli(*arguments)
    assert refused.code == 1
    assert "error[PE303]" in refused.err
    assert not (tmp_path / "out.parquet").exists()
    ran = cli(*arguments, "--no-prove")
    assert ran.code == 1
    assert "PE301" in ran.err


@pytest.mark.parametrize("missing", ["-p", "-t"])
def test_policy_and_tokenizer_have_to_be_named(tmp_path: Path, missing: str) -> None:
    options = {"-p": str(write_policy(tmp_path, GOOD)), "-t": "builtin"}
    del options[missing]
    ran = cli("show", write_chats(tmp_path), *(part for pair in options.items() for part in pair))
    assert ran.code == 2
    assert f"with {missing}" in ran.err


ROW = json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})


@pytest.mark.parametrize("verb", ["show", "explain"])
def test_blank_lines_are_passed_over_and_counted(tmp_path: Path, verb: str) -> None:
    arguments = [verb, write_chats(tmp_path, ["", ROW, ""]), "-p", write_policy(tmp_path), "-t", "builtin"]
    first = cli(*arguments, *(["--limit", "1"] if verb == "show" else []))
    assert first.code == 0
    assert "row 2" in first.out
    assert "more rows" not in first.out
    blank = cli(*arguments, "--row", "1")
    assert blank.code == 2
    assert "there is no row 1: that line of" in blank.err
    assert "help: blank lines" in blank.err
    past = cli(*arguments, "--row", "7")
    assert past.code == 2
    assert "there is no row 7: the last of" in past.err


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        (["chat.jsonl", "-p", "my.policy"], "chats.jsonl"),
        (["chats.jsonl", "-p", "my.polcy"], "my.policy"),
        (["chats.jsonl", "-p", "my.policy", "--dataset", "dat.yaml"], "data.yaml"),
    ],
)
def test_a_file_of_nearly_that_name_is_named(tmp_path: Path, wrong: list[str], meant: str) -> None:
    write_chats(tmp_path)
    write_policy(tmp_path)
    (tmp_path / "data.yaml").write_text("policy: my.policy\n")
    ran = cli("show", *[a if a.startswith("-") else tmp_path / a for a in wrong], "-t", "builtin")
    assert ran.code == 2
    assert f"help: did you mean `{tmp_path / meant}`?" in ran.err


def test_rows_that_are_tokenized_already_are_said_to_be(tmp_path: Path) -> None:
    data = tmp_path / "ids.jsonl"
    data.write_text(json.dumps({"input_ids": [1, 2], "labels": [-100, 2]}) + "\n")
    ran = cli("show", data, "-p", "default", "-t", "builtin")
    assert 2 == ran.code
    assert "these rows are tokenized already: `audit` reads them as they are" in ran.err.replace("\n", " ")
