"""A few cases of the long run, and that it sees a difference and says what it leaves out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from policy_engine.run.folder import processes
from tests import nightly
from tests.properties import cases, identity
from tests.properties.identity_files import WITHOUT_RAY, written
from tests.properties.identity_rows import HOSTILE, rows_of, template_of

OWN, INSTALLED, GROWN, MECHANISM, BY_RAY = 3, 4, 6, 8, 2
"""Cases of the built-in vocabulary, by their templates."""
REFUSED = "{% for m in messages %}{{ raise_exception('no ' ~ m.role) }}{% endfor %}"


def test_every_way_of_a_case_gives_the_plain_rows() -> None:
    found = {number: identity.identity_case(1, number) for number in (OWN, INSTALLED, GROWN, MECHANISM)}
    assert [None] * 4 == [problem for _, problem in found.values()]
    assert ["own, rows", "installed, rows", "grown, rows", "mechanism, rows"] == [came for came, _ in found.values()]
    template = identity.maskers("builtin", identity._POLICIES[OWN // 2 % 2])["batch"].tokenizer.template
    assert template.skeletons is not None
    assert template.skeletons.replays > 20  # the ways are compared, and not one rendering with itself


def test_a_row_that_every_way_refuses_is_the_same_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "template_of", lambda kind, key: REFUSED)
    assert ("grown, no row", None) == identity.identity_case(1, GROWN)


def test_kinds_of_templates_take_turns_and_their_templates_are_fixed() -> None:
    kinds = [identity.kind_of(number) for number in range(20 * identity.STRETCH)]
    assert 500 <= kinds.count("own") <= 520
    by_workers, by_ray = kinds[1 :: identity.STRETCH], kinds[BY_RAY :: identity.STRETCH]
    assert {*HOSTILE} == {*by_workers}
    assert {"own", *HOSTILE} == {*by_ray}
    assert template_of("grown", "a") == template_of("grown", "a") != template_of("grown", "b")


def test_a_difference_is_found_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = dict(identity.maskers("builtin", "train assistant; on unrendered ignore"))
    found["batch"] = identity.maskers("builtin", "train user; on unrendered ignore")["batch"]
    monkeypatch.setattr(identity, "maskers", lambda name, policy, source=None: found)
    _, problem = identity.identity_case(1, OWN)
    assert problem is not None
    assert problem.startswith("builtin, own template, batch: Conversation(messages=({")
    rows = rows_of("own", "a", ["<|im_end|>"], 40)
    assert written(rows, found["plain"], found["plain"], processes(1)) is None
    problem = written(rows, found["plain"], found["batch"], processes(1))
    assert problem is not None
    assert "counts [" in problem
    assert "tokens_trained" in problem


def test_a_run_without_ray_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(cases, "RAY", False)
    monkeypatch.setattr(identity, "RAY", False)
    assert (WITHOUT_RAY, None) == identity.identity_case(1, BY_RAY)
    kept = tmp_path / "kept.json"
    done = {str(at): {"stop": at + 50, "counts": {}, "failures": []} for at in range(0, 1100, 50)}
    kept.write_text(json.dumps({"kind": "identity", "seed": 1, "chunk": 50, "chunks": done}))
    assert nightly.main(["identity", "--resume", str(kept), "--processes", "1"]) == 0
    assert f"identity: {WITHOUT_RAY}\n" in capsys.readouterr().out
