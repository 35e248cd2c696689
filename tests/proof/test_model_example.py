"""The example that the docstrings of `proof.model` show."""

from __future__ import annotations

import pytest

from policy_engine.lang.ast import leaves
from policy_engine.proof.model.positions import ALL, OTHER, AtLeast, CountTest, Turns, counted, selected
from policy_engine.proof.model.positions import Letter as Turn
from policy_engine.proof.policy_proof import PolicyProof
from policy_engine.rules.compile import compile_text
from policy_engine.rules.conditions.comparison import MISSING

ANY, MISSING_ONLY, ABOVE = 0b11, 0b01, 0b10


@pytest.fixture(scope="module")
def proof() -> PolicyProof:
    return PolicyProof(compile_text("train assistant where message.quality > 3\nmask last assistant\n").policy)


def test_fields_and_points(proof: PolicyProof) -> None:
    (values,) = proof.world.conditions.fields.values()
    assert [MISSING, 5] == [cell.value for cell in values.cells]
    points = proof.world.points
    assert 0b1111 == points.full
    after = [points.suffixes.turns(points.place(point).suffix) for point in range(4)]
    assert ["assistant", "assistant", OTHER, OTHER] == [points.place(point).letter.role for point in range(4)]
    assert [[], ["assistant"], [], ["assistant"]] == [[turn.role for turn in turns] for turns in after]


def test_regions_and_weights(proof: PolicyProof) -> None:
    world = proof.world
    firsts = ["text", "bos", "header", "tool_call", "media", "generation_prompt"]
    assert firsts == [part_class.parts[0] for part_class in world.classes]
    assert {ABOVE: 0b0011} == world.matches(0, proof.policy.rules[0], world.classes[0])
    body = proof.outcomes[0]
    assert {1: {ANY: 0b0001}, 0: {ABOVE: 0b0010}, None: {MISSING_ONLY: 0b0010, ANY: 0b1100}} == body.decided
    assert {(1.0,): {ABOVE: 0b0010}, (0.0,): {MISSING_ONLY: 0b0010, ANY: 0b1101}} == body.weights


def test_facts_of_places() -> None:
    last_two = Turns("assistant", "last", 2, None)
    assert ((AtLeast("suffix", ("assistant", None), 2), False),) == selected(last_two, Turn("assistant"))
    (rule,) = compile_text("train assistant where turn.index < 3").policy.rules
    assert rule.condition is not None
    (test,) = leaves(rule.condition)
    assert ((CountTest("prefix", ALL, 0, test), True),) == counted("index", test, Turn("assistant"))


def test_trained_bits() -> None:
    text = "train assistant\nmask trained last assistant\ntrain eos after trained user\n"
    assert [(0, 1), (0, 2)] == PolicyProof(compile_text(text).policy).world.stages.bits


def test_the_witness_that_is_shown() -> None:
    proof = PolicyProof(compile_text("train assistant; never train assistant.text").policy)
    (guard,) = proof.guards()
    assert guard.witness is not None
    assert ({"role": "assistant", "content": "4."},) == guard.witness.conversation.messages
