from __future__ import annotations

import pytest

from tests.support.chats import build_chat
from tests.support.policies import ASSISTANT, SYSTEM, USER, marked, trained

CALL = {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": {}}}]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "42"}


def says(text: str, **more: object) -> dict[str, object]:
    return {"role": "assistant", "content": text, **more}


def test_the_standing_policy():
    policy = "train assistant; mask system,user; train eos after assistant"
    assert marked(policy, [SYSTEM, USER, ASSISTANT, USER, ASSISTANT]) == (
        "<|im_start|>system\nBe kind.<|im_end|>\n"
        "<|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\n⟦Yo.<|im_end|>⟧\n"
        "<|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\n⟦Yo.<|im_end|>⟧\n"
    )


def test_an_empty_policy_trains_nothing():
    assert trained("", [USER, ASSISTANT]) == []


def test_the_last_rule_that_matches_decides():
    assert trained("train assistant; mask assistant", [ASSISTANT]) == []
    assert trained("mask assistant; train assistant", [ASSISTANT]) == ["Yo."]


def test_mask_role_covers_the_whole_turn_and_train_role_its_body():
    assert trained("train assistant; train eos after assistant; mask last assistant", [ASSISTANT, ASSISTANT]) == [
        "Yo.<|im_end|>"
    ]


def test_parts_of_a_turn():
    message = says("Yo.", reasoning_content="hm", tool_calls=CALL["tool_calls"])
    assert trained("train assistant.reasoning", [message]) == ["<think>\nhm\n</think>\n\n"]
    assert trained("train assistant.reasoning.text", [message]) == ["hm"]
    assert trained("train tool_call.name", [message]) == ["f"]
    assert trained("train assistant; mask reasoning", [message])[0].startswith("Yo.")
    assert trained("train header of assistant", [USER, message]) == ["<|im_start|>assistant\n"]


def test_empty_reasoning_is_trained_only_where_named():
    chat = build_chat([ASSISTANT], empty_reasoning=True)
    assert trained("train assistant", chat) == ["Yo."]
    assert trained("train assistant; train empty_reasoning", chat) == ["<think>\n\n</think>\n\nYo."]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("train last assistant", ["C"]),
        ("train first assistant", ["A"]),
        ("train last 2 assistant", ["B", "C"]),
        ("train first 2 assistant", ["A", "B"]),
        ("train last 9 assistant", ["A", "B", "C"]),
        ("train assistant; mask last assistant", ["A", "B"]),
        ("train text after last user", ["C"]),
        ("train text after user", ["A", "B", "u", "C"]),
        ("train assistant after first assistant", ["B", "C"]),
        ("train text before last user", ["u", "A", "B"]),
        ("train assistant before first assistant", []),
        ("train text right after user", ["A", "C"]),
        ("train text right after last user", ["C"]),
        ("train assistant right after assistant", ["B"]),
        ("train assistant after tool", []),
        ("train assistant before tool", []),
        ("train assistant after first user before last user", ["A", "B"]),
    ],
)
def test_which_turns(policy: str, expected: list[str]):
    user = {"role": "user", "content": "u"}
    assert trained(policy, [user, says("A"), says("B"), user, says("C")]) == expected


def test_last_without_a_role_counts_all_turns():
    chat = [USER, ASSISTANT, USER]
    assert trained("train last eot", chat) == ["<|im_end|>"]
    assert marked("train last eot", chat).endswith("user\nHi?⟦<|im_end|>⟧\n")


def test_after_on_endings_means_of():
    assert marked("train eos after last assistant", [ASSISTANT, USER, ASSISTANT]).count("⟦") == 1
    assert marked("train separator after user", [USER, ASSISTANT]) == (
        "<|im_start|>user\nHi?<|im_end|>⟦\n⟧<|im_start|>assistant\nYo.<|im_end|>\n"
    )


def test_trained_is_decided_by_the_rules_above():
    chat = [USER, ASSISTANT, USER, says("no", skip=True)]
    above = "train assistant; mask assistant where message.skip; train eos after trained assistant"
    assert trained(above, chat) == ["Yo.<|im_end|>"]
    below = "train assistant; train eos after trained assistant; mask text where message.skip"
    assert trained(below, chat) == ["Yo.<|im_end|>", "<|im_end|>"]


def test_trained_filters_before_it_counts():
    chat = [says("A"), says("B"), says("C", skip=True)]
    rules = "train assistant; mask text where message.skip;"
    assert trained(f"{rules} train eos of trained last assistant", chat) == ["A", "B<|im_end|>"]
    assert trained(f"{rules} train eos of last assistant", chat) == ["A", "B", "<|im_end|>"]


def test_trained_can_ask_about_trained():
    chat = [says("A"), says("B"), says("C")]
    policy = "train last 2 assistant; mask trained first assistant; train eos of trained assistant"
    assert trained(policy, chat) == ["C<|im_end|>"]


def test_an_empty_body_is_not_trained():
    assert trained("train assistant; train eos of trained assistant", [says(""), says("A")]) == ["A<|im_end|>"]


def test_everything_covers_text_no_message_owns():
    chat = build_chat([USER], bos="<s>", preamble="Today.", eod="<e>")
    assert trained("train everything", chat) == [chat.text]
    assert trained("train everything; mask user", chat) == ["<s>Today."]
    assert trained("train preamble", chat) == ["Today."]


def test_relations_never_hold_on_text_no_message_owns():
    chat = build_chat([USER, USER], preamble="Today.")
    assert "Today." not in "".join(trained("train everything before last user", chat))


def test_tool_turns():
    assert trained("train assistant; mask tool", [USER, CALL, RESULT, ASSISTANT])[-1] == "Yo."
    assert trained("train tool", [CALL, RESULT]) == ["42"]


def test_of_a_role_the_chat_does_not_have():
    assert trained("train critic; train text after critic", [USER, ASSISTANT]) == []


def test_a_turn_of_which_a_piece_is_masked_and_the_rest_never_named_is_not_trained():
    assert marked("mask /Y/ in assistant; train eot of trained assistant", [USER, ASSISTANT]).count("⟦") == 0
    assert trained("train /Y/ in assistant; train eot of trained assistant", [USER, ASSISTANT]) == ["Y", "<|im_end|>"]
