"""What a report says of policies whose answers are known."""

from __future__ import annotations

import sys

import pytest

from policy_engine.core.errors import PolicyCheckError
from policy_engine.lang.check import check
from policy_engine.lang.checked import CheckedPolicy
from policy_engine.lang.parse import parse
from policy_engine.proof.load_policy import load_policy, policy_from_text
from policy_engine.proof.policy_diff import compare
from policy_engine.proof.policy_proof import prove
from policy_engine.proof.proof_diagnostics import guard_diagnostics, rule_diagnostics, witness_text
from policy_engine.proof.results import ProofReport
from policy_engine.rules.compile import compile_text as unproven


def checked(text: str) -> CheckedPolicy:
    return check(parse(text))


def report(text: str) -> ProofReport:
    return prove(checked(text))


EXAMPLE = "train assistant; mask system, user; train eos after assistant\n"


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (EXAMPLE + "never train user", "holds"),
        (EXAMPLE + "never train narrator", "holds"),
        (EXAMPLE + "always train eos of last assistant", "holds"),
        (EXAMPLE + "always train assistant.reasoning", "holds"),
        (EXAMPLE + "never train assistant", "fails"),
        (EXAMPLE + "never train everything", "fails"),
        ("train everything\nnever train generation_prompt", "holds"),
        ("train everything\nnever train preamble", "fails"),
        ("train everything\nmask user\nnever train user", "holds"),
        ("train everything\nnever train user where message.role == \"assistant\"", "holds"),
        ("train last 2 assistant\nnever train first assistant", "fails"),
        ("train assistant\nmask last 2 assistant\nnever train last assistant", "holds"),
        ("train assistant\nmask last 1000 assistant\nnever train last 999 assistant", "holds"),
        ("train assistant\nmask last 1000 assistant\nnever train last 1001 assistant", "fails"),
        ("train assistant where turn.index < 2\nnever train assistant where turn.index == 2", "holds"),
        ("train assistant where turn.index < 2.5\nnever train assistant where turn.index >= 2", "fails"),
        ("train assistant where turn.round > 1\nnever train assistant before first user", "holds"),
        ("train assistant right after tool\nnever train assistant where turn.index == 0", "holds"),
        ("train assistant where message.train\nnever train assistant unless message.train", "holds"),
        ("train assistant where message.n > 2\nnever train assistant where message.n < 2", "holds"),
        ("train assistant where message.n >= 2\nnever train assistant where message.n < 2.5", "fails"),
        ('train assistant where message.n != 1\nnever train assistant unless has message.n', "holds"),
        ('train assistant where message.a.b == 1\nnever train assistant where message.a == 1', "holds"),
        ("train /a+/ in assistant\nnever train assistant.text", "fails"),
        ("train /a+/ in assistant.text\nmask assistant\nnever train assistant", "holds"),
        ("train spans message.spans in assistant\nnever train assistant.text", "fails"),
        ("train assistant weight 0\nnever train assistant", "holds"),
        ("train assistant weight message.w\nnever train assistant where message.w == 0", "holds"),
        ("train assistant weight message.w\nnever train assistant where message.w == 1", "fails"),
        ("train assistant\nscale assistant by 0\nnever train assistant", "holds"),
        ("train assistant\ntrain eos of trained assistant\nalways train eos of trained assistant", "holds"),
        ("train assistant where message.keep\ntrain eos after trained assistant\nnever train eos of user", "holds"),
        ("train assistant.text\nmask trained last assistant\nnever train last assistant", "holds"),
        ("train assistant.text\nmask trained last assistant\nnever train assistant", "fails"),
        ("train assistant\nmask trained last assistant\ntrain eot of trained assistant\n"
         "never train eot of last assistant", "holds"),
        ("train assistant\nnever train user where call.name == \"x\"", "holds"),
        ("train segment_less where segment.empty\nnever train segment_less where segment.text == \"x\"", "holds"),
        ("train tool where call.name == \"f\"\nnever train tool.text where turn.index == 0", "holds"),
        ("train tool where call.name == \"f\"\nnever train tool.tool_call where turn.index == 0", "fails"),
        ("train tool where call.name == \"f\"\nnever train tool where call.name contains \"f\"", "fails"),
        ("train assistant where turn.chars > 5\nnever train assistant where turn.chars < 6", "holds"),
        ("train assistant where turn.chars > 5\nnever train assistant where turn.chars == 7", "fails"),
        ("train assistant where message.content matches /^a/\nnever train assistant.text where segment.text == \"abc\"",
         "fails"),
        ("train assistant where sample.s == \"a\"\nnever train assistant where sample.s == \"b\"", "holds"),
        ("train critic where message.role matches /^c/\nnever train critic", "fails"),
        ("train everything where message.role matches /^n/\nnever train narrator", "fails"),
        ("train user.media where part.type == \"image\"\nnever train user.media", "fails"),
        ("train everything where message.role matches /^z/\nnever train body", "fails"),
        ("train everything where message.role contains \"z\" and not (message.role == \"z\")\nnever train body",
         "fails"),
        ("train user.text where part.text == \"abc\"\nnever train user", "fails"),
        ("train user.media where part.type == \"image\" and message.content == \"cat\"\nnever train user", "fails"),
        ("train spans message.spans in user\nmask spans message.spans in user.text\nnever train user.text", "fails"),
        ("train user\nscale spans message.spans in user by 0\nalways train user.text", "fails"),
        ("train tool.text where call.arguments.n > 2\nnever train tool", "fails"),
        ("train tool.text where call.id == \"c7\"\nnever train tool", "fails"),
        ("train assistant.tool_call where call.name == \"f\"\nnever train assistant", "fails"),
        ("train bos where sample.x == 1\nnever train bos", "fails"),
        ("train preamble where sample.meta.deep.x\nnever train preamble", "fails"),
        ("train user where message.labels[1] == \"x\"\nnever train user", "fails"),
        ("train user where message.labels contains \"x\" and message.labels contains 2\nnever train user", "fails"),
        ("train assistant.reasoning where message.reasoning_content == \"hm\"\nnever train assistant", "fails"),
        ("train assistant.reasoning.text where segment.text matches /^h+m$/\nnever train assistant", "fails"),
        ("train assistant.text where segment.text matches /^[ab]{3}$/ and turn.chars == 3\nnever train assistant",
         "fails"),
        ("train assistant.eot where turn.chars > 4\nnever train assistant", "fails"),
        ("train user where message.content < \"b\" and message.content > \"a\"\nnever train user", "fails"),
        ("train user where message.content in \"abc\" and not (message.content == \"\")\nnever train user", "fails"),
        ("train user where segment.empty\nnever train user.text", "fails"),
        ("train user where message.name in \"xyz\" and message.name > \"\" and not (message.name contains \"y\")\n"
         "never train user", "fails"),
        ("train assistant.tool_call where call.meta.source == \"x\" and has call.meta\nnever train assistant", "fails"),
        # Spans are lists of the data: a field with another value lists no text, and one without it neither.
        ("train spans message.s in assistant where message.s == 1\nnever train assistant", "holds"),
        ("train assistant where has message.s\nmask spans message.s in assistant\nnever train assistant", "fails"),
        ("train assistant where not has message.s\nmask spans message.s in assistant\nnever train assistant", "fails"),
        ("train user\nmask spans message.s in user\ntrain spans message.s in user.text\nalways train user.text",
         "fails"),
    ],
)  # fmt: skip
def test_guards(text: str, verdict: str) -> None:
    (finding,) = report(text).guards
    assert finding.verdict == verdict, finding.places
    assert (finding.witness is not None) == (verdict == "fails")
    assert bool(finding.places) == (verdict != "holds")


def test_what_may_not_exist_is_only_possible() -> None:
    text = "train assistant where message.content matches /a/ and not (message.content matches /a|b/)"
    found = report(text + "\nnever train assistant")
    assert [g.verdict for g in found.guards] == ["possible"]
    assert found.exit_code == 3
    assert not found.holds


@pytest.mark.parametrize(
    "condition",
    [
        'turn.chars == 1 and segment.text == "ab"',
        'message.content == "ab" and segment.text == "b" and not has part.type',
        "message.meta.x == 1 and message.meta matches /a/ or message.labels[0] == 1 and message.labels contains 2 and "
        "not (message.labels contains 1)",
    ],
)
def test_tests_that_hang_together_are_only_possible(condition: str) -> None:
    (guard,) = report(f"train user.text where {condition}\nnever train user").guards
    assert guard.verdict == "possible"


def test_a_witness_is_a_conversation_the_engine_decides_so() -> None:
    found = report("train everything after last user\nnever train tool")
    (guard,) = found.fails
    assert guard.witness is not None
    assert [m["role"] for m in guard.witness.conversation.messages] == ["user", "tool"]
    assert guard.witness.by_template
    assert guard.witness.text in guard.witness.chat.text
    assert guard.witness.rule == 0
    assert guard.witness.weight == 1.0
    assert guard.rules == (found.policy.rules[0],)
    assert found.exit_code == 1


def test_thinking_that_no_template_writes_is_laid_out_as_text_of_its_field() -> None:
    (guard,) = report("train user.reasoning.text\nnever train user").fails
    assert guard.witness is not None
    assert not guard.witness.by_template
    assert ("reasoning_content",) == guard.witness.place.field
    assert guard.witness.text == guard.witness.conversation.messages[0]["reasoning_content"]


def test_where_conditions_do_not_matter_is_tried_before_what_no_data_makes_true() -> None:
    never = [
        f"train assistant where turn.index == {k} and message.x{k} matches /^a$/ and message.x{k} matches /^b$/"
        for k in range(6)
    ]
    text = "\n".join([*never, "train assistant where turn.index == 7", "never train assistant"])
    assert "fails" == prove(checked(text)).guards[0].verdict


def test_turns_of_which_nothing_is_asked_say_something() -> None:
    (guard,) = prove(checked("train assistant\nnever train assistant after first user")).guards
    assert guard.witness is not None
    assert ["What is 2 + 2?", "4."] == [m["content"] for m in guard.witness.conversation.messages]


def test_the_default_breaks_always_guards() -> None:
    (guard,) = report("train assistant.text\nalways train assistant").fails
    assert guard.rules == (None,)


def test_vacuous_guards() -> None:
    (guard,) = report('train assistant\nnever train user where message.role == "tool"').guards
    assert (guard.verdict, guard.vacuous) == ("holds", True)
    assert [d.code for d in guard_diagnostics([guard])] == ["PE306"]


def dead(text: str) -> list[tuple[int, str, tuple[int, ...]]]:
    return [(d.rule.index, d.why, tuple(r.index for r in d.by)) for d in report(text).dead]


def test_dead_rules() -> None:
    assert dead(EXAMPLE) == []
    assert dead("mask user\ntrain everything") == [(0, "shadowed", (1,))]
    assert dead("train assistant.text\ntrain assistant.reasoning\nmask assistant") == [
        (0, "shadowed", (2,)),
        (1, "shadowed", (2,)),
    ]
    assert dead("train assistant\ntrain user where turn.index < 0") == [(1, "matches nothing", ())]
    assert dead("scale assistant by 2\ntrain assistant") == [(0, "shadowed", (1,))]
    assert dead("train assistant\nscale user by 2") == [(1, "nothing to scale", ())]
    assert dead("train assistant\nscale assistant by 2") == []
    # A `trained` below looks at both, and would see the same without the first.
    twice = "train assistant.text\ntrain assistant.text\ntrain eot of trained assistant"
    assert dead(twice) == [(0, "shadowed", (1,))]


def test_a_rule_that_trained_asks_about_is_not_dead() -> None:
    assert dead("train assistant\ntrain eos of trained assistant\nmask body of assistant") == []
    assert dead("train assistant\ntrain eos of assistant\nmask body of assistant") == [(0, "shadowed", (2,))]


def test_conditions_that_never_matter() -> None:
    found = report('train assistant where turn.index >= 0 and message.role != "user"\nmask user where message.x')
    assert [(f.test, f.always) for f in found.fixed] == [('turn.index >= 0 and message.role != "user"', True)]
    found = report("train assistant where message.n > 2 and message.n < 1 or message.x")
    assert found.fixed == ()
    found = report("train assistant where message.x and turn.from_end < 0")
    assert [(f.test, f.always) for f in found.fixed] == [("message.x and turn.from_end < 0", False)]


@pytest.mark.parametrize(
    ("text", "free"),
    [
        (EXAMPLE, True),
        ("mask user\ntrain everything", False),
        ("train assistant\ntrain assistant.text", True),
        ("train assistant\ntrain assistant.text weight 2", False),
        ("train assistant\ntrain assistant.text weight 1.0", True),
        ("train assistant\nscale user by 2", True),
        ("train assistant\nscale assistant by 2", False),
        ("mask assistant\nscale assistant by 2", True),
        ("train assistant where message.x\nmask assistant unless message.x", True),
        ("train assistant\ntrain eos of trained assistant", None),
    ],
)
def test_order(text: str, free: bool | None) -> None:
    found = report(text)
    assert found.order.free is free
    assert found.order_free is (free is True)
    assert (found.order.pair is not None) == (free is False)


def test_the_pair_that_an_order_depends_on_is_one_that_overlaps() -> None:
    pair = report("train user\ntrain assistant\nmask assistant").order.pair
    assert pair is not None
    assert [1, 2] == [rule.index for rule in pair]


def test_places_in_words() -> None:
    found = report("train assistant\nmask assistant.reasoning where message.x\ntrain user after last tool")
    words = {r.rule.index if r.rule else None: r.places for r in found.decided}
    assert words[1] == ("assistant: reasoning.close, reasoning.open, reasoning.text where message.x",)
    assert words[2] == ("user: body with a tool before it and with no tool after it",)
    assert "any other role" in words[None]
    assert "user except with a tool before it and with no tool after it" not in words[None]


def test_of_many_places_twelve_are_named() -> None:
    (places, _) = (own.places for own in report("train " + ", ".join(f"r{n}" for n in range(15))).decided)
    assert ["r0: body", "and 3 more"] == [places[0], *places[12:]]


def test_of_many_conditions_three_are_named() -> None:
    found = report("train assistant where message.a and message.b and message.c and message.d and message.e")
    assert found.decided[0].places == ("assistant: body where message.a and message.b and message.c and 2 more",)


@pytest.mark.parametrize(
    ("old", "new", "verdict", "kinds"),
    [
        (EXAMPLE, EXAMPLE, "equal", []),
        (EXAMPLE, "train eos of assistant, assistant", "equal", []),
        ("train assistant", "train assistant; train eos of assistant", "trains more", ["trains more"]),
        ("train assistant", "train last assistant", "trains less", ["trains less"]),
        ("train assistant", "train user", "incomparable", ["trains less", "trains more"]),
        ("train assistant", "train assistant weight 2", "trains more", ["trains more"]),
        ("train assistant", "train assistant weight -1", "incomparable", ["differs"]),
        ("train assistant", "train assistant weight message.w", "incomparable", ["differs", "trains less"]),
        ("train assistant weight message.w", "train assistant weight message.w", "equal", []),
        ("train user weight message.w", "mask user", "trains less", ["trains less"]),
        ("train assistant weight 2", "train assistant; scale assistant by 2", "equal", []),
        ("train assistant weight 6", "train assistant; scale assistant by 2; scale assistant by 3", "equal", []),
        ("train assistant where message.x", "train assistant unless not message.x", "equal", []),
        ("train assistant\nmask user", "train assistant\nmask tool", "equal", []),
        ("train assistant; on straddle train", "train assistant", "trains less", []),
        ("train assistant; on straddle error", "train assistant", "incomparable", []),
        ("train assistant; on empty keep", "train assistant", "equal", []),
        ("train assistant; on straddle train; never train user", "train assistant; on straddle train",
         "incomparable", []),
        ("train assistant; on straddle train", "train assistant; on straddle train; never train user",
         "incomparable", []),
        ("train last assistant", "train assistant; mask assistant before last assistant", "equal", []),
        ("train trained assistant", "mask user", "equal", []),
        ("train assistant; train eos of trained assistant", "train assistant; train eos of assistant", "trains more",
         ["trains more"]),
    ],
)  # fmt: skip
def test_diff(old: str, new: str, verdict: str, kinds: list[str]) -> None:
    found = compare(checked(old), checked(new))
    assert found.verdict == verdict
    assert sorted({change.kind for change in found.changes}) == kinds
    assert all(change.witness is not None and change.places for change in found.changes)
    assert found.exit_code == (0 if verdict == "equal" else 1)
    assert bool(found.settings) == ("on " in old + new)


def test_always_guards_keep_nothing_masked_where_straddling_tokens_are_trained() -> None:
    plain = "train assistant; on straddle train"
    assert compare(checked(f"{plain}; always train assistant"), checked(plain)).verdict == "equal"


@pytest.mark.parametrize(("change", "exit_code"), [("train user.text", 3), ("train tool\nmask assistant", 1)])
def test_diff_of_what_may_not_exist(change: str, exit_code: int) -> None:
    new = f"train assistant\n{change} where message.content matches /a/ and not (message.content matches /a|b/)"
    found = compare(checked("train assistant"), checked(new))
    assert (found.verdict, found.exit_code) == ("possibly different", exit_code)


def test_past_the_limits_nothing_is_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = "train last 30000 assistant\nnever train user"
    found = report(deep)
    assert found.undecided is not None
    assert [(g.verdict, g.vacuous) for g in found.guards] == [("undecided", False)]
    assert found.exit_code == 3
    assert compare(checked(deep), checked("mask user")).verdict == "undecided"
    assert compare(checked(deep), checked("mask user")).exit_code == 3
    program = policy_from_text(deep)
    assert [d.code for d in program.policy.warnings] == ["PE305"]
    many = "\n".join(f"train assistant where message.a{i}" for i in range(20)) + "\nnever train user"
    if sys.version_info >= (3, 11):  # for which the proof extra has decision diagrams
        assert report(many).holds
    monkeypatch.setitem(sys.modules, "dd", None)
    assert "chat-policy-engine[proof]" in str(report(many).undecided)


def test_many_uses_of_trained_are_undecided() -> None:
    rules = [f"train assistant where message.a{i}\ntrain eos of trained assistant" for i in range(8)]
    assert "`trained`" in str(report("\n".join(rules)).undecided)


def test_a_policy_whose_guard_fails_does_not_compile() -> None:
    text = "train everything\nnever train user"
    with pytest.raises(PolicyCheckError) as caught:
        policy_from_text(text, name="my.policy")
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "PE303"
    assert diagnostic.is_error
    assert [r.span.text for r in diagnostic.related] == ["train everything"]
    assert "What is 2 + 2?" in str(diagnostic.help)
    assert policy_from_text(text, prove=False).policy.guards
    assert policy_from_text("train assistant\nnever train user").policy.warnings == ()


def test_loading_by_name_and_path(tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert load_policy("all_assistants").policy.guards
    path = tmp_path / "mine.policy"
    path.write_text("train everything\nnever train user\n", encoding="utf-8")
    with pytest.raises(PolicyCheckError, match=r"mine\.policy:2:1"):
        load_policy(path)
    assert load_policy(path, prove=False).policy.guards


def test_a_witness_on_one_line() -> None:
    texts = []
    for text in ("train bos where sample.x == 1\nnever train bos", "train user\nnever train user"):
        (guard,) = report(text).fails
        assert guard.witness is not None
        texts.append(witness_text(guard.witness))
    message = '[{"role": "user", "content": "What is 2 + 2?"}]'
    assert texts == [
        f"{message} with sample {{\"x\": 1}}: text no message owns, bos '<s>'",
        f"{message}: message 0, text 'What is 2 + 2?'",
    ]


def test_a_program_can_be_proven() -> None:
    program = unproven("train assistant\nnever train user")
    assert prove(program).holds
    assert compare(program, program).verdict == "equal"


def test_diagnostics_of_rules() -> None:
    found = list(rule_diagnostics(report("mask user\ntrain everything\nscale tool by 2 where turn.index >= 0")))
    assert [d.code for d in found] == ["PE311", "PE312"]
    assert [r.span.text for r in found[0].related] == ["train everything"]
    found = list(rule_diagnostics(report("mask user\nscale user by 2\ntrain user where turn.index < 0")))
    assert [d.code for d in found] == ["PE311", "PE311", "PE312"]
    assert len({d.message for d in found}) == 3
