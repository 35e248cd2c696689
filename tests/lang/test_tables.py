"""Saved tables of the parser: read where they belong to the grammar and to this Lark, else made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from policy_engine.lang import tables

TEXT = "train assistant where has message.a weight 2; mask last 2 user; never train user"


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "policy.tables"
    tables.save_tables(path)
    monkeypatch.setattr(tables, "tables_path", lambda: path)
    return path


def test_saved_tables_parse_as_made_ones(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tables._made()
    monkeypatch.setattr(tables, "_made", lambda: pytest.fail("the tables were made again"))
    read = tables.parser.__wrapped__()
    assert made.parse(TEXT, start="policy") == read.parse(TEXT, start="policy")
    assert [t.name for t in made.terminals] == [t.name for t in read.terminals]


@pytest.mark.parametrize("key", [b"", b"lark 0.0 sha256 00"])
def test_tables_of_another_grammar_or_lark_are_not_read(saved: Path, key: bytes) -> None:
    saved.write_bytes(key + b"\n" + saved.read_bytes().partition(b"\n")[2])
    assert tables._saved(saved) is None
    assert tables.parser.__wrapped__().parse(TEXT, start="policy").children


def test_no_tables_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "tables_path", lambda: tmp_path / "none")
    assert tables.parser.__wrapped__().parse(TEXT, start="policy").children
