"""Rules that decide nothing, and fields that are not there or of another type: each is named, with what was meant."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from typing import Any

import pytest

from policy_engine.core.diagnostics import Diagnostic
from policy_engine.data.conversation import Conversation
from policy_engine.mask.batch import mask_rows
from policy_engine.mask.evidence.rule_findings import rule_findings, unused_rules
from policy_engine.mask.evidence.rule_use import Evidence, RuleWatch
from policy_engine.mask.masker import Masker
from policy_engine.mask.row import MaskedRow
from policy_engine.proof.load_policy import policy_from_text
from policy_engine.rules.program import Program

BASE = "train assistant\ntrain eos after assistant\n"
USER = {"role": "user", "content": "2+2?"}
PRINTS_PARTS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
)
PRINTS_LISTS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


def answer(**keys: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": "Four.", **keys}


def looked(
    policy: str, *rows: list[dict[str, Any]], template: str | None = None, sample: Any = None
) -> tuple[Program, Evidence]:
    program = policy_from_text(BASE + policy, prove=False)
    masker = Masker(program, "builtin", template=template)
    watch, seen = RuleWatch(program, masker.tokenizer), Evidence()
    for number, messages in enumerate(rows, start=1):
        watch.look(masker(messages, sample=sample), seen, number=number)
    return program, seen


def found(policy: str, *rows: list[dict[str, Any]], **how: Any) -> tuple[Diagnostic, ...]:
    return rule_findings(*looked(policy, *rows, **how), rows=len(rows))


def told(policy: str, *rows: list[dict[str, Any]], **how: Any) -> list[tuple[str, str, str | None]]:
    return [(d.code, d.severity, d.help) for d in found(policy, *rows, **how)]


def test_a_policy_that_does_what_it_says_is_not_spoken_of() -> None:
    rows = [[USER, answer(training=False)], [USER, answer(training=True)]]
    assert [] == told("mask assistant where message.training == false", *rows)


def test_rules_are_found_in_any_row_of_a_batch() -> None:
    """Masks of a batch share an array, which is gone through once: what is found is what each row by itself shows."""
    program = policy_from_text(BASE + "mask assistant where message.bad\nmask tool", prove=False)
    masker = Masker(program, "builtin")
    rows = [[USER, answer()], [USER, answer()], [USER, answer(bad=True)], [USER, answer(bad=True)]]
    batch = mask_rows([Conversation(messages=tuple(row)) for row in rows], masker.row_masker)
    found = []
    for masked in (batch, [masker(row) for row in rows]):
        watch, seen = RuleWatch(program, masker.tokenizer), Evidence()
        for row in masked:
            assert isinstance(row, MaskedRow)
            watch.look(row, seen, number=10_001)
        found.append({fact: count for fact, count in seen.items() if fact[0] == "decided"})
    assert [{("decided", str(rule)): 1 for rule in (0, 1, 2)}] * 2 == found


def test_a_role_that_does_not_occur_is_counted_and_not_warned_of() -> None:
    program, seen = looked("mask tool", *[[USER, answer()]] * 30)
    assert () == rule_findings(program, seen, rows=30)
    assert {2: "what it selects does not occur"} == unused_rules(program, seen)


def test_a_regex_that_matches_nothing_is_named() -> None:
    rows = [[USER, answer()]] * 30
    program, seen = looked("mask /zebra/ in assistant; mask /zebra/ in assistant, tool", *rows)
    (finding,) = rule_findings(program, seen, rows=30)
    assert "`mask /zebra/ in assistant` decides no token of 30 rows: its regex matches nothing there" == finding.message
    assert ("PE519", "warning") == (finding.code, finding.severity)


@pytest.mark.parametrize(
    ("test", "keys", "help"),
    [
        ('message.traning == "x"', {"training": "x"}, "did you mean `message.training`?"),
        ("has message.wieght", {"weight": 1}, "did you mean `message.weight`?"),
        ('message.training == "0"', {"training": 0}, "write `message.training == 0`"),
        ("message.training == false", {"training": 0}, "write `message.training == 0`"),
        ("message.training != 0", {"training": False}, "write `message.training != false`"),
        ("message.training == 1", {"training": "1"}, 'write `message.training == "1"`'),
        ("message.training", {"training": 1}, "write `message.training == 1`: a field alone is true only where it is "
         "JSON `true`"),
        ('message.tags == "a"', {"tags": ["a"]}, 'write `message.tags contains "a"`: the data has lists there'),
        ('message.tags in ["a"]', {"tags": ["a"]}, 'write `message.tags contains "a"`: the data has lists there'),
        ('message.meta.source == "x"', {"meta": {"src": "x"}}, "did you mean `message.meta.src`?"),
        ('message.meta.n == "1"', {"meta": {"n": 1}}, "write `message.meta.n == 1`"),
        ("has message.meta.lang.cod", {"meta": {"lang": {"code": 1}}}, "did you mean `message.meta.lang.code`?"),
        ("message.score > 1", {"score": "2"}, "write numbers in the data: texts are compared letter by "
         "letter, `10` before `9`"),
    ],
)  # fmt: skip
def test_a_field_of_another_name_or_type(test: str, keys: dict[str, Any], help: str) -> None:
    assert [("PE520", "warning", help)] == told(f"mask assistant where {test}", [USER, answer(**keys)])


@pytest.mark.parametrize(
    "test",
    ["message.train != null", "not (message.train == null)", 'message.train in [null, "yes"]', "message.train == null"],
)
@pytest.mark.parametrize("value", [True, 0, "yes", []])
def test_a_test_of_null_asks_for_no_type(test: str, value: object) -> None:
    rows = [[USER, answer(train=value)]] * 30
    assert "PE520" not in {code for code, _, _ in told(f"train assistant where {test}", *rows)}
    # A field that no message has is still reported.
    assert "PE520" in {code for code, _, _ in told(f"train assistant where {test}", *[[USER, answer()]] * 30)}


@pytest.mark.parametrize(("op", "truth"), [("==", "never"), ("!=", "always")])
def test_a_comparison_of_two_types_is_said_to_be_what_it_is(op: str, truth: str) -> None:
    (message,) = [d.message for d in found(f"train assistant where message.train {op} 0", [USER, answer(train="0")])]
    assert message.endswith(f"the comparison is type-strict and {truth} true")


def test_each_test_of_a_field_has_its_own_type() -> None:
    policy = 'mask assistant where message.training == 0\nmask assistant where message.training == "0"'
    assert ["write `message.training == 0`"] == [d.help for d in found(policy, [USER, answer(training=0)])]


def test_values_of_several_types_where_a_list_is_asked_for() -> None:
    rows = [[USER, answer(tags=["a"])], [USER, answer(tags=5)]]
    (finding,) = found('mask assistant where message.tags in ["a"]', *rows)
    assert 'compare with a value such as `["a"]`' == finding.help


def test_a_field_that_is_not_there_hides_no_other() -> None:
    policy = 'mask assistant where message.absent == 1\nmask assistant where message.training == "0"'
    helps = [d.help for d in found(policy, [USER, answer(training=0)])]
    assert "write `message.training == 0`" == helps[1]


def test_a_field_of_another_scope() -> None:
    row = [USER, answer()]
    helps = [help for _, _, help in told("mask assistant where message.source", row, sample={"source": True})]
    assert ["did you mean `sample.source`?"] == helps


def test_weights_and_spans() -> None:
    rows = [[USER, answer(wieght=2, spans=[[0, 1]])]]
    policy = "train assistant weight message.weight\nmask spans message.span in assistant"
    assert {"did you mean `message.wieght`?", "did you mean `message.spans`?"} == {d.help for d in found(policy, *rows)}


@pytest.mark.parametrize(("rows", "severity"), [(19, "info"), (20, "warning")])
def test_what_never_occurs_in_few_rows_is_a_remark(rows: int, severity: str) -> None:
    policy = "mask assistant where message.training == false\nmask assistant where message.x"
    given = [[USER, answer(training=True)]] * rows
    assert [("PE519", severity), ("PE520", severity)] == [(c, s) for c, s, _ in told(policy, *given)]
    message = found(policy, *given)[0].message
    assert f"decides no token of {rows} rows: its condition never held" in message


def test_it_can_be_meant() -> None:
    policy = "mask assistant where message.training == false  # lint: ignore PE519"
    assert [] == told(policy, *[[USER, answer(training=True)]] * 30)


def test_later_rules_decide_it_all() -> None:
    program, seen = looked("mask assistant.text\ntrain assistant", [USER, answer()])
    assert "later rules decide all that it selects" == unused_rules(program, seen)[0]


@pytest.mark.parametrize(
    ("later", "asks"),
    [
        ("train assistant after trained first user; mask user", True),
        ("train assistant right after trained user; mask user", True),
        ("train eos of trained assistant; mask user", False),
        ("train eos of trained last user; mask user", True),
        ("train assistant after first user; mask user", False),
    ],
)
def test_a_mark_that_a_later_rule_asks_for(later: str, asks: bool) -> None:
    program, seen = looked(f"train user.text; {later}", [USER, answer()])
    marked = "later rules decide all that it selects" + "; `trained` in a later rule asks for it" * asks
    assert marked == unused_rules(program, seen)[2]


def test_a_scale_that_holds_is_not_unused() -> None:
    program, seen = looked("scale assistant by 2\nscale tool by 2", [USER, answer()])
    assert {3: "what it selects does not occur"} == unused_rules(program, seen)


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ("scale / four/ in assistant.text by 0.5", None),
        ("mask / four/ in assistant.text", None),
        (
            "mask / four/ in assistant.text; train assistant.text",
            "later rules or `on straddle` decide all that it selects",
        ),
        # The token is ` four`.
        ("mask /four/ in assistant.text", "later rules or `on straddle` decide all that it selects"),
        ("scale /five/ in assistant.text by 0.5", "what it selects does not occur"),
    ],
)
def test_a_regex_is_looked_for_behind_the_start_of_a_text_too(rules: str, why: str | None) -> None:
    program, seen = looked(rules, [USER, {"role": "assistant", "content": "It is four."}])
    place = next(rule.index for rule in program.policy.rules if "/" in rule.span.text)
    assert why == unused_rules(program, seen).get(place)


def test_thinking_that_is_text() -> None:
    row = [USER, {"role": "assistant", "content": "<think>\nTwo.\n</think>\n\nFour."}]
    template = PRINTS_LISTS
    (finding,) = found("mask assistant.reasoning", row, template=template)
    assert "`<think>` is text of the content in 1 row" in finding.message
    assert ("PE519", "warning") == (finding.code, finding.severity)
    assert finding.help is not None
    better = finding.help.split("`", 1)[1].removesuffix("`")
    program, seen = looked(better, row, template=template)
    assert {} == unused_rules(program, seen)


@pytest.mark.parametrize(
    ("policy", "written"),
    [
        ("train assistant.reasoning weight 0.2", "train RE in assistant.text weight 0.2"),
        ("scale last assistant.reasoning.text by 0.5", "scale RE in last assistant.text by 0.5"),
        (
            "mask assistant.reasoning after user where not has message.keep",
            "mask RE in assistant.text after user where not has message.keep",
        ),
        ("mask reasoning, assistant.empty_reasoning", "mask RE in assistant.text"),
        ("mask reasoning of assistant", "mask RE in text of assistant"),
        (
            'mask assistant.reasoning  # not taught\n  after user  # nor\n  where message.content != "x  y"',
            'mask RE in assistant.text after user where message.content != "x  y"',
        ),
        ("let thoughts = assistant.reasoning\nmask thoughts", "RE in assistant.text"),
    ],
)
def test_the_rule_by_text_keeps_all_else_of_the_rule(policy: str, written: str) -> None:
    row = [USER, {"role": "assistant", "content": "<think>\nTwo.\n</think>\n\nFour."}]
    # What is masked reaches to the end of an answer that was cut inside its thinking.
    end = r"(<\/think>|\z)" if "mask" in policy else r"<\/think>"
    better = written.replace("RE", rf"/<think>.*?{end}\s*/s")
    helps = {d.help for d in found(policy, row, template=PRINTS_LISTS) if d.code == "PE519"}
    assert {f"select it by what it looks like: `{better}`"} == helps
    if better.startswith(("train", "mask", "scale")):
        program, seen = looked(better, row, template=PRINTS_LISTS)
        assert {} == unused_rules(program, seen)


def test_thinking_that_is_text_is_searched_in_the_first_rows_and_where_a_rule_asks_for_thinking() -> None:
    chat = [USER, {"role": "assistant", "content": "<think>\nTwo.\n</think>\n\nFour."}]
    for policy, counts in (("mask assistant.reasoning", [1, 0]), ("mask assistant.tool_call", [0, 0])):
        program = policy_from_text(BASE + policy, prove=False)
        masker = Masker(program, "builtin", template=PRINTS_LISTS)
        watch, row = RuleWatch(program, masker.tokenizer), masker(chat)
        seen = [Evidence(), Evidence()]
        for evidence, number in zip(seen, (2000, 2001), strict=True):
            watch.look(row, evidence, number=number)
        assert counts == [evidence["thinking", "<think>"] for evidence in seen]


def test_fields_of_parts() -> None:
    parts = [{"type": "text", "text": "Two.", "train": False}, {"type": "text", "text": "Four."}]
    row = [USER, {"role": "assistant", "content": parts}]
    policy = "mask assistant where part.train == false"
    for template in (PRINTS_PARTS, PRINTS_LISTS):
        assert [] == told(policy, row, template=template)
    # No character of the parts is in the text.
    counts = PRINTS_LISTS.replace("m.content", "m.content|length")
    (finding,) = found(f"{policy}\non unrendered ignore", row, template=counts)
    assert "prints their list as one text" in finding.message


def test_calls() -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": {"city": "Oslo"}}, "keep": True}
    row = [USER, {"role": "assistant", "content": "", "tool_calls": [call]}]
    assert [] == told('mask assistant where call.arguments.city == "Oslo"\nmask assistant where call.keep', row)
    assert ["did you mean `call.keep`?"] == [help for _, _, help in told("mask assistant where call.kep", row)]


def test_evidence_adds_up_and_goes_through_json() -> None:
    policy = 'mask assistant where message.training == "0"'
    one, two = (looked(policy, [USER, answer(training=value)])[1] for value in (0, 1))
    program, both = looked(policy, [USER, answer(training=0)], [USER, answer(training=1)])
    summed: Evidence = Counter(pickle.loads(pickle.dumps(one)))
    summed.update({tuple(json.loads(json.dumps(key))): count for key, count in two.items()})
    assert rule_findings(program, both, rows=2) == rule_findings(program, summed, rows=2)


def test_fields_of_neighbours_that_are_there() -> None:
    calls = answer(tool_calls=[{"id": "a", "type": "function", "function": {"name": "f", "arguments": {}}}], score=1)
    row = [USER, calls, {"role": "tool", "tool_call_id": "a", "content": "4", "ok": False}, answer(), {**USER, "n": 1}]
    tests = ["next.n > 1", "result.ok == true", "previous.ok", 'result.content == "5"', "answer.score > 2"]
    policy = "\n".join(f"mask turn where {test}" for test in tests)
    assert ["PE519"] * len(tests) == [d.code for d in found(policy, row)]


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ("previous.n", "no message before another of 1 row has `n`, which the policy asks for"),
        ("next.ok", "no message behind another of 1 row has `ok`, which the policy asks for"),
        ('result.content == "5"',
         "no tool message that answers a call of 1 row has `content`, which the policy asks for"),
        ("answer.score > 2",
         "no message whose call a tool message answers of 1 row has `score`, which the policy asks for"),
    ],
)  # fmt: skip
def test_fields_of_neighbours_that_never_were_there(test: str, message: str) -> None:
    row = [
        {**USER, "ok": True},
        answer(score=3),
        {"role": "tool", "tool_call_id": "a", "content": "4"},
        {**USER, "n": 1},
    ]
    assert [message] == [d.message for d in found(f"mask turn where {test}", row)]


@pytest.mark.parametrize("field", ["train", "training", "weight"])
def test_one_of_several_names_is_enough(field: str) -> None:
    value = 1 if field == "weight" else True
    assert "PE520" not in {code for code, _, _ in told("use train_flags", *[[USER, answer(**{field: value})]] * 30)}
    assert "PE520" in {code for code, _, _ in told("use train_flags", *[[USER, answer()]] * 30)}


def test_a_name_that_the_condition_asks_for_is_not_what_is_meant() -> None:
    row = [USER, answer(train=True)]
    test = "mask assistant where message.training == false and message.train == true"
    assert ["a test of a field that is not there is false, and a weight that is not there is 1"] == [
        d.help for d in found(test, row)
    ]
    either = "mask assistant where message.wieght == 0 or message.train == false"
    assert ["did you mean `message.weight`?"] == [d.help for d in found(either, [USER, answer(train=False, weight=0)])]


def test_a_misspelled_field_of_a_neighbour() -> None:
    row = [USER, answer(trainable=True), USER]
    assert [("PE520", "warning", "did you mean `previous.trainable`?")] == told(
        "mask user where previous.tranable", row
    )
