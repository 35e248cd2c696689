"""Words that expressions of templates cut off, whatever the filter or method: in the text, or reported by path.

Each word of a content occurs once. An expression of a template writes the content, and perhaps not all of it.
"""

from __future__ import annotations

from typing import Any

import pytest

from policy_engine.chat.segments import RenderedChat
from policy_engine.chat.template import ChatTemplate
from policy_engine.data.conversation import Conversation
from tests.properties.pieces import problems

SOURCE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% set u = m.content %}"
    "{{ EXPRESSION if m.role == 'user' else u }}<|im_end|>\n{% endfor %}"
)
TEXT = "Qz001w alpha Qz002w beta Qz003w gamma Qz004w"
PARTS = [
    {"type": "text", "text": "Qz001w It's"}, {"type": "text", "text": "Qz002w"},
    {"type": "thinking", "thinking": "Qz003w \"q'\n"}, {"type": "text", "text": "Qz004w"},
]  # fmt: skip
OF_TEXT = (
    "u[:6]", "u[6:]", "u[::2]", "u|truncate(12)", "u|truncate(12, true, '')", "u|truncate(14, false, '~', 0)",
    "u|upper|truncate(12)", "[u]|map('truncate', 12)|join", "u|e|truncate(12)", "u|tojson|truncate(12)",
    "u.split()[0]", "u.rsplit(' ', 1)|first", "u.partition('alpha')|last", "u.rpartition('alpha')[0]",
    "(u|title)[:9]", "u|wordwrap(8)|upper", "(u|wordwrap(8)).split('\n')[0]", "(u|replace('alpha', 'x'))[:8]",
    "u.strip('Qz0w4')", "u|trim('Qz0w4')", "u|center(80)", "(u|center(80))[:40]", "(u|indent(2))[:9]", "u|first",
    "(u|list)[:6]|join", "u|batch(6)|first|join", "u|unique|join", "u|length", "u|wordcount", "u|int", "'%.6s' % u",
    "'{:.6}'.format(u)", "(u|safe)[:6]", "(u|reverse)[:6]", "u.zfill(80)[:50]", "u.center(80)[:30]", "(u ~ u)[:6]",
    "(u|pprint)[:9]", "u|select('upper')|join", "u|filesizeformat if false else u.find('beta')",
)  # fmt: skip
OF_PARTS = (
    "u", "u|string", "(u|string)[:30]", "(u|string)[40:-15]", "(u|string).split('Qz002w')[1]", "u|string|truncate(40)",
    "(u|tojson)[:40]", "u|tojson|truncate(60)", "(u|tojson(indent=2))[:60]", "u|pprint", "(u|pprint)[:40]",
    "(u|string|upper)[:40]", "(u|string|replace(\"'\", '\"'))[:40]", "u[0]", "u[0]|string", "u[:2]", "u[0].text",
    "u|join(' ')|truncate(40)", "'%.40s' % (u,)", "'{:.40}'.format(u|string)", "u|list|string", "u|reverse|list",
    "({'a': u}|string)[:40]", "(u|e)[:40]", "(u|string|wordwrap(20)).split('\n')[0]", "u|string|center(400)",
    "u|batch(2)|list", "u|selectattr('type', 'equalto', 'text')|list", "m", "m|string|truncate(70)", "messages",
    "u|length",
)  # fmt: skip


def rendered(expression: str, content: Any) -> RenderedChat:
    messages = ({"role": "user", "content": content}, {"role": "assistant", "content": "Yes."})
    return ChatTemplate(SOURCE.replace("EXPRESSION", f"({expression})")).render(Conversation(messages=messages))


@pytest.mark.parametrize(("expression", "content"), [*((e, TEXT) for e in OF_TEXT), *((e, PARTS) for e in OF_PARTS)])
def test_a_word_is_written_or_reported(expression: str, content: Any) -> None:
    chat = rendered(expression, content)
    shown = chat.text.casefold()
    reported = [lost for lost in chat.unrendered if lost.turn == 0]
    words = [f"Qz00{number}w" for number in (1, 2, 3, 4)]
    gone = [number for number, word in enumerate(words) if word.casefold() not in shown]
    if content is PARTS:
        lost = {part for u in reported for part in ([u.path[1]] if len(u.path) > 1 else range(4))}
        assert set(gone) <= lost
        # A part may be cut behind its word.
        assert lost <= {*gone, *(u.path[1] for u in reported if u.cut is not None)}
    else:
        assert bool(gone) == bool(reported)


def test_what_a_printed_list_loses_is_named_by_its_part() -> None:
    chat = rendered("(u|string).split('It')[0]", PARTS)
    assert ["part of content[0].text", "content[1]", "reasoning", "content[3]"] == [
        u.field.replace("content[2]", "reasoning") for u in chat.unrendered
    ]
    assert [(0, ("content",), "printed")] == [(w.turn, w.path, w.how) for w in chat.miswritten]
    assert [] == problems(Conversation(messages=chat.messages), chat)


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("u", True), ("(u|string)[3:]", True), ("(u|string).split('text')[0]", True), ("u|string|truncate(30)", True),
        ("u|string|upper", True), ("u|pprint", True), ("u|join", True), ("u|tojson", False), ("u[0].text", False),
        ("u|list", True), ("[u[0]]", True), ("[u[0].text]", False), ("u|map(attribute='text')|list", False),
    ],
)  # fmt: skip
def test_a_print_is_reported_however_it_is_cut(expression: str, found: bool) -> None:
    assert found == any(wrong.how == "printed" for wrong in rendered(expression, PARTS).miswritten)


def test_a_print_that_is_made_json_is_none() -> None:
    source = "u|string|replace(\"'\", '\"')"
    assert (PARTS[1]["text"] in rendered(source, PARTS[1:2]).text, ()) == (
        True,
        rendered(source, PARTS[1:2]).miswritten,
    )


def test_the_rest_of_a_truncated_text_is_exact() -> None:
    chat = rendered("u|truncate(20)", TEXT)
    (lost,) = chat.unrendered
    assert lost.cut is not None
    assert ("part of content", TEXT[12:].strip()) == (lost.field, TEXT[slice(*lost.cut)])
    (written,) = [s for s in chat.segments if s.turn == 0 and s.field_exact and s.part == "text"]
    assert TEXT[written.field_start :].startswith(chat.segment_text(written))


def test_texts_of_a_printed_list_are_the_parts_that_they_are() -> None:
    chat = rendered("u", PARTS)
    exact = [(s.field, s.item, chat.segment_text(s)) for s in chat.segments if s.turn == 0 and s.field_exact]
    assert (("content", 1, "text"), 1, "Qz002w") in exact
    around = [(s.part, chat.segment_text(s)) for s in chat.segments if s.item == 1 and not s.field_exact]
    assert [("text", "{'type': 'text', 'text': '"), ("text", "'}")] == around
