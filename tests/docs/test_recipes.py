"""Every recipe is sound, free of findings, and gives what its page shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from policy_engine.lang.check import check_text
from policy_engine.lang.lint.lint import lint
from policy_engine.proof.policy_proof import prove
from tests.lang import language_doc

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "recipes.md"


@pytest.fixture(autouse=True)
def _page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language_doc, "DOC", PAGE)


def test_there_are_enough_and_each_is_sound() -> None:
    recipes = list(language_doc.examples())
    assert 25 <= len(recipes)
    assert len(recipes) == PAGE.read_text(encoding="utf-8").count("\n## ")
    for recipe in recipes:
        policy = check_text(recipe.text)
        assert ((), ()) == (policy.warnings, lint(policy)), recipe.text


def test_guards_hold_and_every_condition_matters() -> None:
    for recipe in language_doc.examples():
        report = prove(check_text(recipe.text))
        assert report.holds, recipe.text
        assert () == report.fixed, recipe.text
        # What the recipe itself writes decides something; the policy that it uses may have a rule to spare.
        assert [] == [d.rule.span.text for d in report.dead if d.rule.span.source.name == "<string>"], recipe.text


def test_each_gives_what_the_page_shows() -> None:
    for recipe in language_doc.examples():
        assert recipe.conversation
        assert recipe.masked == language_doc.run(recipe), recipe.text
