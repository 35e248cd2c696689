"""The GitHub Action: its file, the page about it, and the script that does its work, run for real."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from scripts import run_action
from tests.cli.support import cli, write_chats, write_policy

ROOT = Path(__file__).parents[2]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
SCRIPT = ROOT / ".ci" / "action"
TESTED = """policy: {policy}
tokenizer: builtin
tests:
  - name: trains the answer
    messages: [{{role: user, content: Hi}}, {{role: assistant, content: Hello}}]
    expect: |
      <|im_start|>user
      Hi<|im_end|>
      <|im_start|>assistant
      ⟦Hello<|im_end|>⟧
"""
OURS = f"#!{sys.executable}\nfrom policy_engine.cli.main import main\n\nmain()\n"
"""This checkout's command."""
STUB = """#!/usr/bin/env bash
printf 'ran:'; printf ' <%s>' "$@"; echo
exit "$(printenv "SAYS_$1" || echo 0)"
"""
"""A command that prints its arguments and says what it is given to say: starting the real one takes seconds."""


def repository(folder: Path, command: str) -> Path:
    """A repository with a good policy, and a folder beside it with the command `policy-engine`."""
    path = folder / "bin" / "policy-engine"
    path.parent.mkdir()
    path.write_text(command, encoding="utf-8")
    path.chmod(0o755)
    (folder / "repository" / "policies").mkdir(parents=True)
    write_policy(folder / "repository" / "policies", name="good.policy")
    return folder / "repository"


def act(folder: Path, **inputs: str) -> tuple[int, list[str]]:
    """Exit code and lines of output of the script, in a folder, with inputs as the action hands them on."""
    environment = {
        **os.environ,
        "PATH": f"{folder.parent / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "GITHUB_STEP_SUMMARY": str(folder.parent / "summary.md"),
        **inputs,
    }
    command = ["bash", str(SCRIPT)]
    ran = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=False, timeout=300
    )
    return ran.returncode, (ran.stdout + ran.stderr).strip().splitlines()


def test_every_input_is_handed_on_and_read() -> None:
    inputs = set(ACTION["inputs"])
    install, work = ACTION["runs"]["steps"]
    handed_on = {**install["env"], **work["env"]}
    assert {name.upper(): f"${{{{ inputs.{name} }}}}" for name in inputs} == handed_on
    text = SCRIPT.read_text(encoding="utf-8")
    for name in work["env"]:
        assert re.search(rf"\$\{{{name}|\${name}\b|\"{name}", text), name
    assert "composite" == ACTION["runs"]["using"]
    assert all("shell" in step for step in (install, work))
    # Inputs are untrusted text: they reach the shell as variables only.
    assert not any("${{" in step["run"] for step in (install, work))


def test_its_steps_run_as_a_runner_runs_them(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The texts of `action.yml`, in an environment that has nothing else; `make wheel-test` installs for real."""
    folder = repository(tmp_path, STUB)
    python = tmp_path / "bin" / "python"
    python.write_text("#!/usr/bin/env bash\nprintf 'python:'; printf ' <%s>' \"$@\"; echo\n", encoding="utf-8")
    python.chmod(0o755)
    (tmp_path / "runner").mkdir()
    path = f"{tmp_path / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin"
    given = {"data": "pre pared", "tokenizer": "model", "limit": "9", "format": "off"}
    assert 0 == run_action.run(folder, given, path=path, temporary=tmp_path / "runner")
    said = capfd.readouterr().out.splitlines()
    assert f"python: <-m> <pip> <install> <--quiet> <{ROOT}>" in said
    assert "ran: <check> <--format> <github> <policies/good.policy>" in said
    assert "ran: <audit> <pre pared> <--tokenizer> <model> <--limit> <9>" in said
    assert "### Audit of pre pared" in (tmp_path / "runner" / "github_step_summary").read_text(encoding="utf-8")
    python.write_text("#!/usr/bin/env bash\nexit 7\n", encoding="utf-8")
    assert 7 == run_action.run(folder, {"install": "x"}, path=path, temporary=tmp_path / "runner")
    with pytest.raises(ValueError, match="the action has no input `dota`"):
        run_action.run(folder, {"dota": "x"}, path=path, temporary=tmp_path / "runner")


def test_the_page_lists_every_input() -> None:
    page = (ROOT / "docs" / "how-to" / "ci.md").read_text(encoding="utf-8")
    rows = [
        f"| `{name}` | {given['description']} |" + (f" `{given['default']}` |" if given["default"] else " |")
        for name, given in ACTION["inputs"].items()
    ]
    assert rows == [line for line in page.splitlines() if re.match(r"\| `\w+` \|", line)]


def test_a_repository_for_real(tmp_path: Path) -> None:
    folder = repository(tmp_path, OURS)
    write_policy(folder / "policies", "train user; train eos of user\nnever train user\n", name="bad.policy")
    (folder / "tests.yaml").write_text(TESTED.format(policy="policies/good.policy"), encoding="utf-8")
    masked = ["-p", folder / "policies" / "good.policy", "-t", "builtin", "-o", folder / "masked.parquet"]
    assert 0 == cli("apply", write_chats(folder), *masked).code
    data = {"DATA": "masked.parquet", "POLICY": "policies/good.policy", "TOKENIZER": "builtin"}
    code, said = act(folder, TESTS="tests.yaml", FORMAT="off", **data)
    assert (1, "policy-engine: check failed") == (code, said[-1])
    assert any(line.startswith("::error title=policy-engine PE303,file=policies/bad.policy,line=2") for line in said)
    (suite,) = ElementTree.parse(folder / "policy-tests.xml").getroot()
    assert {"name": "tests.yaml", "tests": "1", "failures": "0"} == suite.attrib
    assert "conversations were found again" in (folder.parent / "summary.md").read_text(encoding="utf-8")


def test_commands_that_run(tmp_path: Path) -> None:
    folder = repository(tmp_path, STUB)
    code, said = act(folder)
    good = "<--format> <github> <policies/good.policy>"
    assert [f"ran: <check> {good}", f"ran: <fmt> <--check> {good}"] == [
        line for line in said if line.startswith("ran:")
    ]
    assert (0, "policy-engine: all is well") == (code, said[-1])
    code, said = act(folder, TESTS="a.yaml\nb c.yaml", DATA="prepared/", POLICY="good", TOKENIZER="model", LIMIT="9")
    junit = "<--junit> <policy-tests.xml>"
    assert f"ran: <test> <--format> <github> {junit} <--tokenizer> <model> <a.yaml> <b c.yaml>" in said
    assert "ran: <audit> <prepared/> <--policy> <good> <--tokenizer> <model> <--limit> <9>" in said
    assert (0, "policy-engine: all is well") == (code, said[-1])


def test_names_with_blanks_and_the_layout_let_be(tmp_path: Path) -> None:
    folder = repository(tmp_path, STUB)
    (folder / "my policies").mkdir()
    write_policy(folder / "my policies", name="a b.policy")
    code, said = act(folder, POLICIES="./my policies\npolicies/good.policy\n", FORMAT="off")
    assert 0 == code
    ran = "ran: <check> <--format> <github> <my policies/a b.policy> <policies/good.policy>"
    assert [ran] == [line for line in said if line.startswith("ran:")]


def test_every_step_runs_and_each_failure_is_named(tmp_path: Path) -> None:
    says = {"SAYS_check": "2", "SAYS_fmt": "1", "SAYS_test": "1", "SAYS_audit": "1"}
    code, said = act(repository(tmp_path, STUB), TESTS="a.yaml", DATA="prepared", **says)
    assert (1, "policy-engine: check fmt test audit failed") == (code, said[-1])
    assert any(line.startswith("::error title=policy-engine audit::prepared does not train") for line in said)


def test_rows_that_were_not_judged_are_a_warning(tmp_path: Path) -> None:
    code, said = act(repository(tmp_path, STUB), DATA="prepared", SAYS_audit="3")
    assert (0, "policy-engine: all is well") == (code, said[-1])
    assert any(line.startswith("::warning title=policy-engine audit::") for line in said)


@pytest.mark.parametrize(
    ("places", "expected"),
    [("gone", "`gone` of the input policies is not there"), ("empty", "there is no *.policy below empty")],
)
def test_nothing_to_check_is_an_error(tmp_path: Path, places: str, expected: str) -> None:
    folder = repository(tmp_path, STUB)
    (folder / "empty").mkdir()
    code, said = act(folder, POLICIES=places)
    assert (1, "policy-engine: policies failed") == (code, said[-1])
    assert any(expected in line for line in said)
