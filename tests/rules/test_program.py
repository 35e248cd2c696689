from __future__ import annotations

import pickle
import random

import pytest

from policy_engine import Program, load_tokenizer, policy_from_text
from policy_engine.chat.segments import RenderedChat, Segment
from policy_engine.data.conversation import Conversation
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


def counted(program: Program) -> list[object]:
    """The chats that a program decides segment by segment from now on."""
    calls: list[object] = []
    decide = program._decide
    object.__setattr__(program, "_decide", lambda view: calls.append(view.chat) or decide(view))
    return calls


def answered(flag: object, text: str = "Yo.") -> RenderedChat:
    return build_chat([USER, {"role": "assistant", "content": text, "ok": flag}])


def test_policies_of_roles_and_parts_are_decided_once_per_shape():
    program = policy_from_text("train assistant; train eos of trained assistant")
    assert program.is_whole
    calls = counted(program)
    program.decide(build_chat([USER, ASSISTANT]))
    program.decide(build_chat([{"role": "user", "content": "other"}, {"role": "assistant", "content": "words"}]))
    assert len(calls) == 1


def test_chats_of_one_shape_on_which_the_same_conditions_hold_are_decided_once():
    program = policy_from_text("train assistant where message.ok == true\nnever train assistant where message.ok == 1")
    calls = counted(program)
    for flag, text in ((True, "a"), (True, "bc"), (1, "a"), (1.0, "b"), (False, "c"), ("true", "c"), (None, "d")):
        weights = [piece.weight for piece in program.decide(answered(flag, text)).pieces]
        assert (1.0 in weights) == (flag is True), flag
    assert len(calls) == 3  # true; 1; all the others, on which nothing holds


def test_segments_without_text_are_left_out_of_what_is_known_by_shape():
    def chat(text: str) -> RenderedChat:
        end = len(text)
        parts = ((0, 0, "header"), (0, end, "text"), (end, end, "reasoning.text"), (end, end + 1, "eot"))
        return RenderedChat(
            text=text + "!",
            segments=tuple(Segment(start=a, end=b, part=part, turn=0) for a, b, part in parts),
            messages=({"role": "assistant", "content": text},),
            sample={},
        )

    program = policy_from_text("train assistant; never train header")
    for text in ("ab", "abcd"):
        found = program.decide(chat(text))
        assert [(0, len(text), 1, 1.0, 0), (len(text), len(text) + 1, 3, 0.0, None)] == [
            (p.start, p.end, p.segment, p.weight, p.rule) for p in found.pieces
        ]


def test_shapes_are_told_apart_by_their_parts():
    def chat(*parts: str) -> RenderedChat:
        segments = tuple(Segment(start=at, end=at + 1, part=part, turn=0) for at, part in enumerate(parts))
        return RenderedChat(text="ab", segments=segments, messages=({"role": "assistant", "content": ""},), sample={})

    program = policy_from_text("train assistant")
    assert [0.0, 1.0] == program.table(chat("header", "text")).weights
    assert [1.0, 0.0] == program.table(chat("text", "header")).weights


def test_what_never_guards_cover_is_known_by_shape():
    template = load_tokenizer("builtin").template
    program = policy_from_text("train assistant; never train user")
    for text in ("a", "longer", "b"):
        chat = template.render(Conversation(messages=({"role": "user", "content": text}, ASSISTANT)))
        assert Program(policy=program.policy).table(chat).never == program.table(chat).never != ()


def test_a_text_that_a_regex_asks_for_is_not_read_unless_the_rule_might_decide():
    program = policy_from_text("train assistant where message.why matches /x/; mask assistant where message.ok")
    calls = counted(program)
    long = {"role": "assistant", "content": "Yo.", "why": "x" * 500}
    for message, trained in ((long, True), ({**long, "ok": True}, False), ({**long, "why": "y" * 500}, False)):
        assert trained == any(piece.weight for piece in program.decide(build_chat([USER, message])).pieces)
    assert len(calls) == 3


def test_settings():
    assert policy_from_text("").setting("straddle") == "mask"
    assert policy_from_text("on straddle error").setting("straddle") == "error"
    assert policy_from_text("").setting("empty") == "drop"
    assert policy_from_text("").setting("unrendered") is None
