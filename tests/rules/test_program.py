from __future__ import annotations

import pickle
import random

import pytest

from policy_engine import Program, policy_from_text
from tests.support.chats import build_chat
from tests.support.policies import ASSISTANT, SYSTEM, USER

POLICIES = [
    "train assistant; mask system, user; train eos after trained assistant; never train user",
    "train assistant where message.n > 1; scale last assistant by 2; mask /o/ in assistant",
    "train trained last 2 assistant; train text after last user; train eos of trained assistant",
]


def random_chat(rng: random.Random):
    roles = [rng.choice(("user", "assistant", "system")) for _ in range(rng.randint(0, 6))]
    messages = [{"role": r, "content": rng.choice(("", "Yo.", "no")), "n": rng.randint(0, 3)} for r in roles]
    return build_chat(messages, bos=rng.choice(("", "<s>")), add_generation_prompt=rng.random() < 0.3)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_pickled_program_decides_alike(policy: str):
    program = policy_from_text(policy)
    chat = build_chat([SYSTEM, USER, ASSISTANT, USER, ASSISTANT])
    assert pickle.loads(pickle.dumps(program)).decide(chat) == program.decide(chat)
    assert pickle.loads(pickle.dumps(program)) == program


@pytest.mark.parametrize("policy", POLICIES)
def test_what_a_program_has_seen_changes_no_decision(policy: str):
    rng = random.Random(7)
    used = policy_from_text(policy)
    for _ in range(300):
        chat = random_chat(rng)
        assert used.decide(chat) == Program(policy=used.policy).decide(chat)


@pytest.mark.parametrize("policy", POLICIES)
def test_pieces_partition_the_text(policy: str):
    rng = random.Random(8)
    program = policy_from_text(policy)
    for _ in range(200):
        chat = random_chat(rng)
        pieces = program.decide(chat).pieces
        assert "".join(chat.text[p.start : p.end] for p in pieces) == chat.text
        assert all(p.start < p.end for p in pieces)
        for piece in pieces:
            segment = chat.segments[piece.segment]
            assert segment.start <= piece.start < piece.end <= segment.end


def test_policies_of_roles_and_parts_are_decided_once_per_shape():
    program = policy_from_text("train assistant; train eos of trained assistant")
    assert program.is_constant
    program.decide(build_chat([USER, ASSISTANT]))
    calls = []
    object.__setattr__(program, "_decide", lambda chat: calls.append(chat))
    program.decide(build_chat([{"role": "user", "content": "other"}, {"role": "assistant", "content": "words"}]))
    assert calls == []


def test_settings():
    assert policy_from_text("").setting("straddle") == "mask"
    assert policy_from_text("on straddle error").setting("straddle") == "error"
    assert policy_from_text("").setting("empty") == "drop"
    assert policy_from_text("").setting("unrendered") is None
