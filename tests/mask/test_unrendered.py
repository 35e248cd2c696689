from __future__ import annotations

import pytest

from policy_engine import UnrenderedError, policy_from_text
from policy_engine.chat.segments import RenderedChat, Unrendered
from policy_engine.mask.unrendered import check_unrendered
from tests.support.chats import build_chat

CALL = {"id": "1", "function": {"name": "f", "arguments": {"x": 1}}}


def chat(*lost: tuple[int, str]) -> RenderedChat:
    messages = [
        {"role": "user", "content": "Hi?"},
        {"role": "assistant", "content": "Lost.", "reasoning_content": "hm", "tool_calls": [CALL], "n": 1},
        {"role": "tool", "content": "42"},
    ]
    return build_chat(messages, unrendered=[Unrendered(turn=t, field=f) for t, f in lost])  # type: ignore[arg-type]


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
    ],
)
def test_what_is_refused(policy: str, lost: tuple[int, str], refused: bool):
    program = policy_from_text(policy)
    if refused:
        with pytest.raises(UnrenderedError, match=f"`{lost[1]}` of message {lost[0]}"):
            check_unrendered(program, chat(lost))
    else:
        counted = check_unrendered(program, chat(lost))
        assert sum(counted.values()) == ("ignore" not in policy)


def test_the_policy_is_named_where_it_is_why_a_loss_is_refused():
    trained = r"^`content` of message 1 \(`assistant`\), which the policy trains, never reached the text"
    with pytest.raises(UnrenderedError, match=trained):
        check_unrendered(policy_from_text("train assistant"), chat((1, "content")))
    with pytest.raises(UnrenderedError, match=r"^`content` of message 0 \(`user`\), never reached the text"):
        check_unrendered(policy_from_text("on unrendered error\ntrain assistant"), chat((0, "content")))


def test_losses_are_counted_by_role_and_field():
    program = policy_from_text("train eos")
    assert check_unrendered(program, chat((0, "content"), (1, "reasoning"), (1, "content"))) == {
        ("user", "content"): 1,
        ("assistant", "reasoning"): 1,
        ("assistant", "content"): 1,
    }


def test_nothing_lost():
    assert not check_unrendered(policy_from_text("train assistant"), chat())
