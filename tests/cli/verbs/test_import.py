"""`import`: prints or writes what it makes, and refuses by key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from policy_engine.cli.app import run


def test_prints_policy_and_dataset(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["import", "swift", "last_round"]) == 0
    out = capsys.readouterr().out
    assert "mask assistant before last user" in out
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


def test_writes_all_files_or_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, out = tmp_path / "run.yml", tmp_path / "made"
    config.write_text("datasets: [{path: a.jsonl, type: chat_template}, {path: b.jsonl, type: chat_template}]\n")
    assert run(["import", "axolotl", str(config), "-o", str(out)]) == 0
    last = sorted(out.iterdir())[-1]
    for path in set(out.iterdir()) - {last}:
        path.unlink()
    assert run(["import", "axolotl", str(config), "-o", str(out)]) == 2
    assert f"`{last}` exists" in capsys.readouterr().err
    assert [last] == list(out.iterdir())
    assert run(["import", "axolotl", str(config), "-o", str(config / "made")]) == 2
    assert "cannot be made" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["axolot", "run.yml"], "did you mean `axolotl`? the systems are axolotl, trl,"),
        (["axolotl", "runn.yml"], "did you mean `run.yml`?"),
        (["axolotl", "run.yml"], "did you mean `split_thinking` for `split_thinkin`, `train_on_eos` for"),
        (["trl", "sft.yml"], "`assistant_only_los` cannot be carried over: nobody knows it; did you mean"),
        (["llamafactory", "lf.yml"], "did you mean `mask_history`?"),
        (["swift", "last_ronud"], "did you mean `last_round`? the names are"),
    ],
)  # fmt: skip
def test_slips_are_told(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    advice: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yml").write_text(
        "datasets: [{path: a.jsonl, type: chat_template, train_on_eoss: all, split_thinkin: true, x: 1}]\n"
    )
    (tmp_path / "sft.yml").write_text("assistant_only_los: true\n")
    (tmp_path / "lf.yml").write_text("mask_histori: true\n")
    assert run(["import", *arguments]) == 2
    assert advice in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("system", "config", "known", "strange"),
    [
        ("axolotl", "datasets: [{path: a.jsonl, type: chat_template}, {path: b.jsonl, type: chat_template}]\n",
         "lora_r: 8\n", "role_boundaries: []\nfrobnicate: 1\n"),
        ("trl", "assistant_only_loss: true\n", "optim: adamw\nlora_r: 8\n", "frobnicate: 1\nmax_seq_length: 9\n"),
        ("llamafactory", "stage: sft\n", "optim: adamw\nlora_rank: 8\n", "frobnicate: 1\n"),
    ],
)  # fmt: skip
def test_keys_that_may_be_about_masks_are_warned_of_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], system: str, config: str, known: str, strange: str
) -> None:
    path = tmp_path / "run.yml"
    path.write_text(config + known)
    assert run(["import", system, str(path)]) == 0
    assert capsys.readouterr().err == ""
    path.write_text(config + known + strange)
    assert run(["import", system, str(path), "-o", str(tmp_path / "made")]) == 0
    err = " ".join(capsys.readouterr().err.split())
    names = sorted(line.split(":")[0] for line in strange.splitlines())
    are = "is" if len(names) == 1 else "are"
    assert err.startswith(f"warning[PE503]: {path}: {', '.join(f'`{name}`' for name in names)} {are} left behind help:")
    assert 1 == err.count("PE503")
    made = list((tmp_path / "made").glob("*.policy"))
    assert max(1, config.count("path:")) == len(made)
    for written in made:
        comment = " ".join(written.read_text().replace("# ", "").split())
        assert f"Not known here, and left behind: {', '.join(names)}." in comment
        assert names[0] not in comment.split("Not about masks, and left behind:")[1].split("Not known here")[0]


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
