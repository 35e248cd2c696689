from __future__ import annotations

import dataclasses
import random
import re

import numpy as np
import pytest

from policy_engine import AttributionError, ChatTemplate, Conversation, RowError, policy_from_text
from policy_engine.chat.loading import load_tokenizer
from policy_engine.chat.segments import RenderedChat, Segment
from policy_engine.chat.skeleton.slot_sums import by_layout, starts_in
from policy_engine.core.facts import placed_of
from policy_engine.mask.apply_program import apply_program, mask_many, table_for
from policy_engine.mask.labels import labels_of, loss_weights_of
from policy_engine.mask.token_mask import REASONS
from policy_engine.rules.compile import compile_text
from tests.support.chats import build_chat, fake_tokens, tokens_at
from tests.support.policies import ASSISTANT, SYSTEM, USER


def decided(policy: str, chat: RenderedChat, bounds: list[tuple[int, int]]) -> list[tuple[float, int, str]]:
    mask = apply_program(policy_from_text(policy), tokens_at(chat, bounds))
    reasons = [REASONS[r] for r in mask.reasons_T.tolist()]
    return list(zip(mask.weights_T.tolist(), mask.rules_T.tolist(), reasons))


def pair(first: str = "ab", second: str = "cd") -> RenderedChat:
    """Two messages' data side by side, after one character that is the first token."""
    end = 1 + len(first)
    return RenderedChat(
        text="!" + first + second,
        segments=(
            Segment(start=0, end=1, part="bos", turn=None),
            Segment(start=1, end=end, part="text", turn=0, field=("content",), field_exact=True),
            Segment(start=end, end=end + len(second), part="text", turn=1, field=("content",), field_exact=True),
        ),
        messages=({"role": "user", "content": first}, {"role": "assistant", "content": second}),
        sample={},
    )


CUT = [(0, 1), (1, 2), (2, 4), (4, 5)]


def test_tokens_of_one_decision():
    assert decided("train assistant", pair(), [(0, 1), (1, 3), (3, 5)]) == [
        (0.0, -1, "structural"),
        (0.0, -1, "default"),
        (1.0, 0, "rule"),
    ]
    assert decided("mask user", pair(), [(0, 1), (1, 3)])[1] == (0.0, 0, "rule")


def test_the_first_token_is_never_a_target():
    assert decided("train everything", pair(), [(0, 2), (2, 3), (3, 5)])[0] == (0.0, -1, "structural")
    assert decided("train everything; on straddle error", pair(), [(0, 4), (4, 5)])[0] == (0.0, -1, "structural")


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("train assistant", (0.0, -1, "straddle")),
        ("train assistant; on straddle mask", (0.0, -1, "straddle")),
        # Data of two messages, not all of it trained: cannot be trained.
        ("train assistant; on straddle train", (0.0, -1, "straddle")),
        ("train everything", (0.0, -1, "straddle")),
        ("train everything; on straddle train", (1.0, 0, "straddle")),
        ("train user weight -3; train assistant weight 2; on straddle train", (2.0, 1, "straddle")),
        ("train user weight 2; train assistant weight -2; on straddle train", (2.0, 0, "straddle")),
        ("train everything; mask bos; never train bos; on straddle train", (1.0, 0, "straddle")),
    ],
)
def test_a_token_that_mixes_data_of_two_messages(policy: str, expected: tuple[float, int, str]):
    assert decided(policy, pair(), CUT)[2] == expected


def test_straddle_error_names_both_sides():
    with pytest.raises(RowError, match=r"'bc'.*message 0 \(`user`\): masked.*message 1 \(`assistant`\): trained"):
        decided("train assistant; on straddle error", pair(), CUT)


def body_and_end() -> tuple[RenderedChat, list[tuple[int, int]]]:
    """A token over the last character of a turn's text and the first of its end marker."""
    chat = build_chat([ASSISTANT])
    text, eot = (next(s for s in chat.segments if s.part == part) for part in ("text", "eot"))
    return chat, [(0, text.start), (text.start, text.end - 1), (text.end - 1, eot.start + 1), (eot.start + 1, eot.end)]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("train assistant", (0.0, -1, "straddle")),
        ("train assistant; on straddle train", (1.0, 0, "straddle")),
        ("train assistant; train eot", (1.0, 0, "rule")),
        ("train assistant weight 3; train eot weight 2; on straddle train", (2.0, 1, "straddle")),
        ("train assistant weight 3; train eot weight 2", (2.0, 1, "straddle")),
        ("train assistant weight 3; train eot weight 2; on straddle mask", (2.0, 1, "straddle")),
        ("train assistant; never train eot; on straddle train", (0.0, -1, "straddle")),
        ("mask text", (0.0, 0, "rule")),
    ],
)
def test_a_token_over_data_and_scaffold_of_one_turn(policy: str, expected: tuple[float, int, str]):
    chat, bounds = body_and_end()
    assert decided(policy, chat, bounds)[2] == expected


def test_several_tokens_on_one_character_and_tokens_of_none():
    chat = pair()
    bounds = [(0, 1), (1, 3), (3, 3), (3, 4), (3, 4), (4, 5), (5, 5)]
    assert [d[0] for d in decided("train assistant", chat, bounds)] == [0, 0, 1, 1, 1, 1, 0]
    assert decided("train assistant", chat, bounds)[-1] == (0.0, -1, "default")


def test_a_generation_prompt_is_never_a_target():
    chat = build_chat([USER], add_generation_prompt=True)
    start = chat.segments[-1].start
    bounds = [(0, 5), (5, start - 1), (start - 1, start + 1), (start + 1, start + 1), (start + 1, len(chat.text))]
    assert decided("train everything", chat, bounds) == [
        (0.0, -1, "structural"),
        (1.0, 0, "rule"),
        (0.0, -1, "structural"),
        (0.0, -1, "structural"),
        (0.0, -1, "structural"),
    ]


def test_text_of_unknown_owner_is_not_trained_unless_everything_is():
    chat = pair()
    chat = dataclasses.replace(chat, segments=(*chat.segments[:2], dataclasses.replace(chat.segments[2], unknown=True)))
    with pytest.raises(AttributionError, match="'cd'"):
        decided("train assistant", chat, CUT)
    with pytest.raises(AttributionError, match="'cd'"):
        decided("train text", chat, CUT)
    assert decided("train user", chat, CUT)[1] == (1.0, 0, "rule")
    assert decided("train everything", chat, CUT)[3] == (1.0, 0, "rule")


def test_a_chat_that_is_one_generation_prompt():
    segments = (Segment(start=0, end=4, part="generation_prompt", turn=None),)
    chat = RenderedChat(text="abcd", segments=segments, messages=(), sample={})
    assert decided("train everything", chat, [(0, 1), (1, 2), (2, 4)]) == [(0.0, -1, "structural")] * 3


def test_an_empty_chat():
    assert decided("train everything", build_chat([]), []) == []
    assert decided("train everything", build_chat([]), [(0, 0)]) == [(0.0, -1, "structural")]


@pytest.mark.parametrize("straddle", ["mask", "train"])
def test_every_token_is_decided_as_its_characters_are(straddle: str):
    rng = random.Random(11)
    policy = (
        "train assistant weight 2; train eos of assistant; mask /o./ in assistant.turn; "
        f"scale last assistant by 0.5; never train user; on straddle {straddle}"
    )
    program = policy_from_text(policy)
    for _ in range(300):
        messages = [rng.choice((SYSTEM, USER, ASSISTANT, {"role": "assistant", "content": "no go"})) for _ in range(5)]
        chat = build_chat(messages, bos="<s>", add_generation_prompt=rng.random() < 0.2)
        tokenized = fake_tokens(chat, rng=rng)
        mask = apply_program(program, tokenized)
        decisions = program.decide(chat)
        weight_of = [p.weight for p in decisions.pieces for _ in range(p.start, p.end)]
        bounds = zip(tokenized.starts_T.tolist(), tokenized.ends_T.tolist())
        for token, (start, end) in enumerate(bounds):
            found = weight_of[start : max(end, start + 1)]
            weight, reason = float(mask.weights_T[token]), REASONS[int(mask.reasons_T[token])]
            if reason == "structural":
                assert weight == 0
            elif len(set(found)) > 1:
                assert reason == "straddle"
                never = any(a < end and start < b for a, b in decisions.never)
                masked = never or (straddle == "mask" and not all(found))
                assert weight == (0 if masked else min((w for w in found if w), key=abs))
            elif reason != "straddle":
                assert weight == (found[0] if found else 0)


def test_labels_are_ids_where_trained_and_never_shifted():
    tokenized = fake_tokens(build_chat([USER, ASSISTANT]), width=3)
    program = policy_from_text("train assistant weight 0.5; train eot weight -1")
    mask = apply_program(program, tokenized)
    labels = labels_of(tokenized.input_ids, mask)
    assert labels.dtype == np.int32
    assert any(labels != -100)
    for label, id_, weight in zip(labels.tolist(), tokenized.input_ids, mask.weights_T.tolist()):
        assert label == (id_ if weight else -100)
    with pytest.raises(ValueError, match="ids"):
        labels_of(tokenized.input_ids[:-1], mask)


def test_loss_weights_only_for_policies_that_have_weights():
    tokenized = fake_tokens(build_chat([USER, ASSISTANT]), width=1)
    plain, weighted = policy_from_text("train assistant"), policy_from_text("train assistant weight 0.5")
    assert loss_weights_of(plain, apply_program(plain, tokenized)) is None
    found = loss_weights_of(weighted, apply_program(weighted, tokenized))
    assert found is not None
    assert found.dtype == np.float32
    assert set(found.tolist()) == {0.0, 0.5}


def test_many_chats_at_once_are_decided_as_each_alone():
    """Chats that straddle, that a setting refuses, without tokens and with zero-wide ones, side by side."""
    program = policy_from_text("train assistant; on straddle error")
    cuts = [CUT, [(0, 1), (1, 3), (3, 5), (5, 5)], [], CUT, [(0, 1), (1, 3), (3, 3), (3, 5)]]
    cuts += [[(0, 0), (0, 1), (1, 5)], [(0, 0), (0, 1), (1, 3), (3, 5), (5, 5), (5, 5)], [(0, 5)]]
    chats = [tokens_at(pair(), bounds) for bounds in cuts]
    found = mask_many([table_for(program, chat) for chat in chats], chats, straddle="error")
    for chat, mask in zip(chats, found):
        if isinstance(mask, RowError):
            with pytest.raises(RowError, match=re.escape(mask.message)):
                apply_program(program, chat)
            continue
        alone = apply_program(program, chat)
        for name in ("weights_T", "rules_T", "reasons_T", "segments_T"):
            assert getattr(mask, name).tolist() == getattr(alone, name).tolist()
    assert [isinstance(mask, RowError) for mask in found] == [True, False, False, True, False, True, False, False]


def test_chats_of_one_layout_are_decided_as_each_alone():
    """Side by side: conditions that hold in some of them, spans in others, another order of messages."""
    template = ChatTemplate("{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}.")
    program = policy_from_text(
        'train assistant; mask assistant where message.content contains "x"; '
        'train spans message.spans in user weight 0.25 where message.content contains "q"'
    )
    rows = [("abcd", "efgh"), ("abcd", "xfgh"), ("qbqq", "efgh"), ("ab", "efx"), ("abcd", "efgh"), ("", "efgh")]
    chats = []
    for at, texts in enumerate(rows * 2):
        roles = ("user", "assistant")[:: -1 if at > 8 else 1]
        spans = [[0, 1], [2, 4]] if "q" in texts[0] else []
        messages = tuple({"role": role, "content": text, "spans": spans} for role, text in zip(roles, texts))
        chat = template.render(Conversation(messages=messages))
        size = len(chat.text)
        chats.append(tokens_at(chat, [(place, min(place + 3, size)) for place in range(0, size, 3)]))
    found = mask_many([table_for(program, chat) for chat in chats], chats)
    assert len({tuple(mask.weights_T.tolist()) for mask in found if not isinstance(mask, RowError)}) > 4
    for chat, mask in zip(chats, found):
        assert not isinstance(mask, RowError)
        alone = dataclasses.replace(chat, chat=dataclasses.replace(chat.chat, segments=tuple(chat.chat.segments)))
        expected = apply_program(program, alone)
        for name in ("weights_T", "rules_T", "reasons_T", "segments_T"):
            assert getattr(mask, name).tolist() == getattr(expected, name).tolist()


@pytest.mark.parametrize("policy", ["train everything", "train assistant", "train assistant; train user weight 2"])
@pytest.mark.parametrize("straddle", ["mask", "train", "error"])
def test_pieces_of_a_layout_are_decided_as_segments_alone_are(policy: str, straddle: str):
    template = ChatTemplate("{{ bos_token }}{% for m in messages %}{{ m.content }}{{ m.name }}{% endfor %}.")
    messages = [{"role": role, "content": "abcd", "name": "ef"} for role in ("user", "assistant", "user")]
    placed = template.render(Conversation(messages=tuple(messages)))
    assert placed_of(placed.segments) is not None
    alone = dataclasses.replace(placed, segments=tuple(placed.segments))
    program = policy_from_text(f"{policy}; on straddle {straddle}")
    size = len(placed.text)
    for first in range(1, 6):
        bounds = [(0, first), *((at, min(at + 4, size)) for at in range(first, size, 4))]
        both = [tokens_at(chat, bounds) for chat in (placed, alone)]
        found, expected = (mask_many([table_for(program, t)], [t], straddle=straddle)[0] for t in both)
        if isinstance(expected, RowError):
            assert str(found) == str(expected)
            continue
        assert not isinstance(found, RowError)
        for name in ("weights_T", "rules_T", "reasons_T", "segments_T"):
            assert getattr(found, name).tolist() == getattr(expected, name).tolist()


def test_tokens_of_a_chat_without_text_are_of_no_segment():
    chat = RenderedChat(text="", segments=(), messages=({"role": "user", "content": ""},), sample={})
    mask = apply_program(policy_from_text("train everything"), tokens_at(chat, [(0, 0), (0, 0)]))
    assert [-1, -1] == mask.segments_T.tolist()
    assert [(0.0, "structural"), (0.0, "default")] == [
        (weight, REASONS[reason]) for weight, reason in zip(mask.weights_T.tolist(), mask.reasons_T.tolist())
    ]


def test_one_token_over_the_end_of_what_is_trained_straddles_on_a_layout_too():
    template = ChatTemplate("{% for m in messages %}{{ m.role }}:{{ m.content }}!{% endfor %}")
    chat = template.render(Conversation(messages=(ASSISTANT,)))
    assert "assistant:Yo.!" == chat.text
    bounds = [(0, 10), (10, 12), (12, 14)]
    assert [(1.0, 0, "rule"), (0.0, -1, "straddle")] == decided("train assistant", chat, bounds)[1:]
    assert (2.0, 0, "straddle") == decided("train assistant weight 2; on straddle train", chat, bounds)[2]


def test_a_batch_places_the_rows_of_a_layout_at_once() -> None:
    program = compile_text("train assistant; mask user")
    source = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    tokenizer = load_tokenizer("builtin").with_template(source)
    template = tokenizer.template
    talks = [("Hi " * n, f"Yes, {n} é") for n in range(1, 20)]
    talks[7:7] = [("Hi", "", "Ho", "Yes"), ("Hi", "Yes", "Ho", "No")]
    roles = ("user", "assistant") * 2
    rows = [Conversation(messages=tuple({"role": r, "content": c} for r, c in zip(roles, talk))) for talk in talks]
    for _ in range(3):  # the first rows of a shape are rendered in full
        chats = tokenizer.encode_batch([template.render(row, in_other_words=False) for row in rows])
        tables = [table_for(program, chat) for chat in chats]
    groups, rest = by_layout([chat.chat.segments for chat in chats])
    assert groups
    assert rest
    for group in groups:
        places = starts_in([chats[at].chat.segments for at in group])
        for at, starts in zip(group, places.tolist()):
            assert [segment.start for segment in chats[at].chat.segments] == starts[:-1]
            assert (starts[:-1], starts[1:]) == (tables[at].starts, tables[at].ends)
    # Explanations ask for them piece by piece.
    for table in tables:
        for name in ("starts", "ends", "segments", "never"):
            assert getattr(table, name) is getattr(table, name)
    masks = mask_many(tables, chats)
    for chat, found in zip(chats, masks):
        whole = dataclasses.replace(chat.chat, segments=tuple(chat.chat.segments))
        expected = apply_program(program, dataclasses.replace(chat, chat=whole))
        for name in ("weights_T", "rules_T", "reasons_T", "segments_T"):
            assert getattr(expected, name).tolist() == getattr(found, name).tolist()
