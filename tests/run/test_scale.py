"""The measurement of workers goes on from results of the same kind, and begins again with others."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.results import RESULTS
from benchmarks.scale import workers


@pytest.mark.parametrize("backends", [["reference", "kitoken", "gigatoken"], ["gigatoken"]])
def test_results_of_other_backends_are_not_counted(
    backends: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = count(1.0)
    monkeypatch.setattr(workers, "go", lambda run: SimpleNamespace(seconds=next(seconds)))
    monkeypatch.setattr(workers, "write_lines", lambda path, megabytes: int(megabytes))
    monkeypatch.setattr(workers, "_tokenizer_seconds", lambda threads: 1.0)

    def repeats(number: int, kept: dict[str, Any], megabytes: float = 40) -> list[int]:
        found = workers.measure(
            tmp_path, megabytes=megabytes, repeats=number, backends=backends, kept=kept, keep=states.append
        )
        assert backends == list(found["rows per second"])
        return [len(pace["2 processes"]) for pace in found["rows per second"].values()]

    states: list[dict[str, Any]] = []
    two = json.loads((RESULTS / "workers.json").read_text(encoding="utf-8"))
    two["rows per second"] = {name: {"1 process": [1.0], "2 processes": [1.0]} for name in ("reference", "kitoken")}
    assert [2] * len(backends) == repeats(2, two)
    assert 2 == len(states)
    # One more than those of the same backends, and all of them for another input.
    assert [3] * len(backends) == repeats(3, states[-1])
    assert 3 == len(states)
    assert [1] * len(backends) == repeats(1, states[-1], megabytes=20)
