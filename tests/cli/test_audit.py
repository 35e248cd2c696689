"""`audit`: what prepared labels train, with the verdict as exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from policy_engine.chat.tokenize import load_tokenizer
from policy_engine.cli.main import run
from policy_engine.mask.masker import Masker
from policy_engine.rules.load import policy_from_text

MESSAGES: list[dict[str, Any]] = [
    {"role": "user", "content": "Two and two?"},
    {"role": "assistant", "content": "Four."},
    {"role": "user", "content": "And three?"},
    {"role": "assistant", "content": "Seven."},
]


def _prepared(folder: Path, policy: str) -> str:
    row = Masker(policy_from_text(policy), load_tokenizer("builtin"))(MESSAGES)
    path = folder / "prepared.jsonl"
    line = json.dumps({"input_ids": list(row["input_ids"]), "labels": list(row["labels"])})
    path.write_text(f"{line}\n" * 3)
    return str(path)


def test_clean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = _prepared(tmp_path, "train assistant; train eos after assistant")
    assert run(["audit", data, "-p", "default", "-t", "builtin"]) == 0
    out = capsys.readouterr().out
    assert "no smells" in out
    assert "3 of 3 conversations" in out


def test_only_the_last_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = _prepared(tmp_path, "train last assistant; train eos after last assistant")
    assert run(["audit", data, "-p", "default", "-t", "builtin", "--format", "json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert "last-answer-only" in json.dumps(document)
    assert run(["audit", data, "-p", "last_assistant", "-t", "builtin"]) == 1  # the smell stays, the policy holds
    out = capsys.readouterr().out
    assert "every one of the 3 rows is what the policy says" in out
    assert "last_assistant (100%)" in out


def test_data_that_is_not_prepared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_text(json.dumps({"messages": MESSAGES}) + "\n")
    assert run(["audit", str(path), "-p", "default", "-t", "builtin"]) == 2
    assert "already tokenized" in capsys.readouterr().err
