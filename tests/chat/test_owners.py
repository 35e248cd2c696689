"""Text that a template computes from a message's data is never taken for the template's own text.

Each case is one expression; `u` is a user's text, `v` another user's, `n` a user's number.
"""

from __future__ import annotations

import pytest

from policy_engine.chat.template import ChatTemplate
from policy_engine.core.errors import TemplateError
from policy_engine.data.conversation import Conversation

USER = {"role": "user", "content": "Quser0Z", "n": 7310942, "x": 26.5, "k": [1, 2, 3], "o": {"Qkey": "Quser0Z"}}
OTHER_USER = {"role": "user", "content": "Vother1W", "n": 5}
CHAT = Conversation(messages=(USER, OTHER_USER))

CASES = {
    # Formatting that puts a value inside a list, an object or a number's format.
    "percent of a list": "{{ '%s' % [u] }}",
    "percent of a list and text": "{{ '%s%s' % ([u], v) }}",
    "percent of an object": "{{ '%s' % {'a': u} }}",
    "percent, repr": "{{ '%r' % u }}",
    "percent of a number": "{{ '%d' % n }}",
    "percent of a float": "{{ '%.1f' % x }}",
    "percent, named": "{{ '%(a)d' % {'a': n} }}",
    "percent of a namespace": "{{ '%s' % namespace(x=u) }}",
    "format of data": "{{ u.format(1) }}{{ (u ~ '{}').format('a') }}{{ (u ~ '{a}').format_map({'a': v}) }}",
    "format of markup of data": "{{ (u|safe).format('a') }}",
    "format of a list": "{{ '{}'.format([u]) }}",
    "format of a list and text": "{{ '{}{}'.format([u], v) }}",
    "format with a field": "{{ '{0[0]}'.format([u]) }}",
    "format of a number": "{{ '{:d}'.format(n) }}",
    "format, conversion": "{{ '{!r}'.format(u) }}",
    "format of markup": "{{ ('{}'|safe).format(u) }}",
    "format of markup with a number": "{{ ('{:d}'|safe).format(n) }}",
    "format_map": "{{ '{a}'.format_map({'a': [u]}) }}",
    "format filter of a list": "{{ '%s'|format([u]) }}",
    "percent of markup": "{{ ('%s'|safe) % [u] }}",
    "markup and percent of a tuple": "{{ ('%s%s'|safe) % ('<', u) }}",
    # Printed containers and views.
    "tuple": "{{ (u, 1) }}",
    "values": "{{ {'a': u}.values() }}",
    "values of data": "{{ messages[0].values() }}",
    "items": "{{ {'a': u}.items()|string }}",
    "items in a list": "{{ [{'a': u}.items()] }}",
    "join of a lazy list": "{{ (['-'][0]|attr('join'))([u]|map('upper')) }}",
    "join of a reversed list": "{{ (['-'][0]|attr('join'))([u]|reverse) }}",
    "keys": "{{ {u: 1}.keys() }}",
    "keys of data": "{{ messages[0].o.keys() }}",
    "key of an object": "{{ {u: 1} }}",
    "mapping of a view": "{{ {'a': u}.items().mapping }}",
    "namespace": "{{ namespace(x=u) }}",
    "namespace in a list": "{{ [namespace(x=u)] }}",
    "namespace in a namespace": "{{ namespace(x=namespace(y=[u]))|string }}",
    "namespace, joined": "{{ namespace(x=u) ~ '' }}",
    "method": "{{ u.upper }}",
    "name in a namespace": "{{ namespace(**{u: 'a'}) }}{{ [namespace(**{u: 'a'})] }}",
    "name of an object": "{{ dict(**{u: 'a'}) }}",
    "name of an argument": "{% macro m() %}{{ kwargs }}{% endmacro %}{{ m(**{u: 'a'}) }}",
    "set of keys": "{{ ({u: 1}.keys()|list + ['a'])|string }}",
    "method in a list": "{{ [u.upper] }}",
    "group": "{{ [{'a': u}]|groupby('a')|first }}",
    "varargs": "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(u, a=u) }}",
    "block": "{% block b %}{{ 'x' + u }}{% endblock %}{{ self.b() }}",
    # JSON.
    "tojson of a tuple": "{{ (u,)|tojson }}",
    "tojson of a key": "{{ {u: 'a'}|tojson }}",
    "tojson of a number": "{{ [n + 1]|tojson }}",
    "tojson, separators": "{{ [1, 2]|tojson(separators=(u, ': ')) }}",
    "tojson, indent": "{{ [1, 2]|tojson(indent=u) }}",
    "tojson of two": "{{ [u, v]|tojson(separators=('\"', ':')) }}",
    # Methods of the template's own text, with data as their argument.
    "translate": "{{ 'a'.translate({97: u}) }}",
    "translate by maketrans": "{{ 'a'.translate(''.maketrans('a', u[0])) }}",
    "translate by maketrans of an object": "{{ 'a'.translate(''.maketrans({'a': u})) }}",
    "translate of other data": "{{ v.translate({86: u}) }}",
    "center with data": "{{ 'x'.center(9, u[0]) }}",
    "center other data with data": "{{ v.center(20, u[0]) }}",
    "ljust with data": "{{ ['x'][0].ljust(9, u[0]) }}",
    "join by data": "{{ u.join(['x', 'y']) }}",
    "join markup": "{{ (','|safe).join([u, v]) }}",
    "partition at data": "{{ 'abcdefghijklmnopqrstuvwxyzQZ0'.partition(u[0])[1] }}",
    "partition at data, plain": "{{ ['abcdefghijklmnopqrstuvwxyzQZ0'][0].partition(u[0])[1] }}",
    "replace with data": "{{ ['X'][0].replace('X', u) }}",
    "time": "{{ strftime_now(u) }}",
    "date in a filter": "{{ [u]|map('string')|map('replace', 'x', 'y')|list }}",
    # Filters of Jinja's that compute.
    "upper of a list": "{{ [u]|upper }}",
    "trim of a list": "{{ [u]|trim }}",
    "safe of a list": "{{ [u]|safe }}",
    "escape of a list": "{{ [u]|e }}",
    "safe, then escaped": "{{ u|safe|e }}",
    "safe, then indented": "{{ u|safe|indent }}",
    "indent by data": "{{ ['a\nb'][0]|indent(u) }}",
    "striptags": "{{ ('<b>' + u)|striptags }}",
    "safe, letter by letter": "{% for c in u|safe %}{{ c }}{% endfor %}{{ u|safe|list|join }}{{ u|safe|last }}",
    "truncate": "{{ ('x' * 30)|truncate(9, end=u[:2]) }}",
    "urlize": "{{ 'http://a.b'|urlize(target=u) }}",
    "xmlattr": "{{ {'a': u}|xmlattr }}",
    "wordwrap of data by data": "{{ u|wordwrap(3, true, v) }}",
    "truncate, in part": "{{ (u * 9)|truncate(20, true, v) }}",
    "wordwrap": "{{ 'x y'|wordwrap(1, wrapstring=u) }}",
    "urlencode": "{{ {'a': u}|urlencode }}",
    "lipsum and data": "{{ (lipsum(n=1, min=1, max=2)|safe)[:0] + u }}",
    "Markup of lipsum and data": "{{ lipsum(n=1, min=1, max=2)[:0] + u }}",
    # Numbers.
    "number": "{{ n }}",
    "sum": "{{ n + 0 }}",
    "sum, reversed": "{{ 0 + n }}",
    "difference": "{{ n - 0 }}",
    "product": "{{ n * 1 }}",
    "quotient": "{{ n / 1 }}",
    "whole quotient": "{{ n // 1 }}",
    "remainder": "{{ n % 9999999 }}",
    "power": "{{ n ** 1 }}",
    "negative": "{{ -n }}",
    "positive": "{{ +n }}",
    "round": "{{ n|round }}",
    "round of a float": "{{ x|round(1) }}",
    "abs": "{{ n|abs }}",
    "int": "{{ ('7310942' ~ u[:0])|int }}",
    "int of a base": "{{ u[:0]|int(7310942) }}",
    "float": "{{ n|float }}",
    "sum filter": "{{ [n]|sum }}",
    "sum of an attribute": "{{ [messages[0]]|map(attribute='n')|sum }}",
    "filesizeformat": "{{ n|filesizeformat }}",
    "string": "{{ n|string }}",
    "real": "{{ n.real }}",
    "numerator": "{{ n.numerator }}",
    "conjugate": "{{ n.conjugate() }}",
    "ratio": "{{ x.as_integer_ratio() }}",
    "hex": "{{ x.hex() }}",
    "range": "{{ range(n - 7310940)|last + 7310941 }}",
    "largest": "{{ [n, 1]|max + 0 }}",
    "start of a range": "{{ ''.join(['a']) ~ (n // 1000) }}",
    # Text that data chose from the template's own.
    "letter by a number": "{{ 'abcdefgh'[messages[1].n] }}",
    "item by a number": "{{ ['Qa', 'Qb', 'Qc', 'Qd', 'Qe', 'Qf'][messages[1].n] }}",
    "slice by a number": "{{ 'abcdefgh'[messages[1].n:messages[1].n + 1] }}",
    "letter by its place": "{{ 'abcdefQ'['abcdefQ'.find(u[0])] }}",
    "letter by its index": "{{ ['a', 'Q'][['a', 'Q'].index(u[0])] }}",
    "letter by key": "{{ {'Q': 'Q', 'a': 'a'}[u[0]] }}",
    "letter by get": "{{ {'Q': 'Q', 'a': 'a'}.get(u[0]) }}",
    "letter by attr": "{{ namespace(Q='Q', a='a')|attr(u[0]) }}",
    "letter by attribute": "{{ [{'Q': 'Q'}]|map(attribute=u[0])|first }}",
    "letter by dot": "{{ ({'Q': 'Q'}|items|list)[u.count('z')][0] }}",
    "letter by length": "{{ 'abcdefghijkl'[('abcdefQ'.split(u[0])|first)|length] }}",
}

OTHER = {
    "no bytes": "{{ u.encode().decode() }}",
    "no sets": "{{ {u: 1}.keys() - ['a'] }}",
    "no complex numbers": "{{ (-n) ** 0.5 }}",
    "no bytes by a filter": "{{ ([u]|map('attr', 'encode')|first)() }}",
    "no bytes of a number": "{{ n.to_bytes(9, 'big') }}",
}


def unclaimed(source: str) -> str:
    """The characters that a rendering takes for the template's own."""
    given = "{% set u = messages[0].content %}{% set n = messages[0].n %}{% set x = messages[0].x %}"
    chat = ChatTemplate(f"{given}{{% set v = messages[1].content %}}{source}").render(CHAT, in_other_words=False)
    assert chat.text
    return "".join(chat.segment_text(s) for s in chat.segments if s.field is None and not s.unknown)


def check(source: str) -> str:
    try:
        return unclaimed(source)
    except TemplateError as error:
        return f"ERROR {error}"


@pytest.mark.parametrize("name", sorted(CASES))
def test_text_computed_from_data_is_not_the_template_s(name: str) -> None:
    own = unclaimed(CASES[name])
    assert not set("QZVW") & set(own), own
    assert not any(char.isdigit() for char in own), own


@pytest.mark.parametrize("name", sorted(OTHER))
def test_what_cannot_be_followed_is_refused(name: str) -> None:
    with pytest.raises(TemplateError, match="may not make"):
        unclaimed(OTHER[name])
