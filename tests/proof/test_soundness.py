"""Proofs against conversations that know nothing of them. `PROOF_CASES` (a factor) makes the run longer."""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest

from policy_engine.chat.segments import RenderedChat
from policy_engine.core.errors import PolicyCheckError
from policy_engine.lang.check import check
from policy_engine.lang.format import format_policy
from policy_engine.lang.parse import parse
from policy_engine.proof.model.assignments import TooLarge
from policy_engine.proof.policy_diff import compare
from policy_engine.proof.policy_proof import PolicyProof, prove
from policy_engine.proof.witness.witness import Finder
from policy_engine.testing import policies
from policy_engine.testing.chats import rendered_chat
from policy_engine.testing.choices import RandomChoices
from tests.proof.cases import CHATS, KINDS, changed
from tests.proof.claims import Held, diff_problems
from tests.proof.generate import policy
from tests.proof.small import Decides, dead_case
from tests.properties import neighbours

HUNDREDS = int(os.environ.get("PROOF_CASES", "1"))


def chats(seed: object, count: int = CHATS) -> list[RenderedChat]:
    found = []
    for number in range(count):
        choices = RandomChoices(f"{seed}/{number}")
        found.append(rendered_chat(choices, most=random.Random(f"{seed}:{number}").choice((2, 3, 5, 8))))
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hundred", range(HUNDREDS))
def test_no_conversation_contradicts_a_report(kind: str, hundred: int) -> None:
    wrong = []
    for number in range(40):
        seed = f"{kind}/{hundred}/{number}"
        held = Held(report=prove(policy(RandomChoices(seed), **KINDS[kind])))
        for chat in chats(seed):
            wrong += [f"{seed}: {problem}" for problem in held.problems(chat)]
    assert wrong == []


@pytest.mark.parametrize("hundred", range(HUNDREDS))
def test_no_conversation_contradicts_a_report_on_a_policy_text(hundred: int) -> None:
    wrong = []
    proven = 0
    for number in range(60):
        seed = f"text/{hundred}/{number}"
        try:
            checked = check(parse(format_policy(policies.policy(RandomChoices(seed)))))
        except PolicyCheckError:
            continue
        held = Held(report=prove(checked))
        proven += held.report.undecided is None
        for chat in chats(seed):
            wrong += [f"{seed}: {problem}" for problem in held.problems(chat)]
    assert wrong == []
    assert proven > 30


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hundred", range(HUNDREDS))
def test_no_conversation_contradicts_a_comparison(kind: str, hundred: int) -> None:
    wrong = []
    for number in range(25):
        seed = f"diff/{kind}/{hundred}/{number}"
        old = policy(RandomChoices(seed), most=4, guards=False, **KINDS[kind])
        new = changed(old, RandomChoices(f"{seed}/changed"))
        diff = compare(old, new)
        for chat in chats(seed):
            wrong += [f"{seed}: {problem}" for problem in diff_problems(diff, chat)]
        assert compare(old, old).verdict in ("equal", "undecided")
    assert wrong == []


@pytest.mark.parametrize("kind", ["structure", "trained"])
@pytest.mark.parametrize("hundred", range(HUNDREDS))
def test_without_free_conditions_every_failure_replays_and_every_live_rule_decides(kind: str, hundred: int) -> None:
    options = {**KINDS[kind], "weights": 0}
    for number in range(60):
        seed = f"replay/{kind}/{hundred}/{number}"
        made = policy(RandomChoices(seed), **options)
        try:
            findings = PolicyProof(made)
        except TooLarge:
            continue
        report = findings.report()
        assert {g.verdict for g in report.guards} <= {"holds", "fails"}, seed
        assert all(g.witness is not None for g in report.fails), seed
        finder = Finder(findings.possible)
        for rule in made.rules:
            regions = [outcome.decided.get(rule.index, {}) for outcome in findings.outcomes]
            if any(regions):
                assert finder.find(regions, Decides(made, rule.index)) is not None, f"{seed}: rule {rule.index}"


@pytest.mark.parametrize("chunk", range(4))
def test_dead_rules_do_nothing_and_others_decide_in_a_small_conversation(chunk: int) -> None:
    """Numbered cases; `python -m tests.nightly dead` has the others."""
    outcomes: Counter[str] = Counter()
    for number in range(chunk * 4 * HUNDREDS, (chunk + 1) * 4 * HUNDREDS):
        outcome, problem = dead_case(f"dead:0:{number}")
        outcomes[outcome] += 1
        assert problem is None, f"dead:0:{number}: {problem}"
    assert {"dead rules", "live rules"} <= set(outcomes)


def test_no_conversation_contradicts_a_report_on_other_messages() -> None:
    """Numbered cases; `python -m tests.nightly neighbour-proofs` has the others."""
    outcomes: Counter[str] = Counter()
    for number in range(40 * HUNDREDS):
        outcome, problem = neighbours.proof_case(f"neighbour-proofs:0:{number}")
        outcomes[outcome] += 1
        assert problem is None, f"neighbour-proofs:0:{number}: {problem}"
    assert {"holds", "fails"} <= set(outcomes)
