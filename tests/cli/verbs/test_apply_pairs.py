"""Preferences of other trainers through the commands, from the rows alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.support import cli, write_policy

ROOT = Path(__file__).parents[3]
SHAREGPT = {
    "conversations": [{"from": "human", "value": "2+2?"}],
    "chosen": {"from": "gpt", "value": "4"},
    "rejected": {"from": "gpt", "value": "5"},
}
PLAIN = {
    "prompt": [{"role": "user", "content": "2+2?"}],
    "chosen": [{"role": "assistant", "content": "4"}],
    "rejected": [{"role": "assistant", "content": "5"}],
}


def applied(folder: Path, row: Any, *options: str) -> list[dict[str, Any]]:
    data, out = folder / "rows.jsonl", folder / "out.jsonl"
    data.write_text(json.dumps(row) + "\n")
    ran = cli("apply", data, "-p", write_policy(folder), "-t", "builtin", "-o", out, "--overwrite", *options)
    assert 0 == ran.code, ran.err
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_pairs_in_sharegpts_keys_have_the_columns_of_openais(tmp_path: Path) -> None:
    for trainer in ("dpo", "kto", "reward"):
        options = ("--pairs", trainer)
        assert applied(tmp_path, PLAIN, *options) == applied(tmp_path, SHAREGPT, *options)


def test_a_start_for_pairs_in_sharegpts_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text(json.dumps(SHAREGPT) + "\n")
    assert 0 == cli("init", "rows.jsonl", "-t", "builtin").code
    assert '  format: preference\n  prompt: "conversations"\n' in Path("rows.yaml").read_text()
    ran = cli("apply", "rows.jsonl", "--dataset", "rows.yaml", "-o", "out.jsonl", "--pairs", "dpo")
    assert (0, 1) == (ran.code, len(Path("out.jsonl").read_text().splitlines()))
    judged = {"instruction": "Add.", "input": "2+2?", "output": "4", "kto_tag": True}
    Path("rows.jsonl").write_text(json.dumps(judged) + "\n")
    assert 0 == cli("init", "rows.jsonl", "-t", "builtin", "--overwrite").code
    ran = cli("show", "rows.jsonl", "--dataset", "rows.yaml")
    assert "2+2?" in ran.out, ran.err


def test_rows_that_are_no_preferences_are_refused_under_pairs(tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text(json.dumps({"messages": [*PLAIN["prompt"], *PLAIN["chosen"]]}) + "\n")
    ran = cli("apply", data, "-p", "default", "-t", "builtin", "-o", tmp_path / "o.jsonl", "--pairs", "dpo")
    assert 2 == ran.code
    assert "error[PE503]: columns for a trainer of preferences are asked for" in ran.err
    assert "help: a pair has two answers, `chosen` and `rejected`" in ran.err
    assert not (tmp_path / "o.jsonl").exists()


def test_the_lines_of_the_docs_split_conversations_that_are_text() -> None:
    page = (ROOT / "docs/how-to/preferences.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(import re\n.*?)\ndataset = ", page, re.DOTALL)
    found: dict[str, Any] = {}
    exec(lines, found)
    text = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHow are you?\n\nHuman: 2+2?\n\nAssistant: 4"
    assert [("user", "Hi"), ("assistant", "Hello\n\nHow are you?"), ("user", "2+2?"), ("assistant", "4")] == [
        (m["role"], m["content"]) for m in found["messages"](text)
    ]
    with pytest.raises(AssertionError, match="two parts of one speaker"):
        found["messages"]("\n\nHuman: Hi\n\nHuman: Ho\n\nAssistant: 4")
