"""What does not stop a policy is told, by every verb that uses it and once in Python."""

from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path

import pytest

from policy_engine import Masker, PolicyWarning, load_policy, policy_from_text
from tests.cli.support import cli, write_chats, write_policy

MISSPELT = "train assistant\ntrain eos after assistant\nnever train usr\n"


@pytest.mark.parametrize("verb", ["show", "explain", "apply", "audit", "prove", "diff", "check", "test"])
def test_every_verb_says_once_that_a_role_is_unknown(tmp_path: Path, verb: str) -> None:
    policy, chats = write_policy(tmp_path, MISSPELT), write_chats(tmp_path)
    masked = tmp_path / "masked.jsonl"
    assert cli("apply", chats, "-p", "all_assistants", "-t", "builtin", "-o", masked).code == 0
    tests = tmp_path / "t.yaml"
    expected = "<|im_start|>user\na<|im_end|>\n"
    message = '[{"role": "user", "content": "a"}]'
    tests.write_text(
        f"policy: my.policy\ntokenizer: builtin\ntests: [{{messages: {message}, expect: {json.dumps(expected)}}}]\n"
    )
    arguments = {
        "show": [chats, "-p", policy, "-t", "builtin"],
        "explain": [chats, "-p", policy, "-t", "builtin"],
        "apply": [chats, "-p", policy, "-t", "builtin", "-o", tmp_path / "out.parquet"],
        "audit": [masked, "-p", policy, "-t", "builtin"],
        "test": [tests],
        "diff": [policy, policy],
    }.get(verb, [policy])
    ran = cli(verb, *arguments, "--format", "json")
    found = [d for d in ran.document["diagnostics"] if d["code"] == "PE251"]
    assert 1 == len(found), ran.err
    assert "usr" in found[0]["message"]
    assert "user" in found[0]["help"]
    assert "PolicyWarning" not in ran.err
    assert ran.code == 0


@pytest.mark.parametrize("verb", ["show", "explain", "apply", "audit", "prove", "diff", "check"])
def test_every_verb_says_once_what_lint_finds_unless_it_is_meant(tmp_path: Path, verb: str) -> None:
    chats = write_chats(tmp_path)
    masked = tmp_path / "masked.jsonl"
    assert cli("apply", chats, "-p", "all_assistants", "-t", "builtin", "-o", masked).code == 0

    def codes(text: str) -> list[str]:
        policy = write_policy(tmp_path, text)
        arguments = {
            "show": [chats, "-p", policy, "-t", "builtin"],
            "explain": [chats, "-p", policy, "-t", "builtin"],
            "apply": [chats, "-p", policy, "-t", "builtin", "-o", tmp_path / "out.parquet", "--overwrite"],
            "audit": [masked, "-p", policy, "-t", "builtin"],
            "diff": [policy, policy],
        }.get(verb, [policy])
        found = cli(verb, *arguments, "--format", "json").document["diagnostics"]
        return [d["code"] for d in found if d["severity"] == "warning"]

    assert ["PE604"] == codes("train assistant\n")
    assert [] == codes("train assistant  # lint: ignore PE604\n")


def test_python_warns_of_what_lint_finds() -> None:
    with pytest.warns(PolicyWarning, match="where it ends is not"):
        policy_from_text("train assistant")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        policy_from_text("train assistant  # lint: ignore PE604")


def test_a_guard_about_nothing_known_says_so(tmp_path: Path) -> None:
    ran = cli("prove", write_policy(tmp_path, MISSPELT + "never train user\n"))
    assert "holds  never train usr  (nothing declares `usr`)" in ran.out
    assert "holds  never train user\n" in ran.out
    document = cli("prove", write_policy(tmp_path, MISSPELT), "--format", "json").document
    assert [["usr"]] == [g["undeclared_roles"] for g in document["files"][0]["guards"]]


def test_python_warns_where_the_policy_is_loaded(tmp_path: Path) -> None:
    path = write_policy(tmp_path, MISSPELT)
    with pytest.warns(PolicyWarning) as found:
        program = load_policy(path)
    assert [__file__] == [w.filename for w in found]
    (warning,) = [w.message for w in found]
    assert isinstance(warning, PolicyWarning)
    assert warning.diagnostic is not None
    assert "PE251" == warning.diagnostic.code
    assert "did you mean `user`?" in str(warning)
    assert str(warning) == str(pickle.loads(pickle.dumps(warning)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Masker(program, "builtin")  # told already
        policy_from_text("train assistant\ntrain eos after assistant\nnever train user")
    with pytest.warns(PolicyWarning, match="may not hold"):
        policy_from_text(
            "train user.text where message.content matches /a/ and not (message.content matches /a|b/)\n"
            "never train user"
        )


@pytest.mark.parametrize("verb", ["show", "explain", "init"])
def test_rows_that_fail_are_named_by_file_and_line(tmp_path: Path, verb: str) -> None:
    good = {"messages": [{"role": "user", "content": "a"}]}
    chats = write_chats(tmp_path, [json.dumps(good), "{'messages': []}"])
    options = ["-o", tmp_path / "start"] if verb == "init" else ["-p", "default", "--row", "2"]
    ran = cli(verb, chats, "-t", "builtin", *options)
    severity = "warning" if verb == "init" else "error"
    assert f"chats.jsonl:2: {severity}[PE501]: the line is not JSON" in ran.err
    assert "single quotes" in ran.err
    assert "help: fix or remove the line" in ran.err
