from __future__ import annotations

import os
from pathlib import Path

import pytest

from policy_engine.chat.tokens import load
from policy_engine.chat.tokens.cache import FOLDER_VARIABLE
from tests.cli.support import cli, write_chats, write_policy


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "kept"))
    return tmp_path / "kept" / "tokenizers"


def show(tmp_path: Path, *extra: str) -> int:
    return cli("show", write_chats(tmp_path), "-p", write_policy(tmp_path), "-t", "builtin", *extra).code


def test_entries_are_listed_and_removed(folder: Path, tmp_path: Path) -> None:
    empty = {"folder": str(folder), "bytes": 0, "most": 12, "entries": []}
    assert empty == {key: cli("cache", "--format", "json").document[key] for key in empty}
    assert 0 == show(tmp_path)
    found = cli("cache", "--format", "json").document
    (entry,) = found["entries"]
    (kept,) = folder.iterdir()
    size = sum(path.stat().st_size for path in kept.iterdir())
    assert ("builtin", "tokenizer", kept.name, size) == (entry["of"], entry["kind"], entry["key"], entry["bytes"])
    assert size == found["bytes"]
    ran = cli("cache")
    assert ran.out.startswith(f"{folder}: 1 of at most 12 entries, 0.1 MB\n")
    assert "builtin" in ran.out
    assert f"entries removed: 1, from {folder}\n" == cli("cache", "--clear").out
    assert not folder.exists()
    assert f"entries removed: 0, from {folder}\n" == cli("cache", "--clear").out


def test_a_cache_that_is_off_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, "off")
    ran = cli("cache")
    assert (0, "the cache is off: POLICY_ENGINE_CACHE says so, or no home folder is known\n") == (ran.code, ran.out)


def test_no_cache_neither_keeps_nor_reads(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 == show(tmp_path, "--no-cache")
    assert not folder.exists()
    assert 0 == show(tmp_path)
    loaded = []
    monkeypatch.setattr(load, "load_transformers", lambda name: loaded.append(name) or real(name))  # type: ignore[func-returns-value]
    assert 0 == show(tmp_path)
    assert [] == loaded
    assert 0 == show(tmp_path, "--no-cache")
    assert ["builtin"] == loaded
    assert str(folder.parent) == os.environ[FOLDER_VARIABLE]


real = load.load_transformers
