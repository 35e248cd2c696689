"""Ways to write a template, each in a template of its own: whose text is whose depends on none of them."""

from __future__ import annotations

import dataclasses

import pytest
from jinja2.filters import FILTERS

from policy_engine.chat.loading import load_tokenizer
from policy_engine.chat.segments import Unrendered
from policy_engine.chat.template import ChatTemplate
from policy_engine.core.errors import TemplateError
from policy_engine.core.source import common_prefix
from policy_engine.data.conversation import Conversation
from policy_engine.testing.choices import RandomChoices
from policy_engine.testing.conformance import check_template
from tests.properties.injection import hostile_conversation, injection_outcome
from tests.support.parity import parity_problems
from tests.support.sentinels import SENTINELS, WORD, home
from tests.support.templates import SHAPES, SPECIAL_TOKENS, mechanism_templates

MECHANISMS = mechanism_templates()
NAMES = list(MECHANISMS)
DEEP = {"recursive_macro"}
"""Macros that call themselves once per message: Python lets nobody go a thousand deep."""


def compiled(name: str) -> ChatTemplate:
    return ChatTemplate(MECHANISMS[name], special_tokens=SPECIAL_TOKENS, name=name)


@pytest.mark.parametrize("name", NAMES)
def test_the_text_is_transformers_and_every_word_its_message_s(name: str) -> None:
    template = compiled(name)
    for index, conversation in enumerate(SHAPES.values()):
        assert [] == list(parity_problems(template, conversation, bool(index % 2)))
    checked = 0
    for shape, conversation in SENTINELS.items():
        try:
            chat = template.render(conversation)
        except TemplateError:
            continue
        assert not any(segment.unknown for segment in chat.segments)
        for word in WORD.finditer(chat.text):
            checked += 1
            expected = home(word)
            found = [s for s in chat.segments if s.start < word.end() and s.end > word.start()]
            assert {expected.turn} == {s.turn for s in found}, (shape, word[0])
            assert {s.field and s.field[0] for s in found} <= set(expected.fields), (shape, word[0])
            if shape != "reasoning_inline" or "</think>" in template.source:
                assert {expected.part} == {s.part for s in found}, (shape, word[0])
    assert checked > 10


@pytest.mark.parametrize("name", NAMES)
def test_content_lies_where_two_renders_differ(name: str) -> None:
    template = compiled(name)
    conversation = SENTINELS["no_system"]
    compared = 0
    one, other = "\u4e00first\u4e01", "\u4e02the second\u4e03"
    for turn in range(len(conversation.messages)):
        texts = []
        for content in (one, other):
            messages = list(conversation.messages)
            messages[turn] = {**messages[turn], "content": content}
            texts.append(template.render(dataclasses.replace(conversation, messages=tuple(messages))))
        first, second = texts
        if first.text.count(one) != 1 or second.text.count(other) != 1:
            continue  # rewritten by the template
        start = common_prefix(first.text, second.text)
        end = len(first.text) - common_prefix(first.text[::-1], second.text[::-1])
        own = [s for s in first.segments if s.field == ("content",) and s.turn == turn and s.field_exact]
        assert (start, end) == (own[0].start, own[-1].end)
        compared += 1
    assert compared


@pytest.mark.parametrize("name", NAMES)
def test_conformance(name: str) -> None:
    report = check_template(
        compiled(name),
        examples=10,
        shrink=False,
        properties=("partition", "independent", "ends", "injection", "header")
        + (("bounded",) if name not in DEEP else ()),
    )
    assert report.holds, report


@pytest.mark.parametrize("name", sorted(DEEP))
def test_a_template_that_recurses_with_every_turn_comes_to_its_bound(name: str) -> None:
    report = check_template(compiled(name), examples=10, shrink=False, properties=("bounded",))
    assert not report.holds
    assert "recurses without end" in str(report)


@pytest.mark.parametrize("name", NAMES)
def test_hostile_data_is_never_trained(name: str) -> None:
    tokenizer = load_tokenizer("builtin", template=compiled(name).source)
    added = tuple(str(token) for token in tokenizer.tokenizer.added_tokens_decoder.values())
    trained = 0
    for number in range(10):
        outcome, problem = injection_outcome(tokenizer, hostile_conversation(RandomChoices(f"{name}:{number}"), added))
        assert problem is None
        trained += outcome == "trained"
    assert trained


USER = {"role": "user", "content": "Quser0Z <b>"}
ONE_BY_ONE = {
    "printed list": "{{ [messages[0].content] }}",
    "printed object": "{{ {'a': messages[0].content} }}",
    "list joined by ~": "{{ [messages[0].content] ~ '' }}",
    "string filter": "{{ [messages[0].content]|string }}",
    "pprint": "{{ [messages[0].content]|pprint }}",
    "format filter": "{{ '%s!'|format(messages[0].content) }}",
    "format filter, named": "{{ '%(a)s!'|format(a=messages[0].content) }}",
    "percent of a tuple": "{{ ['%s%s'][0] % (messages[0].content, '!') }}",
    "percent of an object": "{{ ['%(a)s'][0] % {'a': messages[0].content} }}",
    "format method": "{{ ['{}{}'][0].format(messages[0].content, '!') }}",
    "join method": "{{ ['-'][0].join([messages[0].content, 'x']) }}",
    "replace method": "{{ ['aXa'][0].replace('X', messages[0].content) }}",
    "urlize": "{{ messages[0].content|urlize }}",
    "xmlattr": "{{ {'a': messages[0].content}|xmlattr }}",
    "truncate": "{{ (messages[0].content * 9)|truncate(20) }}",
    "wordwrap": "{{ messages[0].content|wordwrap(9) }}",
    "safe, then a method": "{{ (messages[0].content|safe).upper().replace('U', '_').strip() }}",
    "safe, cut": "{{ (messages[0].content|safe)[:7] }}",
    "safe, split": "{{ (messages[0].content|safe).split(' ')[0] }}",
    "escaped": "{{ messages[0].content|e }}",
    "escaped and added": "{{ '<i>'|safe + messages[0].content }}",
    "tojson of a list": "{{ [[messages[0].content]]|tojson }}",
    "center": "{{ messages[0].content|center(40) }}",
    "reversed": "{{ messages[0].content|reverse }}",
    "map and join": "{{ messages|map(attribute='content')|map('upper')|join('+') }}",
    "characters": "{{ messages[0].content|list|join }}",
}


@pytest.mark.parametrize("name", sorted(ONE_BY_ONE))
def test_no_operation_takes_data_for_the_template_s_text(name: str) -> None:
    chat = ChatTemplate(ONE_BY_ONE[name]).render(Conversation(messages=(USER,)))
    data = [chat.segment_text(s) for s in chat.segments if s.field is not None or s.unknown]
    letters = set("QuserZ".upper() if "upper" in ONE_BY_ONE[name] else "QuserZ") - {"U", "u", "e", "s", "r"}
    assert letters <= set("".join(data))
    rest = "".join(chat.segment_text(s) for s in chat.segments if s.field is None and not s.unknown)
    assert "Q" not in rest
    assert "Z" not in rest


@pytest.mark.parametrize("value", ["messages[0].content", "[messages[0].content]", "messages[0]"])
@pytest.mark.parametrize("name", sorted(FILTERS))
def test_no_filter_takes_data_for_the_template_s_text(name: str, value: str) -> None:
    """All of Jinja's filters, those that are written here again among them: a filter that is added is tried, too."""
    try:
        chat = ChatTemplate(f"{{{{ {value}|{name} }}}}").render(Conversation(messages=(USER,)))
    except TemplateError:
        return  # it wants arguments, or another value
    rest = "".join(chat.segment_text(s) for s in chat.segments if s.field is None and not s.unknown)
    assert set() == {"Q", "Z"} & set(rest)


def test_autoescape_is_refused() -> None:
    with pytest.raises(TemplateError, match="line 2: autoescape"):
        ChatTemplate("{{ messages }}\n{% autoescape true %}{{ messages[0].content }}{% endautoescape %}")


def test_calls_in_the_older_field_are_missed_too() -> None:
    call = {"name": "look_up", "arguments": '{"city": "Paris"}'}
    told = Conversation(messages=(USER, {"role": "assistant", "content": None, "function_call": call}))
    chat = compiled("building_plus").render(
        dataclasses.replace(told, messages=(USER, {**told.messages[1], "content": ""}))
    )
    assert (Unrendered(turn=1, path=("function_call",), kind="call"),) == chat.unrendered
    writes = (
        "{% for m in messages %}{{ m.content }}{% if m.function_call %}"
        "{{ m.function_call.name }}{{ m.function_call.arguments }}{% endif %}{% endfor %}"
    )
    chat = ChatTemplate(writes).render(told)
    assert () == chat.unrendered
    assert ["tool_call.name", "tool_call.arguments"] == [s.part for s in chat.segments if s.turn == 1]
