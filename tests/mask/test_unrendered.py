from __future__ import annotations

import dataclasses

import pytest

from policy_engine import UnrenderedError
from policy_engine.chat.segments import RenderedChat, Unrendered
from policy_engine.mask.unrendered import lost_of, lost_text, refuse_unrendered, without_read
from policy_engine.rules.compile import compile_text
from tests.support.chats import build_chat

CALL = {"id": "1", "function": {"name": "f", "arguments": {"x": 1}}}


def chat(*lost: tuple[int, str]) -> RenderedChat:
    messages = [
        {"role": "user", "content": "Hi?"},
        {"role": "assistant", "content": "Lost.", "reasoning_content": "hm", "tool_calls": [CALL], "n": 1},
        {"role": "tool", "content": "42"},
    ]
    return build_chat(messages, unrendered=[lost_piece_at(*piece) for piece in lost])


def lost_piece_at(turn: int, field: str) -> Unrendered:
    kinds = {"content": "text", "tool_calls": "call", "reasoning": "reasoning", "note": "other", "": "message"}
    return Unrendered(turn=turn, path=(field,) if field else (), kind=kinds[field])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("policy", "lost", "refused"),
    [
        ("train assistant", (1, "content"), True),
        ("train assistant", (1, "tool_calls"), True),
        ("train assistant", (1, "reasoning"), False),
        ("train assistant", (0, "content"), False),
        ("train assistant", (2, "content"), False),
        ("train assistant; mask tool_call", (1, "tool_calls"), False),
        ("train assistant; mask tool_call.arguments", (1, "tool_calls"), True),
        ("train tool_call.name", (1, "content"), False),
        ("train everything", (0, "content"), True),
        ("train assistant; mask last assistant", (1, "content"), False),
        ("train assistant where message.n == 2", (1, "content"), False),
        ("train assistant where message.n == 1", (1, "content"), True),
        ('train assistant where call.name == "f"', (1, "tool_calls"), True),
        ('train assistant where call.name == "g"', (1, "tool_calls"), False),
        ("train assistant unless segment.empty", (1, "content"), True),
        ("train assistant where turn.chars > 0", (1, "content"), True),
        ("train /x/ in assistant", (1, "content"), True),
        ("train /x/ in assistant; mask assistant", (1, "content"), False),
        ("train assistant; mask /x/ in assistant", (1, "content"), True),
        ("train assistant weight 0", (1, "content"), False),
        ("scale assistant by 2", (1, "content"), False),
        ("train /x/ in assistant; scale assistant by 2", (1, "content"), True),
        ("train assistant; on unrendered warn", (1, "content"), False),
        ("train assistant; on unrendered ignore", (1, "content"), False),
        ("train assistant; on unrendered error", (1, "reasoning"), True),
        ("train assistant; on unrendered error", (0, "content"), True),
        ("train assistant", (1, "note"), False),
        ("train assistant; on unrendered error", (1, "note"), True),
    ],
)
def test_what_is_refused(policy: str, lost: tuple[int, str], refused: bool):
    program = compile_text(policy)
    if refused:
        with pytest.raises(UnrenderedError, match=f"`{lost[1]}` of message {lost[0]}"):
            refuse_unrendered(program, chat(lost))
    else:
        assert refuse_unrendered(program, chat(lost)) == ("ignore" not in policy)


def test_the_policy_is_named_where_it_is_why_a_loss_is_refused():
    trained = r"^`content` of message 1 \(`assistant`\), which the policy trains, never reached the text"
    with pytest.raises(UnrenderedError, match=trained):
        refuse_unrendered(compile_text("train assistant"), chat((1, "content")))
    with pytest.raises(UnrenderedError, match=r"^`content` of message 0 \(`user`\) never reached the text"):
        refuse_unrendered(compile_text("on unrendered error\ntrain assistant"), chat((0, "content")))


def test_losses_are_counted_by_role_and_field():
    assert lost_of(chat((0, "content"), (1, "reasoning"), (1, "content"))) == {
        ("user", "content"): 1,
        ("assistant", "reasoning"): 1,
        ("assistant", "content"): 1,
    }


def test_nothing_lost():
    assert refuse_unrendered(compile_text("on unrendered error\ntrain assistant"), chat())
    assert not lost_of(chat())


@pytest.mark.parametrize(
    ("policy", "piece", "refused"),
    [
        ("train assistant", (("tool_calls", 0), "call"), True),
        ('train assistant where call.name == "g"', (("tool_calls", 0), "call"), False),
        ('train assistant where call.name == "f"', (("tool_calls", 0), "call"), True),
        ("train tool_call.name", (("tool_calls", 0, "function", "arguments", "x"), "call"), False),
        ("train tool_call.arguments", (("tool_calls", 0, "function", "arguments", "x"), "call"), True),
        ("train assistant", ((), "message"), True),
        ("train assistant.tool_call", ((), "message"), True),
        ("train user", ((), "message"), False),
    ],
)
def test_the_loss_of_a_piece_is_refused_where_that_piece_is_trained(policy: str, piece: tuple, refused: bool):
    path, kind = piece
    told = dataclasses.replace(chat(), unrendered=(Unrendered(turn=1, path=path, kind=kind),))
    if refused:
        with pytest.raises(UnrenderedError, match="which the policy trains"):
            refuse_unrendered(compile_text(policy), told)
    else:
        assert refuse_unrendered(compile_text(policy), told)


@pytest.mark.parametrize(
    ("policy", "counted"),
    [
        ("train assistant", {("assistant", "note"): 1}),
        ('train assistant where message.note == "x"', {}),
        ("train spans message.note in assistant", {}),
        ("train assistant weight message.note", {}),
    ],
)
def test_a_field_that_the_policy_reads_is_not_lost(policy: str, counted: dict):
    program = compile_text(policy)
    told = without_read(chat((1, "note")), program.message_fields)
    assert counted == lost_of(told)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (("assistant", "tool_calls[1]", 2), "tool_calls[1] of 2 assistant messages"),
        (("tool_call", "message", 1), "1 whole tool_call message"),
        (("", "tools", 3), "tools of 3 rows"),
    ],
)
def test_losses_in_words(loss: tuple, words: str):
    assert words == lost_text(*loss)
