from __future__ import annotations

import pytest

from tests.support.chats import build_chat
from tests.support.policies import ASSISTANT, USER, trained


def holds(condition: str, message: dict[str, object], **chat: object) -> bool:
    """Whether the condition is true on an assistant message's text."""
    built = build_chat([{"role": "assistant", "content": "Yo.", **message}], **chat)  # type: ignore[arg-type]
    return bool(trained(f"train text where {condition}", built))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("message.n == 1", True),
        ("message.n == 1.0", True),
        ("message.n == true", False),
        ("message.n != true", True),
        ('message.n != "1"', True),
        ("message.n < 2", True),
        ('message.n < "2"', False),
        ("message.t == true", True),
        ("message.t == 1", False),
        ("message.t > 0", False),
        ("message.t", True),
        ("message.n", False),
        ("message.f", False),
        ("not message.f", True),
        ("message.s", False),
        ('message.s == "true"', True),
        ('message.s < "u"', True),
        ("message.s > 2", False),
        ("message.none == null", True),
        ("message.none != null", False),
        ("message.none == 0", False),
        ("has message.none", True),
        ("has message.absent", False),
        ("message.absent == null", False),
        ("message.absent != 1", False),
        ("not (message.absent == 1)", True),
        ("message.absent != null", False),
        ('message.s in ["true", 1]', True),
        ("message.t in [1]", False),
        ("message.n in [0, 1]", True),
        ("message.absent in [null]", False),
        ("message.none in [null]", True),
        ('message.s in "it is true"', True),
        ('message.n in "1"', False),
        ('message.s contains "ru"', True),
        ("message.list contains 2", True),
        ("message.list contains true", False),
        ('message.list contains "2"', False),
        ('message.obj contains "a"', False),
        ('message.s matches "^t.*e$"', True),
        ("message.s matches /^T/", False),
        ("message.s matches /^T/i", True),
        ('message.n matches "1"', False),
        ("message.obj.a.b == 3", True),
        ("message.obj.a.c == 3", False),
        ("message.list[1] == 2", True),
        ("message.list[9] == 2", False),
        ("message.s.x == 1", False),
        ("has message.s[0]", False),
        ('message.role == "assistant"', True),
        ('message.content == "Yo."', True),
        ("message.n == 1 and message.t", True),
        ("message.n == 2 or message.t", True),
        ("message.n == 2 and message.t or message.t", True),
        ("message.obj == null", False),
    ],
)
def test_operators(condition: str, expected: bool):
    message = {
        "n": 1, "t": True, "f": False, "s": "true", "none": None, "list": [1, 2], "obj": {"a": {"b": 3}},
    }  # fmt: skip
    assert holds(condition, message) is expected


def test_equal_looking_literals_are_told_apart_in_one_policy():
    policy = "train text where message.n == true; train eot where message.n == 1"
    assert trained(policy, [{"role": "user", "content": "x", "n": 1}]) == ["<|im_end|>"]


@pytest.mark.parametrize(("content", "expected"), [("ab", True), (None, False), ([], False)])
def test_message_content_is_the_joined_text(content: object, expected: bool):
    message = {"role": "assistant", "content": content}
    assert bool(trained('train eot where message.content == "ab"', [message])) is expected


def test_message_content_of_parts():
    content = [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]
    assert holds('message.content == "ab"', {"content": content})


def test_null_content_is_missing():
    assert trained("train eot where has message.content", [{"role": "assistant", "content": None}]) == []


def test_part_fields():
    content = [{"type": "text", "text": "a", "train": True}, {"type": "text", "text": "b"}]
    chat = [{"role": "assistant", "content": content}]
    assert trained("train assistant where part.train", chat) == ["a"]
    assert trained("train assistant unless part.train", chat) == ["b"]
    assert trained("train turn where has part.type", chat) == ["ab"]


def test_call_fields():
    calls = [{"id": "1", "function": {"name": "f", "arguments": {"x": 1}}}, {"id": "2", "function": {"name": "g"}}]
    answers = [{"role": "tool", "tool_call_id": i, "content": f"r{i}"} for i in ("2", "1", "3")]
    chat = [{"role": "assistant", "content": "", "tool_calls": calls}, *answers]
    assert trained('train tool_call.name where call.name == "g"', chat) == ["g"]
    assert trained('train tool where call.name == "g"', chat) == ["r2"]
    assert trained("train tool where call.arguments.x == 1", chat) == ["r1"]
    assert trained("train tool unless has call.name", chat) == ["r3"]
    assert trained('train text where call.function.name == "f"', chat) == ["r1"]


def test_call_fields_without_ids_go_by_position():
    first = {"role": "assistant", "tool_calls": [{"name": "f"}, {"name": "g"}]}
    second = {"role": "assistant", "tool_calls": [{"name": "h"}]}
    a, b, c, d = ({"role": "tool", "content": text} for text in "abcd")
    chat = [first, a, b, second, c, d]
    for name, text in (("f", "a"), ("g", "b"), ("h", "c")):
        assert trained(f'train tool where call.name == "{name}"', chat) == [text]
    assert trained("train tool unless has call.name", chat) == ["d"]


def test_a_turn_that_lists_no_calls_calls_nothing():
    first = {"role": "assistant", "tool_calls": [{"name": "f"}]}
    for none in ([], None):
        chat = [first, {"role": "assistant", "content": "x", "tool_calls": none}, {"role": "tool", "content": "a"}]
        assert trained('train tool where call.name == "f"', chat) == ["a"]


def test_sample_fields():
    chat = build_chat([USER], preamble="Today.", sample={"meta": {"source": "web"}})
    assert trained('train everything where sample.meta.source == "web"', chat) == [chat.text]


def test_turn_fields():
    chat = [USER, ASSISTANT, USER, {"role": "assistant", "content": "longer"}]
    assert trained("train assistant where turn.index == 1", chat) == ["Yo."]
    assert trained("train assistant where turn.from_end == 0", chat) == ["longer"]
    assert trained("train assistant where turn.round > 1", chat) == ["longer"]
    assert trained("train assistant where turn.chars > 3", chat) == ["longer"]
    assert trained("train eot where turn.chars == 0", [USER, {"role": "assistant", "content": None}]) == ["<|im_end|>"]


def test_segment_fields():
    chat = build_chat([ASSISTANT, USER, ASSISTANT], eod="<e>")
    assert trained('train eos where segment.text == "<e>"', chat) == ["<e>", "<e>"]
    assert trained("train turn where segment.empty", chat) == ["\n", "\n", "\n"]


def test_tests_on_text_no_message_owns_are_false():
    chat = build_chat([USER], preamble="Today.")
    for test in ("has message.role", "turn.index >= 0", "has part.type", "has call.id", "message.x != 1"):
        assert trained(f"train preamble where {test}", chat) == []
        assert trained(f"train preamble where not ({test})", chat) == ["Today."]


def test_where_and_unless_must_all_hold():
    one, both = {"a": True}, {"a": True, "b": True}
    chat = [{"role": "assistant", "content": "A", **one}, {"role": "assistant", "content": "B", **both}]
    assert trained("train assistant where message.a unless message.b", chat) == ["A"]


def test_a_lone_surrogate_is_searched_like_any_character():
    message = {"s": "a\ud800b"}
    assert holds("message.s matches /a.b/", message)
