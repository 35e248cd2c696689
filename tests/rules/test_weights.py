from __future__ import annotations

import math

import pytest

from policy_engine import RowError, policy_from_text
from tests.support.chats import build_chat
from tests.support.policies import ASSISTANT, USER, weights


def says(text: str, **more: object) -> dict[str, object]:
    return {"role": "assistant", "content": text, **more}


def test_weights():
    assert weights("train assistant", [ASSISTANT]) == [("Yo.", 1.0)]
    assert weights("train assistant weight 0.5", [ASSISTANT]) == [("Yo.", 0.5)]
    assert weights("train assistant weight -1", [ASSISTANT]) == [("Yo.", -1.0)]
    assert weights("train assistant weight 0", [ASSISTANT]) == []


def test_weight_zero_names_its_rule():
    chat = build_chat([ASSISTANT])
    for weight in ("0", "-0.0"):
        (piece,) = (
            p for p in policy_from_text(f"train text weight {weight}").decide(chat).pieces if p.rule is not None
        )
        assert (piece.rule, piece.weight, math.copysign(1, piece.weight)) == (0, 0.0, 1.0)


def test_scale_multiplies_what_the_rules_above_left():
    assert weights("train assistant weight 3; scale assistant by 0.5; scale text by 4", [ASSISTANT]) == [("Yo.", 6.0)]
    assert weights("scale assistant by 0.5; train assistant", [ASSISTANT]) == [("Yo.", 1.0)]
    assert weights("train assistant; scale assistant by 0.5; train assistant weight 2", [ASSISTANT]) == [("Yo.", 2.0)]
    assert weights("scale assistant by 5", [ASSISTANT]) == []


def test_scale_does_not_change_the_deciding_rule():
    chat = build_chat([ASSISTANT])
    pieces = policy_from_text("train assistant; scale assistant by 0").decide(chat).pieces
    assert {(p.rule, p.weight) for p in pieces} == {(None, 0.0), (0, 0.0)}


def test_scale_under_a_condition():
    policy = "train assistant weight 2; scale assistant by 10 where message.x; scale assistant by 3"
    assert weights(policy, [says("A", x=True), says("B")]) == [("A", 60.0), ("B", 6.0)]


def test_weight_from_a_field():
    chat = [says("A", w=0.25), says("B"), says("C", w=None), says("D", w=0)]
    assert weights("train assistant weight message.w", chat) == [("A", 0.25), ("B", 1.0), ("C", 1.0)]
    assert weights("train assistant; scale assistant by message.w", chat) == [("A", 0.25), ("B", 1.0), ("C", 1.0)]


def test_weight_field_on_text_without_an_owner_is_one():
    chat = build_chat([], preamble="Today.")
    assert weights("train everything weight message.w", chat) == [("Today.", 1.0)]


@pytest.mark.parametrize("bad", ["1", True, math.nan, math.inf, [1], 10**400, 1e39, 1e-60])
def test_a_weight_that_is_no_number_fails_the_row(bad: object):
    policy = policy_from_text("train assistant weight message.w", name="w.policy")
    with pytest.raises(RowError, match=r"w\.policy:1:1"):
        policy.decide(build_chat([USER, says("A", w=bad)]))


def test_a_bad_weight_fails_the_row_though_a_later_rule_decides():
    policy = policy_from_text("train assistant weight message.w; mask assistant where message.skip")
    with pytest.raises(RowError, match="message 1"):
        policy.decide(build_chat([USER, says("A", w="x", skip=True)]))


def test_a_bad_weight_under_a_false_condition_is_never_read():
    policy = "train assistant weight message.w where message.ok"
    assert weights(policy, [says("A", w="x"), says("B", w=2, ok=True)]) == [("B", 2.0)]


def test_a_product_too_large_for_float32_fails_the_row():
    policy = policy_from_text("train assistant weight 1e30; scale assistant by 1e30")
    with pytest.raises(RowError, match="float32"):
        policy.decide(build_chat([ASSISTANT]))


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("train assistant", False),
        ("train assistant weight 1", False),
        ("train assistant weight 2", True),
        ("train assistant weight message.w", True),
        ("train assistant; scale user by 2", True),
        ("mask assistant", False),
    ],
)
def test_is_weighted(policy: str, expected: bool):
    assert policy_from_text(policy).is_weighted is expected
