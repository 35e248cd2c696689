"""`import`: prints or writes what it makes, and refuses by key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from policy_engine.cli.main import run


def test_prints_policy_and_dataset(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["import", "swift", "last_round"]) == 0
    out = capsys.readouterr().out
    assert "use swift_last_round" in out
    assert "policy: loss_scale.policy" in out


def test_writes_files_and_keeps_those_that_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "run.yml"
    config.write_text("datasets: [{path: x.jsonl, type: chat_template}]\n")
    out = tmp_path / "made"
    assert run(["import", "axolotl", str(config), "-o", str(out)]) == 0
    assert {"run.policy", "run.yaml"} == {p.name for p in out.iterdir()}
    assert run(["import", "axolotl", str(config), "-o", str(out)]) == 2
    assert run(["import", "axolotl", str(config), "-o", str(out), "--overwrite"]) == 0
    assert run(["check", str(out / "run.policy")]) == 0
    capsys.readouterr()


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["import", "tinker", "all_tokens", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert "use tinker_all_tokens" in json.dumps(document)


@pytest.mark.parametrize(
    "arguments", [["nosuch", "x"], ["axolotl", "nowhere.yml"], ["tinker", "everything"], ["swift", "default+x"]]
)
def test_bad_input(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["import", *arguments]) == 2
    assert "help:" in capsys.readouterr().err
