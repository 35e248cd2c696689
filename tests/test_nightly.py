"""The long runs go on where they were stopped, and a case that fails fails the run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import nightly


def test_a_run_goes_on_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "kept.json"
    command = ["parser", "--resume", str(kept), "--processes", "1", "--seed", "7", "--count"]
    assert nightly.main([*command, "300"]) == 0
    assert "parser: seed 7, 300 cases, 0 failed" in capsys.readouterr().out
    assert nightly.main([*command, "520"]) == 0
    out = capsys.readouterr().out
    assert "1 chunks done before" in out  # of the two, the one that was whole
    assert "parser: seed 7, 520 cases, 0 failed" in out
    with pytest.raises(SystemExit, match="seed 7, not 8"):
        nightly.main(["parser", "--resume", str(kept), "--seed", "8"])


def test_a_failure_that_was_kept_fails_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "kept.json"
    chunk = {"stop": 250, "counts": {"text": 250}, "failures": [[3, "no good"]]}
    kept.write_text(json.dumps({"kind": "parser", "seed": 1, "chunk": nightly.CHUNK, "chunks": {"0": chunk}}))
    assert nightly.main(["parser", "--count", "250", "--resume", str(kept), "--processes", "1"]) == 1
    assert "250 cases, 1 failed" in capsys.readouterr().out


def test_a_case_that_raises_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_case(kind: str, seed: int, number: int) -> tuple[str, str | None]:
        if number == 2:
            raise MemoryError("too much")
        return "text", None

    monkeypatch.setattr(nightly, "run_case", run_case)
    counts, failures = nightly.run_chunk("parser", 1, 0, 4)
    assert counts == {"text": 3, "raised": 1}
    assert failures == [(2, "MemoryError: too much")]
