"""Every policy of the feature tables is one, and the guards beside it hold for all conversations."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from policy_engine.lang.check import check_text
from policy_engine.lang.library import shipped
from policy_engine.proof.policy_proof import prove

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "features.md").read_text(encoding="utf-8")
_POLICY = re.compile(r"`((?:train|use|mask|scale) [^`]*)`")
_GUARD = re.compile(r"`((?:never|always) train [^`]*)`")
_NAME = re.compile(r"\*\*(\w+)\*\*")
ROWS = [
    tuple(cell.replace("\\|", "|") for cell in re.split(r"(?<!\\) \| ", f"{row} "))
    for row in re.findall(r"^\| (?!---|setting|asked for \||case \|)(.*) ?\|$", PAGE, re.MULTILINE)
]


def policies_of(cell: str) -> list[str]:
    """The policies a cell shows, and those it names."""
    return [*_POLICY.findall(cell), *(f"use {name}" for name in _NAME.findall(cell))]


def test_the_tables_are_read() -> None:
    assert 60 <= len(ROWS)
    assert {3} == {len(row) for row in ROWS}
    assert set(_NAME.findall(PAGE)) <= set(shipped())
    for system in ("Oumi", "Automodel", "open-instruct", "Megatron-Bridge", "NeMo-RL", "xtuner", "slime", "LitGPT"):
        assert any(system in row[0] for row in ROWS), system


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip()[:60])
def test_a_row_is_sound_and_proven(row: tuple[str, str, str]) -> None:
    _, answer, holds = row
    policies, guards = policies_of(answer), _GUARD.findall(holds)
    assert policies or re.search(r"not said: |\]\([\w./-]+\.md\)", answer)
    assert not holds.strip() or guards
    for policy in policies:
        bare = check_text(policy)
        report = prove(check_text("\n".join([policy, *guards])))
        assert len(report.guards) == len(bare.guards) + len(guards)
        said = [(g.guard.span.text, g.verdict, g.places) for g in report.guards if g.verdict != "holds" or g.vacuous]
        assert [] == said, policy
