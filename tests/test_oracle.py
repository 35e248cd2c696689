"""The definitional interpreter itself, on cases decided by hand from `docs/explanation/language-decisions.md`."""

from __future__ import annotations

from typing import Any

import pytest

from policy_engine.lang.parse import parse
from policy_engine.mask import marks
from tests.oracle import RowFails, Verdict, interpret
from tests.support.chats import build_chat, tokens_at

SYSTEM = {"role": "system", "content": "S"}
USER = {"role": "user", "content": "U"}
CALL = {"id": "c1", "type": "function", "function": {"name": "search", "arguments": "{}"}}


def marked(policy: str, messages: list[dict[str, Any]], **layout: Any) -> str:
    """The text with what is trained between ⟦ and ⟧; the scaffold shortened."""
    chat = build_chat(messages, **layout)
    chars = interpret(parse(policy), chat).chars
    text = marks.marked(chat.text, [(at, at + 1, char.weight) for at, char in enumerate(chars)])
    for role in ("system", "user", "assistant", "tool"):
        text = text.replace(f"<|im_start|>{role}\n", f"[{role[0]}]")
    return text.replace("<|im_end|>", "|").replace("\n", "/")


def says(content: Any, **extra: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **extra}


TALK = [SYSTEM, USER, says("A"), USER, says("B")]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("train assistant", "[s]S|/[u]U|/[a]⟦A⟧|/[u]U|/[a]⟦B⟧|/"),
        ("train assistant; train eos after assistant", "[s]S|/[u]U|/[a]⟦A|⟧/[u]U|/[a]⟦B|⟧/"),
        ("train assistant; train eos after assistant; mask last assistant", "[s]S|/[u]U|/[a]⟦A|⟧/[u]U|/[a]B|/"),
        ("train everything; mask everything; train first 1 user.turn", "[s]S|/⟦[u]U|/⟧[a]A|/[u]U|/[a]B|/"),
        ("train text after user", "[s]S|/[u]U|/[a]⟦A⟧|/[u]⟦U⟧|/[a]⟦B⟧|/"),
        ("train text before last assistant", "[s]⟦S⟧|/[u]⟦U⟧|/[a]⟦A⟧|/[u]⟦U⟧|/[a]B|/"),
        ("train text right after first user", "[s]S|/[u]U|/[a]⟦A⟧|/[u]U|/[a]B|/"),
        ("train text after tool", "[s]S|/[u]U|/[a]A|/[u]U|/[a]B|/"),
        ("train last assistant; train eos after trained assistant", "[s]S|/[u]U|/[a]A|/[u]U|/[a]⟦B|⟧/"),
        ("train assistant; mask trained last assistant", "[s]S|/[u]U|/[a]⟦A⟧|/[u]U|/[a]B|/"),
        ("let bot = assistant; train bot; train separator of bot", "[s]S|/[u]U|/[a]⟦A⟧|⟦/⟧[u]U|/[a]⟦B⟧|⟦/⟧"),
        ("train assistant where turn.round == 2", "[s]S|/[u]U|/[a]A|/[u]U|/[a]⟦B⟧|/"),
        ("train assistant unless turn.from_end == 0", "[s]S|/[u]U|/[a]⟦A⟧|/[u]U|/[a]B|/"),
        ("train /[AU]/ in text before last assistant", "[s]S|/[u]⟦U⟧|/[a]⟦A⟧|/[u]⟦U⟧|/[a]B|/"),
        ("train assistant weight 0; train eot after trained assistant", "[s]S|/[u]U|/[a]A|/[u]U|/[a]B|/"),
    ],
)
def test_what_is_trained(policy: str, expected: str) -> None:
    assert marked(policy, TALK) == expected


def test_unowned_text_has_no_message() -> None:
    policy = 'train everything where not message.role == "user"; mask everything where message.role != "user"'
    assert marked(policy, [USER], preamble="P") == "⟦P⟧[u]U|/"


def test_missing_fields_compare_false_and_null_is_present() -> None:
    messages = [says("A", x=None), says("B"), says("C", x=1), says("D", x=True), says("E", x=1.0)]
    trained = {
        "message.x == null": "A",
        "message.x != 1": "AD",
        "has message.x": "ACDE",
        "not (message.x == 1)": "ABD",
        "message.x": "D",
        "message.x in [1, null]": "ACE",
    }
    for condition, expected in trained.items():
        found = marked(f"train assistant where {condition}", messages)
        assert "".join(c for c in "ABCDE" if f"⟦{c}⟧" in found) == expected, condition


def test_a_tool_turn_answers_its_call() -> None:
    messages = [
        says("", tool_calls=[{**CALL, "id": "c0"}, CALL]),
        {"role": "tool", "content": "T", "tool_call_id": "c1"},
    ]
    assert "⟦T⟧" in marked('train tool where call.id == "c1" and call.name == "search"', messages)
    without = [*messages[:1], {"role": "tool", "content": "T"}]
    assert "⟦T⟧" in marked('train tool where call.id == "c0"', without)


def test_spans_count_in_the_data_and_survive_trimming() -> None:
    messages = [says("  hello ", s=[[2, 4], {"begin_offset": 6, "end_offset": 6, "train": True}])]
    assert marked("train spans message.s in assistant", messages, trim=True) == "[a]⟦he⟧ll⟦o⟧|/"
    assert marked("train assistant; mask spans message.s in assistant", messages, trim=True) == "[a]he⟦llo⟧|/"
    with pytest.raises(RowFails):
        marked("train spans message.s in assistant", [says("a", s=[[0, 2]])])


def test_guards() -> None:
    def broken(policy: str) -> list[int]:
        return interpret(parse(policy), build_chat(TALK)).broken

    assert broken("train assistant; never train user; always train assistant") == []
    assert broken("never train user; train everything; always train system") == [0]
    assert broken("train last assistant; always train assistant; never train eos") == [0]


def test_tokens() -> None:
    def decided(policy: str, *bounds: tuple[int, int]) -> Verdict:
        chat = build_chat([USER, says("AB", w=3)])
        at = chat.text.index("AB")
        ranges = [(0, 1), *((at + a, at + b) for a, b in bounds)]
        return interpret(parse(policy), tokens_at(chat, ranges).chat, ranges)

    def reasons(verdict: Verdict) -> list[tuple[float, int | None, str]]:
        return [(token.weight, token.rule, token.reason) for token in verdict.tokens]

    structural = (0.0, None, "structural")
    assert reasons(decided("train assistant", (0, 1), (1, 3))) == [
        structural,
        (1.0, 0, "rule"),
        (0.0, None, "straddle"),
    ]
    assert reasons(decided("on straddle train; train assistant", (1, 3))) == [structural, (1.0, 0, "straddle")]
    guarded = "on straddle train; train assistant; never train eos"
    assert reasons(decided(guarded, (1, 3))) == [structural, (0.0, None, "straddle")]
    weighted = (
        "train assistant weight message.w; scale assistant by 0.5; on straddle train; train /A/ in text weight -1"
    )
    assert reasons(decided(weighted, (0, 2))) == [structural, (-1.0, 2, "straddle")]
    with pytest.raises(RowFails):
        decided("on straddle error; train assistant", (1, 3))
