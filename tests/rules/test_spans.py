from __future__ import annotations

import pytest

from policy_engine import RowError
from policy_engine.rules.compile import compile_text  # compiled without proving guards
from policy_engine.rules.conditions import patterns
from tests.support.chats import build_chat
from tests.support.policies import trained


def says(text: object, **more: object) -> dict[str, object]:
    return {"role": "assistant", "content": text, **more}


@pytest.mark.parametrize(
    ("policy", "content", "expected"),
    [
        ("train /b+/ in assistant", "abbcb", ["bb", "b"]),
        ("train /B/ in assistant", "abc", []),
        ("train /B/i in assistant", "abc", ["b"]),
        ("train /a.c/ in assistant", "a\nc", []),
        ("train /a.c/s in assistant", "a\nc", ["a\nc"]),
        ("train /^b/m in assistant", "a\nb", ["b"]),
        ("train /x*/ in assistant", "axxb", ["xx"]),
        ("train /(a)(b)/ in assistant", "ab", ["ab"]),
        ("train /漢/ in assistant", "é漢🎉漢", ["漢", "漢"]),
        ("train assistant; mask /b/ in assistant.text", "abc", ["a", "c"]),
        ("train /a|ab/ in assistant", "ab", ["a"]),
        ("train /b/ in /.b/ in assistant", "b ab", ["b"]),
    ],
)
def test_regexes(policy: str, content: str, expected: list[str]):
    assert trained(policy, [says(content)]) == expected


def test_a_regex_sees_runs_across_segments_but_not_across_turns():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert trained("train /ab/ in assistant", [says(parts)]) == ["ab"]
    assert trained("train /./s in everything", [says("a"), says("b")]) != []
    assert trained("train /\\n<.im_start.>/ in everything", [says("a"), says("b")]) == []
    assert trained("train /Yo.<.im_end.>/ in assistant", [says("Yo.")]) == []  # `train assistant` is the body
    assert trained("train /Yo.<.im_end.>/ in assistant.turn", [says("Yo.")]) == ["Yo.<|im_end|>"]


def test_a_regex_in_text_no_message_owns():
    assert trained("train /day/ in preamble", build_chat([], bos="<s>", preamble="Today.")) == ["day"]
    assert trained("train /s>To/ in everything", build_chat([], bos="<s>", preamble="Today.")) == ["s>To"]


def test_a_regex_in_trained_turns_only():
    chat = [says("ab", ok=True), says("ab")]
    policy = "train assistant where message.ok; mask /a/ in trained assistant; train /b/ in assistant"
    assert trained(policy, chat) == ["b", "b"]


def test_a_condition_on_a_regex_is_asked_per_segment():
    parts = [{"type": "text", "text": "ab"}, {"type": "text", "text": "ab", "keep": True}]
    assert trained("train /a/ in assistant where part.keep", [says(parts)]) == ["a"]


def test_a_regex_that_reads_too_much_fails_the_row(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(patterns, "SCAN_LIMIT", 1_000_000)
    program = compile_text("train /a(?:[^b]*b)?/ in assistant", name="slow.policy")
    with pytest.raises(RowError, match=r"slow\.policy:1:1"):
        program.decide(build_chat([says("a" * 20_000)]))
    for pattern in (r"\w+", "a", "a.*b"):  # linear, however often they match
        compile_text(f"train /{pattern}/ in assistant").decide(build_chat([says("foo bar a b\n" * 2_000)]))


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([[0, 2]], ["ab"]),
        ([[1, 2], [2, 4]], ["bcd"]),
        ([[3, 3]], []),
        ([], []),
        (None, []),
        ([{"begin_offset": 0, "end_offset": 1}], ["ab"]),
        ([{"begin_offset": 0, "end_offset": 1, "train": True, "why": "x"}], ["ab"]),
        ([{"begin_offset": 0, "end_offset": 1, "train": False}], []),
        ([[4, 6]], ["ef"]),
    ],
)
def test_spans_from_data(spans: object, expected: list[str]):
    assert trained("train spans message.s in assistant", [says("abcdef", s=spans)]) == expected


def test_spans_with_a_train_flag_count_for_rules_of_that_effect():
    spans = [{"begin_offset": 0, "end_offset": 0, "train": True}, {"begin_offset": 5, "end_offset": 5, "train": False}]
    chat = [says("abcdef", s=spans)]
    assert trained("train assistant; mask spans message.s in assistant", chat) == ["abcde"]
    assert trained("train assistant; scale spans message.s in assistant by 0", chat) == ["bcde"]
    never = "train assistant; mask spans message.s in assistant; never train spans message.s in assistant"
    always = "mask assistant; train spans message.s in assistant; always train spans message.s in assistant"
    for policy, expected in ((never, "abcde"), (always, "a")):
        assert trained(policy, chat) == [expected]


def test_spans_stay_right_when_the_template_trims():
    chat = build_chat([says("  abc  ", s=[[1, 4]])], trim=True)
    assert trained("train spans message.s in assistant", chat) == ["ab"]


def test_spans_in_joined_content():
    parts = [{"type": "text", "text": "ab"}, {"type": "image"}, {"type": "text", "text": "cd"}]
    assert trained("train spans message.s in assistant", [says(parts, s=[[1, 3]])]) == ["b", "c"]


def test_spans_count_code_points():
    assert trained("train spans message.s in assistant", [says("🎉e\u0301漢", s=[[1, 3]])]) == ["e\u0301"]


def test_spans_select_content_only():
    chat = [says("abc", reasoning_content="xyz", s=[[0, 2]])]
    assert trained("train spans message.s in assistant", chat) == ["ab"]
    assert trained("train spans message.s in assistant.reasoning", chat) == []


def test_spans_per_part():
    parts = [{"type": "text", "text": "ab", "s": [[0, 1]]}, {"type": "text", "text": "cd"}]
    assert trained("train spans part.s in assistant", [says(parts)]) == ["a"]


@pytest.mark.parametrize(
    "bad",
    [
        "0-2", 3, {"begin_offset": 0}, [[0]], [[0, 1, 2]], [["0", 1]], [[True, 2]], [[2, 1]], [[-1, 2]], [[0, 7]],
        [[0.0, 1.0]], [{"begin_offset": 0}], [{"begin_offset": 0, "end_offset": 6}], [None],
        [{"begin_offset": 0, "end_offset": 1, "train": "yes"}],
    ],
)  # fmt: skip
def test_spans_that_mean_nothing_fail_the_row(bad: object):
    program = compile_text("train spans message.s in assistant", name="s.policy")
    with pytest.raises(RowError, match=r"s\.policy:1:1.*message 0"):
        program.decide(build_chat([says("abcdef", s=bad)]))


def test_spans_under_a_false_condition_are_never_read():
    assert trained("train spans message.s in assistant where message.ok", [says("abc", s="bad")]) == []


def test_a_search_is_charged_for_what_it_reads_and_never_paid_back():
    budget = patterns.ScanBudget(100)
    assert [] == list(budget.matches(patterns.compile_pattern("b?"), "b?", "a"))
    assert 100 == budget.left
    assert [(0, 1)] == list(budget.matches(patterns.compile_pattern("a+"), "a+", "ab"))
    assert 97 == budget.left  # two bytes to the end, since a longer match might have come, and the one behind it
