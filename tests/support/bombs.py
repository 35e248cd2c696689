"""Template bombs: templates that ask for more time or memory than there is, by every way that was found.

Run as a module, each is rendered in a process of its own, and what became of it is printed as JSON, one line a bomb:

    python -m tests.support.bombs 0 2              every second of them
    python -m tests.support.bombs 0 1 interrupt    all, ended by Ctrl-C
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from typing import Final

from policy_engine.chat.template import ChatTemplate
from policy_engine.core.errors import TemplateError
from policy_engine.data.conversation import Conversation

CHAT: Final = Conversation(messages=({"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}))
SECONDS: Final = 0.5
"""The bound of time that they are rendered under."""

PRESSED: Final = 0.2
"""Seconds of CPU after which Ctrl-C is pressed."""

_PATIENCE: Final = 60
"""Seconds after which a bomb is killed."""

_NESTED = (
    "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}"
    "{% set ns.b = [ns.b, ns.b] %}{% endfor %}"
)
_TUPLES = (
    "{% set ns = namespace(a=(1, 2), b=(1, 2)) %}{% for i in range(60) %}{% set ns.a = (ns.a, ns.a) %}"
    "{% set ns.b = (ns.b, ns.b) %}{% endfor %}"
)
_LONG = "{% set ns = namespace(t='x' * 60000000) %}"
_LIST = "{% set ns = namespace(t=['x']) %}"
BOMBS: Final = {
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
    "doubling a list": _LIST + "{% for i in range(99999) %}{% set ns.t = ns.t + ns.t %}{% endfor %}",
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
    "comparing nested lists": _NESTED + "{{ ns.a == ns.b }}",
    "comparing nested lists, unequal": _NESTED + "{{ ns.a != ns.b }}",
    "ordering nested lists": _NESTED + "{{ ns.a < ns.b }}",
    "comparing in a chain": _NESTED + "{{ 1 < 2 == (ns.a == ns.b) }}",
    "a nested list in a list": _NESTED + "{{ ns.a in [ns.b] }}",
    "a nested list not in a list": _NESTED + "{{ ns.a not in [1, ns.b] }}",
    "test of equality": _NESTED + "{{ ns.a is eq(ns.b) }}",
    "test of membership": _NESTED + "{{ ns.a is in([ns.b]) }}",
    "selected by equality": _NESTED + "{{ [ns.a]|select('equalto', ns.b)|list|length }}",
    "index of a nested list": _NESTED + "{{ [ns.a].index(ns.b) }}",
    "count of a nested list": _NESTED + "{{ [ns.a].count(ns.b) }}",
    "changed in a loop": _NESTED + "{% for x in [ns.a, ns.b] %}{{ loop.changed(x) }}{% endfor %}",
    "unique nested tuples": _TUPLES + "{{ [ns.a, ns.b]|unique|list|length }}",
    "sorted nested lists": _NESTED + "{{ [ns.a, ns.b]|sort|length }}",
    "largest nested list": _NESTED + "{{ ([ns.a, ns.b]|max)|length }}",
    "key of nested tuples": _TUPLES + "{{ {ns.a: 1}|length }}",
    "look-up of nested tuples": _TUPLES + "{{ {'a': 1}[ns.a] }}",
    "get of nested tuples": _TUPLES + "{{ {'a': 1}.get(ns.a) }}",
    "nested tuples in an object": _TUPLES + "{{ ns.a in {'a': 1} }}",
    "object of nested tuples": _TUPLES + "{{ dict([(ns.a, 1)])|length }}",
    "fromkeys of nested tuples": _TUPLES + "{{ dict.fromkeys([ns.a])|length }}",
    "printed values": _NESTED + "{{ {'a': ns.a}.values() }}",
    "printed items": _NESTED + "{{ {'a': ns.a}.items()|string }}",
    "printed namespace": _NESTED + "{{ ns }}",
    "printed namespace in a list": _NESTED + "{{ [ns]|string }}",
    "percent of a nested list": _NESTED + "{{ '%s' % [ns.a] }}",
    "format of a nested list": _NESTED + "{{ '{}'.format(ns.a) }}",
    "format_map of a nested list": _NESTED + "{{ '{a}'.format_map({'a': ns.a}) }}",
    "upper of a nested list": _NESTED + "{{ ns.a|upper }}",
    "trim of a nested list": _NESTED + "{{ ns.a|trim }}",
    "safe of a nested list": _NESTED + "{{ ns.a|safe }}",
    "escape of a nested list": _NESTED + "{{ ns.a|e }}",
    "reason of a nested list": _NESTED + "{{ raise_exception(ns.a) }}",
    "wordcount of a nested list": _NESTED + "{{ ns.a|wordcount }}",
    "pprint of a nested list": _NESTED + "{{ ns.a|pprint }}",
    "sum of many lists": "{{ ([[1] * 1000] * 100000)|sum(start=[])|length }}",
    "sum of lazy lists": "{{ ([[1] * 1000] * 100000)|map('list')|sum(start=[])|length }}",
    "time": "{{ strftime_now('%c' * 9000000) }}",
    "time, padded": "{{ strftime_now('%1000000000Y' * 1000) }}",
    "bytes": "{{ 'x'.encode().center(10**9)|length }}",
    "bytes of a number": "{{ (1).to_bytes(10**9, 'big')|length }}",
    "a long search from the right": _LONG + "{{ ns.t.rfind('x' ~ 'y' ~ ns.t[1:30000000]) }}",
    "a long split from the right": _LONG + "{{ ns.t.rsplit('x' ~ 'y' ~ ns.t[1:30000000]) }}",
    "a long partition from the right": _LONG + "{{ ns.t.rpartition('x' ~ 'y' ~ ns.t[1:30000000]) }}",
    "strip of many characters": _LONG + "{{ ns.t.strip('y' * 60000000 ~ 'x')|length }}",
    "trim of many characters": _LONG + "{{ ns.t|trim('y' * 60000000 ~ 'x')|length }}",
    "split into characters": "{{ ('x ' * 30000000).split()|length }}",
    "split at a letter": "{{ ('xy' * 30000000).split('y')|length }}",
    "split into lines": "{{ ('\\n' * 60000000).splitlines()|length }}",
    "join of characters": _LONG + "{{ ','.join(ns.t)|length }}",
    "title of many words": "{{ ('x ' * 30000000)|title }}",
    "words of many": "{{ ('x ' * 30000000)|wordcount }}",
    "tags of many": "{{ ('<!---->' * 7000000)|striptags }}",
    "links of many": "{{ ('http://a.b ' * 6000000)|urlize }}",
    "wrapped letters": _LONG + "{{ ns.t|wordwrap(1) }}",
    "wrapped letters of a megabyte": "{{ ('x' * 1000000)|wordwrap(1) }}",
    "quoted letters": "{{ ('\\u00e9' * 60000000)|urlencode }}",
    "a long whole number": "{{ ('f' * 60000000)|int(base=16) }}",
    "a long product of one": "{% set n = ('f' * 10000)|int(base=16) %}{{ (n * n) * (n * n) }}",
    "an equal text in a list": _LONG + "{% set a = ns.t ~ 'a' %}{% set b = ns.t ~ 'b' %}{{ a in [b] * 4000000 }}",
    "a written letter": "{{ 'a' * 60000000 }}",
    "a written letter of a loop": "{% for m in messages %}{{ 'a' * 60000000 }}{% endfor %}",
    "writing in a set block": "{% set t %}{{ 'a' * 60000000 }}{% endset %}{{ t }}",
    "many markers": "{% for i in range(99999) %}<|im_start|><|im_end|><|im_start|><|im_end|>{% endfor %}" * 10,
    "tojson of a long text": _LONG + "{{ ns.t|tojson }}{{ ns.t|tojson }}",
    "macro that doubles": "{% macro m(t, n) %}{{ m(t ~ t, n - 1) if n else t }}{% endmacro %}{{ m('x', 40) }}",
    "filter block that doubles": "{% set ns = namespace(t='xx') %}{% for i in range(60) %}{% set b %}"
    "{% filter replace('x', 'xx') %}{{ ns.t }}{% endfilter %}{% endset %}{% set ns.t = b %}{% endfor %}",
    "translated": "{{ ('\u4e00' * 60000000).translate({0x4e00: 'b'}) }}",
    "a range of ranges": "{% for a in range(99999) %}{% set x = range(99999)|list %}{% endfor %}",
}


def explode(source: str) -> dict[str, object]:
    """Render a bomb; returns the error's name, or None if it came to an end, what was spent, and a control's time."""
    control = _control()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    error: str | None = None
    try:
        ChatTemplate(source, seconds=SECONDS).render(CHAT)
    except TemplateError as raised:
        error = type(raised).__name__
    spent = time.process_time() - started
    unit = 1 if sys.platform == "darwin" else 1 << 10
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit
    return {"error": error, "seconds": spent, "bytes": grown, "control": control + _control()}


def _control() -> float:
    """CPU seconds of some work of Python, which say how fast this machine is now."""
    started = time.process_time()
    sum(i * i % 7 for i in range(200_000))
    return time.process_time() - started


def interrupt(source: str) -> dict[str, object]:
    """Render a bomb under a bound that it does not reach, and press Ctrl-C; returns the CPU time until it ended."""

    def pressed(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGPROF, pressed)
    started = time.process_time()
    ended = "interrupted"
    try:  # outside the other: the key may be pressed just as a bound ends the rendering, in its handler
        try:
            signal.setitimer(signal.ITIMER_PROF, PRESSED)
            ChatTemplate(source, seconds=_PATIENCE).render(CHAT)
        except TemplateError as error:
            ended = type(error).__name__  # a bound that is not time's
        signal.setitimer(signal.ITIMER_PROF, 0)
    except KeyboardInterrupt:
        pass
    signal.signal(signal.SIGPROF, signal.SIG_IGN)
    return {"error": ended, "seconds": time.process_time() - started, "bytes": 0}


def main(part: int, parts: int, how: str = "explode") -> None:
    """Print what becomes of each of a part of the bombs."""
    for name in sorted(BOMBS)[part::parts]:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            signal.alarm(_PATIENCE)
            made = interrupt(BOMBS[name]) if how == "interrupt" else explode(BOMBS[name])
            print(json.dumps({"name": name, **made}), flush=True)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            killed = {"error": f"killed: {status}", "seconds": _PATIENCE, "bytes": 0, "control": 0}
            print(json.dumps({"name": name, **killed}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
