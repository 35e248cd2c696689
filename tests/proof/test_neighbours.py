"""What a proof knows of other messages: they agree with the conversation, and witnesses have them."""

from __future__ import annotations

import pytest

from policy_engine.lang.check import check_text
from policy_engine.proof.policy_diff import compare
from policy_engine.proof.policy_proof import prove
from policy_engine.proof.results import GuardFinding, Witness

CALLED = 'train assistant\nmask assistant where result.content contains "Error"\n'


def guard(text: str) -> GuardFinding:
    (finding,) = prove(check_text(text)).guards
    return finding


def witness(text: str) -> Witness:
    """The conversation that breaks a policy's guard."""
    found = guard(text).witness
    assert found is not None, text
    return found


@pytest.mark.parametrize(
    "text",
    [
        CALLED + 'never train assistant where result.content contains "Error"',
        "train assistant\nnever train assistant where has previous.role and turn.index == 0",
        "train assistant\nnever train assistant where has next.name and turn.from_end == 0",
        "train assistant\nnever train assistant where has result.x and turn.from_end == 0",
        "train assistant\nnever train assistant where has result.x and not has result.role",
        'train assistant\nnever train assistant where result.role != "tool"',
        "train assistant before first tool\nmask assistant\nnever train assistant where has result.content",
        "train user\nnever train user where has answer.score",
        "train tool\nnever train tool where has answer.score and turn.index == 0",
        "train tool\nnever train first tool where answer.role == \"critic\" and turn.index == 1 "
        'and previous.role == "user"',
        'train first assistant\nnever train assistant where previous.role == "assistant"',
        'train assistant right after tool\nnever train assistant unless previous.role == "tool"',
        'train assistant\nnever train last assistant where next.role == "assistant"',
        'train assistant\nnever train assistant where previous.role == "a" and previous.role == "b"',
        "train assistant where previous.n > 2\nnever train assistant where previous.n < 2",
        "train assistant where previous.a.b == 1\nnever train assistant where previous.a == 1",
        "train assistant where has previous.role\nalways train assistant unless turn.index == 0",
        "train everything where not has previous.role\nalways train preamble",
        "train bos where has previous.role or has result.role or has next.x or has answer.x\nnever train bos",
        # Results with another score beside 0 make no weight: the row fails.
        "train assistant weight result.score\nnever train assistant where result.score == 0",
    ],
)  # fmt: skip
def test_what_no_conversation_has(text: str) -> None:
    assert "holds" == guard(text).verdict


@pytest.mark.parametrize(
    "test",
    [
        'previous.role == "tool"',
        'previous.content contains "Error"',
        'previous.role == "tool" and not has previous.content',
        'previous.role matches /^cri/ and turn.index == 1',
        'previous.role != "tool" and next.role != "tool" and next.name == "ann"',
        "previous.score > 2 and next.score < 1 and message.score == 1.5",
        "previous.meta.lang == \"en\" and previous.meta != 1",
        'next.content matches /^[0-9]+$/ and next.role == "user"',
        'next.content contains "Error" and result.content contains "fine"',
        "has next.role and not has next.content and not has result.role",
        'result.content contains "Error"',
        "result.ok == true and result.ok == false",
        "result.ok == 1 and result.ok == 2 and result.ok == 3 and not result.ok == 4",
        'result.role == "tool" and not has result.content',
        "result.n > 3 and turn.from_end > 2",
        'result.name == "x" and message.content == "call" and turn.index == 0',
        "result.labels contains 1 and result.labels contains \"x\"",
    ],
)  # fmt: skip
@pytest.mark.parametrize("part", ["assistant", "assistant.tool_call.name", "eos of assistant"])
def test_what_a_conversation_has_is_shown_by_one(test: str, part: str) -> None:
    assert "fails" == guard(f"train {part}\nnever train {part} where {test}").verdict


@pytest.mark.parametrize(
    "test",
    [
        "answer.score > 3",
        'answer.role == "critic"',
        'answer.role == "critic" and previous.role == "user"',
        'answer.role matches /^c/ and answer.content == "x" and call.name == "f"',
        "has answer.role and not has answer.content",
        "previous.score == 1 and answer.score == 2",
        "previous.score == 1 and answer.score == 2 and call.id == \"c7\"",
    ],
)  # fmt: skip
def test_an_answer_is_shown_by_the_call_that_it_made(test: str) -> None:
    assert "fails" == guard(f"train tool.text\nnever train tool.text where {test}").verdict


def test_two_results_are_two_messages_that_answer_one_turn() -> None:
    found = witness("train assistant.text\nnever train assistant where result.ok and result.ok == false")
    first, *results = found.conversation.messages
    assert ["assistant", "tool", "tool"] == [message["role"] for message in found.conversation.messages]
    assert {first["tool_calls"][0]["id"]} == {result["tool_call_id"] for result in results}
    assert [False, True] == sorted(result["ok"] for result in results)
    assert found.by_template


def test_no_result_is_a_turn_that_nobody_answers() -> None:
    found = witness("train assistant.tool_call\nalways train assistant.text")
    assert found is not None
    text = "train assistant where has result.role\nalways train assistant.tool_call"
    messages = witness(text).conversation.messages
    assert "tool" not in [message["role"] for message in messages]


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        ("train assistant right after tool", 'train assistant where previous.role == "tool"', "equal"),
        ("train assistant before user", "train assistant before user unless not has next.role", "equal"),
        ("train assistant", 'train assistant unless next.role == "assistant"', "trains less"),
        ("train tool where has answer.role", "train tool where has answer.role and has previous.role", "equal"),
        ("train assistant", CALLED, "trains less"),
        ("train assistant where result.x == 1", "train assistant where not result.x != 1", "incomparable"),
        ("train assistant where result.x in [1, 2]", "train assistant where result.x == 1 or result.x == 2", "equal"),
        ("train assistant weight result.w", "train assistant weight 3", "incomparable"),
    ],
)
def test_diff(old: str, new: str, verdict: str) -> None:
    found = compare(check_text(old), check_text(new))
    assert verdict == found.verdict
    assert all(change.witness is not None for change in found.changes)


def test_a_condition_that_never_matters() -> None:
    report = prove(check_text('train assistant right after tool where previous.role == "tool" and next.ok'))
    assert [('previous.role == "tool"', True)] == [(f.test, f.always) for f in report.fixed]
    report = prove(check_text("train last turn where has next.role"))
    assert ["matches nothing"] == [dead.why for dead in report.dead]


def test_in_words() -> None:
    report = prove(check_text('train assistant where next.role == "user" and result.content contains "ok"'))
    place = "assistant: body right before user and with a tool after it"
    assert (f'{place} where result.content contains "ok"',) == report.decided[0].places
    report = prove(check_text('train user where not previous.role in ["assistant", "tool"] and has previous.role'))
    assert "\0" not in str(report)


def test_a_call_of_a_trained_turn_can_have_another_result_than_the_turn() -> None:
    text = "train assistant.text where result.ok\ntrain tool_call of trained assistant\n"
    assert "holds" != guard(text + "never train assistant.tool_call where result.n == 1 and not result.ok").verdict
    # Text of the turn has the results of all its calls.
    assert "holds" == guard(text + "never train assistant.text where result.n == 1 and not result.ok").verdict


def test_what_is_before_a_trained_turn_is_free_and_only_possible() -> None:
    """The fields of two turns are not held together, so what contradicts itself across turns is not refuted."""
    text = "train assistant where message.ok\ntrain eos right after trained assistant\n"
    assert "possible" == guard(text + "never train eos where not previous.ok").verdict
    assert "fails" == guard(text + "never train eos where previous.ok").verdict
