"""`apply` and `show` end with the tokens of each rule over all rows, and name what never had an effect."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.support import cli, write_policy

POLICY = 'train assistant\ntrain eos after assistant\nmask assistant where message.traning == "0"\nmask tool\n'


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def rows(folder: Path, count: int) -> Path:
    path = folder / "chats.jsonl"
    row = {"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4", "training": 0}]}
    path.write_text((json.dumps(row) + "\n") * count, encoding="utf-8")
    return path


def counts(text: str) -> dict[str, tuple[str, str]]:
    """Tokens and note of each rule in the closing table."""
    table = text[text.index("rule  tokens") :].split("(no rule")[0].splitlines()[1:-1]
    found = [line.split(maxsplit=2) for line in table]
    return {number: (tokens, rest.rstrip().rpartition("  ")[2]) for number, tokens, rest in found}


def test_apply(tmp_path: Path) -> None:
    data, policy = rows(tmp_path, 300), write_policy(tmp_path, POLICY)
    ran = cli("apply", data, "-p", policy, "-t", "builtin", "-o", tmp_path / "out.jsonl")
    assert ran.code == 0
    assert counts(ran.out)["1"][0] == counts(ran.out)["2"][0] == "300"
    assert ("0", "its condition never held") == counts(ran.out)["3"]
    assert ("0", "what it selects does not occur") == counts(ran.out)["4"]
    (warning,) = [line for line in ran.err.splitlines() if "[PE" in line]
    assert f"{policy}:3:22: warning[PE520]: no message of 300 rows has `traning`" in warning
    assert "did you mean `message.training`?" in ran.err


@pytest.mark.parametrize("extra", [["--workers", "2"], ["--limit", "7"]])
def test_apply_into_a_folder_and_again(tmp_path: Path, extra: list[str]) -> None:
    data, policy = rows(tmp_path, 300), write_policy(tmp_path, POLICY)
    arguments = ["apply", data, "-p", policy, "-t", "builtin", "-o", f"{tmp_path}/out/", "--format", "json", *extra]
    ran = cli(*arguments)
    again = cli(*arguments, "--resume")
    assert ran.document["rules"] == again.document["rules"]
    assert ran.document["diagnostics"] == again.document["diagnostics"]
    assert "did you mean `message.training`?" == ran.document["diagnostics"][0]["help"]
    size = 7 if "--limit" in extra else 300
    assert [size, size, 0, 0] == [rule["tokens"] for rule in ran.document["rules"]]
    assert [None, None, "its condition never held", "what it selects does not occur"] == [
        rule["unused"] for rule in ran.document["rules"]
    ]


def test_show(tmp_path: Path) -> None:
    ran = cli("show", rows(tmp_path, 3), "-p", write_policy(tmp_path, POLICY), "-t", "builtin")
    assert ran.code == 0
    assert "warning[PE520]: no message of 3 rows has `traning`" in ran.err
    assert ("0", "its condition never held") == counts(ran.out)["3"]
