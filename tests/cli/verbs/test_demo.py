from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from policy_engine import builtin
from tests.cli.support import cli


def test_demo(tmp_path: Path) -> None:
    out = tmp_path / "a" / "out"
    ran = cli("demo", "--out", out)
    assert ran.code == 0
    assert "⟦" in ran.out
    assert "on purpose" in ran.err
    summary = cli("demo", "--out", out, "--overwrite", "--format", "json").document["summary"]
    table = pq.read_table(out / "masked.parquet")
    assert table.num_rows == summary["rows_out"] >= 40
    assert len(builtin.sample_rows()) == summary["rows_in"]
    assert 1 == summary["rows_failed"]
    assert "data-d=" in (out / "masked.html").read_text(encoding="utf-8")


def test_demo_replaces_nothing_unless_told(tmp_path: Path) -> None:
    assert cli("demo", "--out", tmp_path).code == 0
    assert cli("demo", "--out", tmp_path).code == 2
