from __future__ import annotations

import json

import pytest

from policy_engine import policy_from_text
from policy_engine.chat.segments import MediaTokens
from policy_engine.mask.explain import explain_segment, explain_token
from tests.support.chats import build_chat, fake_tokens, tokens_at
from tests.support.policies import USER

POLICY = """train assistant
mask assistant where message.n > 3
mask /secret/ in assistant
train assistant where message.n > 9 and has message.x
scale assistant by 2"""
CHAT = build_chat([USER, {"role": "assistant", "content": "a secret", "n": 5}])
TEXT = next(i for i, s in enumerate(CHAT.segments) if s.part == "text" and s.turn == 1)


def test_a_segment_with_two_decisions():
    found = explain_segment(policy_from_text(POLICY, name="p.policy"), CHAT, TEXT)
    assert (found.weight, found.reason) == (0.0, "rule")
    first, second = found.pieces
    assert (first.text, second.text) == ("a ", "secret")
    assert first.rule is not None
    assert second.rule is not None
    assert (first.rule.index, second.rule.index) == (1, 2)
    assert [r.index for r in first.lost] == [0]
    assert [r.index for r in second.lost] == [0, 1]
    (rejected,) = first.rejected
    assert rejected.index == 3
    assert [(c.test, c.value, c.missing, c.holds) for c in rejected.conditions] == [
        ("message.n > 9", 5, False, False),
        ("has message.x", None, True, False),
    ]
    assert first.scaled_by == ()


def test_a_condition_on_content_in_parts_has_the_joined_text():
    chat = build_chat(
        [{"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]
    )
    at = next(i for i, s in enumerate(chat.segments) if s.part == "text")
    (piece,) = explain_segment(policy_from_text('train assistant where message.content == "ab"'), chat, at).pieces
    assert piece.rule is not None
    assert [("ab", True)] == [(c.value, c.holds) for c in piece.rule.conditions]


def test_a_token_without_characters_is_explained_by_the_one_at_its_place():
    at = CHAT.segments[TEXT].start
    found = explain_token(policy_from_text("train assistant"), tokens_at(CHAT, [(0, at), (at, at), (at, at + 1)]), 1)
    assert ("", 1.0, "rule") == (found.text, found.weight, found.reason)
    assert [at] == [piece.start for piece in found.pieces]


def test_text_and_json_say_the_same():
    found = explain_segment(policy_from_text(POLICY, name="p.policy"), CHAT, TEXT)
    text = found.as_text()
    for words in (
        "p.policy:2:1",
        "`message.n > 3` is true: `message.n` is 5",
        "did not hold",
        "content, from character 0",
    ):
        assert words in text
    assert json.loads(json.dumps(found.as_dict()))["pieces"][0]["rule"]["place"] == "p.policy:2:1"


def test_a_scaled_token():
    program = policy_from_text("train assistant weight 3; scale assistant by 2; scale assistant by 5 where message.x")
    tokenized = fake_tokens(CHAT, width=1)
    token = CHAT.segments[TEXT].start
    found = explain_token(program, tokenized, token)
    assert (found.weight, found.reason, found.text) == (6.0, "rule", "a")
    assert [r.index for r in found.pieces[0].scaled_by] == [1]
    assert [r.index for r in found.pieces[0].rejected] == [2]


def test_a_scale_above_the_rule_that_decides_has_lost():
    (piece,) = explain_segment(policy_from_text("train body; scale assistant by 2; train assistant"), CHAT, TEXT).pieces
    assert (1.0, 2) == (piece.weight, piece.rule.index if piece.rule else None)
    assert ((), [0, 1]) == (piece.scaled_by, [rule.index for rule in piece.lost])


def test_reasons_of_tokens():
    program = policy_from_text("train assistant; on straddle train")
    segment = CHAT.segments[TEXT]
    tokenized = tokens_at(
        CHAT, [(0, 1), (1, segment.start), (segment.start, segment.end + 1), (segment.end + 1, len(CHAT.text))]
    )
    first, header, straddling, end = (explain_token(program, tokenized, t) for t in range(4))
    assert (first.reason, first.pieces[0].part) == ("structural", "header")
    assert "first token" in first.why
    assert header.reason == "default"
    assert (straddling.reason, straddling.weight) == ("straddle", 1.0)
    assert "text of message 1, eot of message 1" in straddling.why
    assert end.pieces[-1].rule is None


def test_a_token_of_no_character():
    tokenized = tokens_at(CHAT, [(0, len(CHAT.text)), (len(CHAT.text), len(CHAT.text))])
    found = explain_token(policy_from_text("train everything"), tokenized, 1)
    assert (found.pieces, found.reason, found.weight) == ((), "default", 0.0)


def test_bad_spans_under_a_false_condition_do_not_stop_an_explanation():
    chat = build_chat([{"role": "assistant", "content": "a", "s": "bad"}])
    program = policy_from_text("train assistant; mask spans message.s in assistant where message.ok")
    assert explain_segment(program, chat, 1).weight == 1.0


def test_a_segment_of_an_image_names_it():
    image = {"type": "image"}
    chat = build_chat([{"role": "user", "content": [{"type": "text", "text": "See:"}, image, image]}])
    media = [MediaTokens(kind="image", turn=0, item=i, first=9 * i, count=8, source=f"{i}.png") for i in (1, 2)]
    places = [
        (s.part, explain_segment(policy_from_text(""), chat, i, media=media)) for i, s in enumerate(chat.segments)
    ]
    assert [
        ("header", None), ("text", None), ("media.image", "[image 1.png: 8 tokens]"),
        ("media.image", "[image 2.png: 8 tokens]"), ("eot", None), ("separator", None),
    ] == [(part, found.medium) for part, found in places]  # fmt: skip


def test_no_such_place():
    program = policy_from_text("train assistant")
    with pytest.raises(IndexError):
        explain_segment(program, CHAT, 99)
    with pytest.raises(IndexError):
        explain_token(program, fake_tokens(CHAT, width=5), 999)


def test_the_values_of_neighbours_are_shown():
    call = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "assistant", "content": "Calls.", "tool_calls": [{"id": "a", **call}, {"id": "b", **call}]},
        {"role": "tool", "tool_call_id": "a", "content": "Error: no"},
        {"role": "tool", "tool_call_id": "b", "content": "fine"},
    ]
    policy = 'train assistant\nmask assistant where result.content contains "Error" and not has previous.role'
    found = explain_segment(policy_from_text(policy), build_chat(messages), 1)
    (piece,) = found.pieces
    assert piece.rule is not None
    first, second = piece.rule.conditions
    assert (["Error: no", "fine"], True, True, False) == (first.value, first.several, first.holds, first.missing)
    assert (None, False, False, True) == (second.value, second.several, second.holds, second.missing)
    assert "`result.content contains \"Error\"` is true: `result.content` is 'Error: no' and 'fine'" in str(found)
    assert "`has previous.role` is false: `previous.role` is not there" in str(found)
