from __future__ import annotations

import pickle

import pytest

from policy_engine import GuardError
from policy_engine.rules.compile import compile_text  # compiled without proving guards
from tests.support.chats import build_chat
from tests.support.policies import ASSISTANT, USER

CHAT = build_chat([USER, ASSISTANT])


def test_guards_that_hold():
    guarded = compile_text("train assistant; never train user; always train assistant").decide(CHAT)
    assert compile_text("train assistant").decide(CHAT).pieces == guarded.pieces


def test_never_names_guard_rule_turn_role_part_and_text():
    program = compile_text("train assistant;\ntrain everything\nnever train user", name="g.policy")
    with pytest.raises(GuardError) as caught:
        program.decide(CHAT)
    for words in (
        "g.policy:3:1",
        "never train user",
        "trained by g.policy:2:1",
        "train everything",
        "message 0",
        "`user`",
    ):
        assert words in str(caught.value)
    assert "<|im_start|>user" in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_never_role_covers_the_whole_turn():
    with pytest.raises(GuardError, match="separator"):
        compile_text("train separator; never train assistant; mask user").decide(CHAT)


def test_always_role_covers_its_body():
    compile_text("train assistant; always train assistant").decide(CHAT)
    with pytest.raises(GuardError, match="masked by default"):
        compile_text("train user; always train assistant").decide(CHAT)


def test_guards_look_at_all_rules_wherever_they_stand():
    compile_text("always train assistant; train assistant").decide(CHAT)
    with pytest.raises(GuardError):
        compile_text("train assistant; always train assistant; mask assistant").decide(CHAT)


def test_a_guard_on_trained_turns_asks_all_rules():
    compile_text("always train eos of trained assistant; train assistant; train eos of assistant").decide(CHAT)
    with pytest.raises(GuardError, match="eot"):
        compile_text("always train eos of trained assistant; train assistant").decide(CHAT)


def test_guards_on_a_generation_prompt_are_no_matter_of_rules():
    chat = build_chat([USER], add_generation_prompt=True)
    compile_text("train everything; always train everything").decide(chat)
    compile_text("train everything; never train generation_prompt").decide(chat)


def test_a_conditional_guard():
    program = compile_text("train text; never train text where message.secret")
    program.decide(CHAT)
    with pytest.raises(GuardError):
        program.decide(build_chat([{**USER, "secret": True}]))


def test_a_guard_over_a_regex():
    program = compile_text("train assistant; never train /[0-9]{4}/ in assistant")
    program.decide(build_chat([{"role": "assistant", "content": "12 34"}]))
    with pytest.raises(GuardError, match="'1234'"):
        program.decide(build_chat([{"role": "assistant", "content": "pin 12345"}]))


def test_a_violation_is_found_again_after_a_chat_of_the_same_shape():
    program = compile_text("train everything; never train user")
    for _ in range(2):
        with pytest.raises(GuardError):
            program.decide(CHAT)


def test_never_ranges_are_those_the_guards_cover():
    program = compile_text("never train user, separator")
    for _ in range(2):
        assert [CHAT.text[a:b] for a, b in program.decide(CHAT).never] == [
            "<|im_start|>user\nHi?<|im_end|>\n",
            "\n",
        ]
