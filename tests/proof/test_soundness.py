"""Proofs against conversations that know nothing of them. `PROOF_CASES` (a factor) makes the run longer."""

from __future__ import annotations

import itertools
import os
import random

import pytest

from policy_engine.chat.segments import RenderedChat, Segment
from policy_engine.core.errors import PolicyCheckError
from policy_engine.core.vocabulary import PARTS, UNOWNED
from policy_engine.lang.check import check
from policy_engine.lang.format import format_policy
from policy_engine.lang.parse import parse
from policy_engine.proof import compare, prove
from policy_engine.proof.findings import Findings
from policy_engine.proof.space import TooLarge
from policy_engine.proof.witness import Decides, Finder
from policy_engine.testing import policies
from policy_engine.testing.chats import rendered_chat
from policy_engine.testing.choices import RandomChoices
from tests.proof.cases import CHATS, KINDS, changed
from tests.proof.claims import Held, bare, diff_problems
from tests.proof.generate import policy

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
            findings = Findings(made)
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


def whole_chat(roles: tuple[str, ...], bodies: tuple[bool, ...]) -> RenderedChat:
    """A chat whose turns have every part, or every part but a body, and all text that no turn owns."""
    segments: list[Segment] = []
    texts: list[str] = []

    def write(part: str, turn: int | None) -> None:
        at = len(texts)
        segments.append(Segment(start=at, end=at + 1, part=part, turn=turn))
        texts.append("x")

    for part in sorted(UNOWNED):
        write(part, None)
    for turn, body in enumerate(bodies):
        for part in PARTS:
            if part not in UNOWNED and (body or part in ("header", "eot", "eod", "separator", "empty_reasoning")):
                write(part, turn)
    return RenderedChat(
        text="".join(texts),
        segments=tuple(segments),
        messages=tuple({"role": role, "content": "x"} for role in roles),
        sample={},
    )


@pytest.fixture(scope="module")
def small_chats() -> list[RenderedChat]:
    """All conversations of up to 5 turns over four roles, one of them named by no policy."""
    return [
        whole_chat(roles, (True,) * length)
        for length in range(1, 6)
        for roles in itertools.product(("user", "assistant", "tool", "narrator"), repeat=length)
    ]


@pytest.fixture(scope="module")
def small_chats_with_bodies() -> list[RenderedChat]:
    """All conversations of up to 4 turns over three roles, each turn with a body or without."""
    return [
        whole_chat(roles, bodies)
        for length in range(1, 5)
        for roles in itertools.product(("user", "assistant", "narrator"), repeat=length)
        for bodies in itertools.product((True, False), repeat=length)
    ]


@pytest.mark.parametrize("kind", ["structure", "trained"])
def test_live_rules_decide_in_a_small_conversation(
    kind: str, small_chats: list[RenderedChat], small_chats_with_bodies: list[RenderedChat]
) -> None:
    everything = small_chats if kind == "structure" else small_chats_with_bodies
    limit = 5 if kind == "structure" else 4
    for number in range(12 * HUNDREDS):
        seed = f"small/{kind}/{number}"
        made = policy(RandomChoices(seed), most=5, guards=False, small=True, **{**KINDS[kind], "weights": 0})
        findings = Findings(made)
        dead = {d.rule.index for d in findings.dead()}
        program = bare(made)
        seen: set[int | None] = set()
        for chat in everything:
            seen.update(program.table(chat).rules)
        finder = Finder(findings.possible)
        for rule in made.rules:
            regions = [outcome.decided.get(rule.index, {}) for outcome in findings.outcomes]
            if not any(regions):
                assert rule.index not in seen, f"{seed}: rule {rule.index} is said to decide nothing"
                continue
            assert rule.index not in dead
            if rule.index not in seen:
                # Some places need more turns than that; then the witness has them, and replays.
                witness = finder.find(regions, Decides(made, rule.index))
                assert witness is not None, f"{seed}: rule {rule.index}"
                assert shape_is_missing(witness.conversation.messages, limit), f"{seed}: rule {rule.index}"


def shape_is_missing(messages: tuple, limit: int) -> bool:  # type: ignore[type-arg]
    """Whether a conversation is not among the small ones: longer, or with a role they leave out."""
    return len(messages) > limit or any(m["role"] not in ("user", "assistant", "tool", "narrator") for m in messages)
