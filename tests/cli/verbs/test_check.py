from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.support import GOOD, cli, write_policy

BROKEN = "train asistant.txt\nmask user where mesage.x == 1\nuse nothing_there\n"


def test_valid(tmp_path: Path) -> None:
    ran = cli("check", write_policy(tmp_path))
    assert ran.code == 0
    assert "valid" in ran.out
    assert ran.err == ""


def test_all_errors_of_all_files_at_once(tmp_path: Path) -> None:
    paths = [write_policy(tmp_path, BROKEN, name="a.policy"), write_policy(tmp_path, GOOD, name="b.policy")]
    paths += [write_policy(tmp_path, "train ,,", name="c.policy"), tmp_path / "none.policy"]
    ran = cli("check", *paths, "--format", "json")
    assert ran.code == 2
    assert [False, True, False, False] == [f["valid"] for f in ran.document["files"]]
    places = [
        d["location"] and (Path(d["location"]["file"]).name, d["location"]["line"]) for d in ran.document["diagnostics"]
    ]
    assert [("a.policy", 1), ("a.policy", 2), ("a.policy", 3)] == [p for p in places if p and p[0] == "a.policy"]
    assert any(p and p[0] == "c.policy" for p in places)
    assert None in places


def test_text_quotes_the_line(tmp_path: Path) -> None:
    ran = cli("check", write_policy(tmp_path, "train assistant where mesage.x == 1\n"))
    assert ran.code == 2
    assert "my.policy:1:" in ran.err
    assert "train assistant where mesage.x == 1" in ran.err
    assert "^" in ran.err
    assert "help: " in ran.err


def test_warnings_hold_unless_strict(tmp_path: Path) -> None:
    path = write_policy(tmp_path, "train asistant\n")
    assert cli("check", path).code == 0
    strict = cli("check", path, "--strict")
    assert strict.code == 1
    assert "warning[" in strict.err
    assert "assistant" in strict.err


@pytest.mark.parametrize("verb", ["check", "fmt", "prove"])
def test_folders_of_policies(tmp_path: Path, verb: str) -> None:
    for folder in ("below", ".venv", "empty"):
        (tmp_path / folder).mkdir()
    paths = [write_policy(tmp_path, name="b.policy"), write_policy(tmp_path / "below", name="a.policy")]
    write_policy(tmp_path / ".venv")
    (tmp_path / "notes.txt").write_text("no policy")
    ran = cli(verb, tmp_path, "--format", "json")
    assert ran.code == 0
    assert list(map(str, paths)) == [f["file"] for f in ran.document["files"]]
    # The other files are looked at all the same.
    ran = cli(verb, tmp_path / "empty", paths[0], "--format", "json")
    assert ran.code == 2
    assert [False, True] == [f["valid"] for f in ran.document["files"]]
    found = [(d["message"], d["help"]) for d in ran.document["diagnostics"]]
    assert [
        (f"there is no policy in the folder `{tmp_path / 'empty'}`", "policies are files that end in `.policy`")
    ] == found


def test_a_folder_where_one_policy_belongs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    write_policy(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "mine/"):
        ran = cli("diff", name, "default")
        assert ran.code == 2
        assert "`mine` is a folder, not a policy" in ran.err
        assert "such as `mine/my.policy`" in ran.err


def test_shipped_name_and_stdin() -> None:
    assert cli("check", "-", stdin=GOOD).code == 0
    ran = cli("check", "-", stdin="train")
    assert ran.code == 2
    assert "<stdin>:1:" in ran.err


def test_dataset_file_declares_fields(tmp_path: Path) -> None:
    policy = write_policy(tmp_path, "train assistant where message.lable == 1\n")
    dataset = tmp_path / "data.yaml"
    dataset.write_text("fields: {message.label: integer}\n")
    assert cli("check", policy).code == 0
    ran = cli("check", policy, "--dataset", dataset)
    assert ran.code == 2
    assert "message.label" in ran.err


@pytest.mark.parametrize("form", ["json", "sarif", "github"])
def test_machine_formats_name_the_line(tmp_path: Path, form: str) -> None:
    path = write_policy(tmp_path, "train assistant\ntrain ,,\n")
    ran = cli("check", path, "--format", form)
    assert ran.code == 2
    if form == "github":
        assert f"file={path},line=2" in ran.out
    elif form == "sarif":
        (result,) = json.loads(ran.out)["runs"][0]["results"]
        assert 2 == result["locations"][0]["physicalLocation"]["region"]["startLine"]
    else:
        assert [2] == [d["location"]["line"] for d in ran.document["diagnostics"]]


def test_a_guard_that_is_not_proven_is_undecided(tmp_path: Path) -> None:
    # No conversation matches `a\bc`, a word boundary inside a word, but the proof leaves regexes free and cannot tell.
    open_guard = "train assistant\ntrain user where message.a matches /a\\bc/\nnever train user\n"
    path = write_policy(tmp_path, open_guard)
    ran = cli("check", path, "--format", "json")
    assert (3, "undecided") == (ran.code, ran.document["verdict"])
    assert ran.code == cli("prove", path).code
    assert cli("check", path, "--no-prove").code == 0
    broken = write_policy(tmp_path, "train user\nnever train user\n", name="broken.policy")
    assert cli("check", path, broken).code == 1
    assert cli("check", path, broken, tmp_path / "none.policy").code == 2


def test_fix_settles_what_changes_no_decision(tmp_path: Path) -> None:
    policy = write_policy(tmp_path, "let unused = user\ntrain assistant\ntrain eos after assistant\n")
    ran = cli("check", policy, "--fix")
    assert ran.code == 0
    assert "PE253" not in ran.err
    assert "train assistant\ntrain eos after assistant\n" == Path(policy).read_text()


def test_fix_leaves_what_does_not_check(tmp_path: Path) -> None:
    text = "let unused = user\ntrain assistant.nothing\n"
    policy = write_policy(tmp_path, text)
    assert cli("check", policy, "--fix").code == 2
    assert text == Path(policy).read_text()


@pytest.mark.parametrize("verb", ["check", "prove", "fmt"])
def test_standard_input_can_be_named_once(verb: str) -> None:
    ran = cli(verb, "-", "-", stdin="train assistant\n")
    assert 2 == ran.code
    assert "standard input is given twice, and can be read once" in " ".join(ran.err.split())
    assert "PE5" in cli(verb, "-", "-", stdin="train assistant\n").err
    assert 0 == cli(verb, "-", stdin="train assistant\n").code
