"""`sampled in TARGET`: the characters of tokens that a row marks as sampled."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policy_engine import Masker, RowError, load_tokenizer
from policy_engine.lang.format import format_policy
from policy_engine.lang.parse import parse
from policy_engine.proof.load_policy import policy_from_text
from policy_engine.proof.policy_proof import prove
from policy_engine.rules.compile import compile_text
from tests.support.chats import build_chat

CHAT = [
    {"role": "user", "content": "2+2?"},
    {"role": "assistant", "content": "It is four."},
]


def decided(policy: str, sampled, chat=CHAT) -> str:
    """The trained characters, each stretch in brackets; `sampled` are the texts that were sampled."""
    made = build_chat(chat)
    ranges = None if sampled is None else tuple((at := made.text.rindex(s), at + len(s)) for s in sampled)
    found = ""
    for piece in compile_text(policy).decide(replace(made, sampled=ranges)).pieces:
        found += f"[{made.text[piece.start : piece.end]}]" if piece.weight else ""
    return found


@pytest.mark.parametrize(
    ("policy", "sampled", "expected"),
    [
        ("train sampled in assistant", ["four.<|im_end|>"], "[four.]"),
        ("train sampled in everything", ["four.<|im_end|>"], "[four.][<|im_end|>]"),
        ("train sampled in (assistant, eos of assistant)", ["four.<|im_end|>"], "[four.][<|im_end|>]"),
        ("train assistant; mask sampled in assistant", ["is", "r"], "[It ][ fou][.]"),
        ("train sampled in assistant", [], ""),
        ("train sampled in user", ["2+2"], "[2+2]"),
        ("train /[a-z]+/ in sampled in assistant", ["t is f"], "[t][is][f]"),
        ("train sampled in /[a-z]+/ in assistant", ["t is f"], "[t][is][f]"),
        ('let own = sampled in assistant; train own where message.role == "assistant"', ["It"], "[It]"),
        ("train assistant; scale sampled in assistant by 0", ["It is"], "[ four.]"),
    ],
)
def test_sampled(policy, sampled, expected):
    assert decided(policy, sampled) == expected


def test_a_guard_over_sampled_text():
    assert decided("train sampled in everything; never train user", ["It"]) == "[It]"
    with pytest.raises(Exception, match="never train user"):
        decided("train sampled in everything; never train user", ["2+2?"])


def test_rows_without_marks_fail_by_name():
    with pytest.raises(RowError, match="has no column `sampled`") as found:
        decided("mask user; train sampled in assistant", None)
    assert found.value.code == "PE542"
    assert "train sampled in assistant" in found.value.message
    with pytest.raises(RowError, match="sampled"):
        Masker(compile_text("train assistant; never train sampled in user"), "builtin")(CHAT)
    assert decided("let x = sampled in user; train assistant", None) == "[It is four.]"  # a `let` that is not used


def test_the_formatter_and_the_parser():
    text = "train sampled in (assistant, eos of assistant) where sample.ok\n"
    assert format_policy(parse("train  sampled  in ( assistant,eos of assistant )  where sample.ok")) == text


def test_marks_of_ids_reach_characters():
    tokenizer = load_tokenizer("builtin")
    masker = Masker(compile_text("train sampled in everything; never train user"), tokenizer)
    ids = masker.tokenizer.tokenizer.apply_chat_template(CHAT, tokenize=True, return_dict=False)
    start = next(i for i in range(len(ids)) if tokenizer.tokenizer.decode(ids[i:]).startswith("It is four."))
    row = masker.mask_given(CHAT, prompt_ids=ids[:start], completion_ids=ids[start:-1])
    assert tokenizer.tokenizer.decode([x for x in row.labels if x != -100]) == "It is four.<|im_end|>"
    marks = [0] * start + [1, 0] + [1] * (len(ids) - start - 2)
    row = masker.mask_given(CHAT, input_ids=ids, sampled=marks)
    assert [i for i, label in enumerate(row.labels) if label != -100] == [i for i, m in enumerate(marks) if m]
    assert "sampled in everything" in row.explain(token=start).as_text()


def test_a_half_sampled_character_is_not_sampled():
    tokenizer = load_tokenizer("builtin")
    chat = [CHAT[0], {"role": "assistant", "content": "🙂"}]
    masker = Masker(compile_text("train sampled in assistant; train eos"), tokenizer)
    ids = tokenizer.tokenizer.apply_chat_template(chat, tokenize=True, return_dict=False)
    smile = tokenizer.tokenizer("🙂", add_special_tokens=False)["input_ids"]
    assert len(smile) > 1
    at = next(i for i in range(len(ids)) if ids[i : i + len(smile)] == smile)
    whole = masker.mask_given(chat, input_ids=ids, sampled=[at <= i < at + len(smile) for i in range(len(ids))])
    assert whole.labels[at : at + len(smile)] == smile
    half = masker.mask_given(chat, input_ids=ids, sampled=[i == at for i in range(len(ids))])
    assert set(half.labels[at : at + len(smile)]) == {-100}


class TestProof:
    def test_what_is_sampled_is_free(self):
        report = prove(policy_from_text("train sampled in everything").policy)
        assert report.guards == ()
        failing = compile_text("train sampled in everything; never train user").policy
        (guard,) = prove(failing).guards
        assert guard.verdict == "fails"
        witness = guard.witness
        assert witness.chat.sampled
        segment = witness.chat.segments[witness.segment]
        assert witness.chat.role(segment) == "user"

    def test_a_guard_that_sampled_in_a_role_keeps(self):
        (guard,) = prove(compile_text("train sampled in assistant; never train user, tool, system").policy).guards
        assert guard.verdict == "holds"

    def test_two_targets_ask_the_same_fact(self):
        text = "train sampled in assistant; mask sampled in assistant.text; never train assistant.text"
        (guard,) = prove(compile_text(text).policy).guards
        assert guard.verdict == "holds"
