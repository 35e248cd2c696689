"""No attribute of a traced value gives a template more than Jinja's own sandbox gives of the plain value.

Every attribute of every type is reached by every way that a template has; the reference is Jinja's
`ImmutableSandboxedEnvironment` on plain data.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from types import BuiltinMethodType, MethodType
from typing import Any

import jinja2
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from policy_engine.chat.template import ChatTemplate
from policy_engine.chat.trace.environment import TracingEnvironment, run_template
from policy_engine.chat.trace.filters import TracedMarkup
from policy_engine.chat.trace.text import Traced
from policy_engine.chat.trace.values import wrap, wrap_message
from policy_engine.core.errors import TemplateError
from policy_engine.data.conversation import Conversation

EVIL = "{0.__class__}{a.__class__}{a.__globals__[os].environ}"
"""As a format string it reads attributes that no template may read."""

PLAIN: dict[str, Any] = {
    "str": EVIL,
    "dict": {"a": EVIL, "b": [1]},
    "message": {"role": "user", "content": EVIL},
    "list": [EVIL, {"a": 1}],
    "int": 7,
    "float": 1.5,
    "bytes": EVIL.encode(),
    "markup": Markup(EVIL),
}
TRACED: dict[str, Callable[[], Any]] = {
    "str": lambda: wrap(EVIL, 0, ("content",)),
    "dict": lambda: wrap(PLAIN["dict"], 0, ("content",)),
    "message": lambda: wrap_message(PLAIN["message"], 0, {}),
    "list": lambda: wrap(PLAIN["list"], 0, ("content",)),
    "int": lambda: wrap(7, 0, ("content",)),
    "float": lambda: wrap(1.5, 0, ("content",)),
    "bytes": lambda: wrap(EVIL, 0, ("content",)).encode(),
    "markup": lambda: TracedMarkup(wrap(EVIL, 0, ("content",))),
}
WAYS = {
    "dot": "{{ see(x.ATTR) }}",
    "subscript": "{{ see(x['ATTR']) }}",
    "attr": "{{ see(x|attr('ATTR')) }}",
    "map": "{{ see([x]|map(attribute='ATTR')|first) }}",
    "stored": "{% set f = x.ATTR %}{% set ns = namespace(f=f, g=[f], h={'f': f}) %}{{ see(ns.f, ns.g[0], ns.h.f) }}",
    "macro": "{% macro m(f) %}{{ see(f) }}{% endmacro %}{{ m(x.ATTR) }}{{ m(f=x|attr('ATTR')) }}",
    "filter's argument": "{{ see(missing|default(x.ATTR)) }}{{ see([x.ATTR]|first) }}"
    "{{ see([1]|map('default', x.ATTR)|list) }}",
    "name of data": "{{ see(x[name], x|attr(name)) }}",
    "grouped": "{{ see(([x]|groupby('ATTR')|first).grouper) }}",
    "sorted": "{{ see([x]|selectattr('ATTR')|list) }}{{ see([x]|sum(attribute='ATTR', start=x)) }}",
}
# What a method may be called with: enough for `format` and its kind to reach an attribute.
CALLS: tuple[tuple[tuple[Any, ...], dict[str, Any]], ...] = (
    ((), {}),
    ((len,), {}),
    (({"a": len},), {}),
    ((len, len), {"a": len}),
    (("a",), {}),
    (("a", "b"), {}),
    ((2,), {}),
)
RAW = (BuiltinMethodType, MethodType)


class Seen:
    """Collects the values that a template passes to it."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def __call__(self, *values: Any) -> str:
        self.values += values
        return ""


@functools.cache
def both() -> tuple[TracingEnvironment, ImmutableSandboxedEnvironment]:
    """Ours and Jinja's, which keep what they compile for all kinds of values."""
    return TracingEnvironment(), reference()


def reference() -> ImmutableSandboxedEnvironment:
    return ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"], autoescape=False
    )


@functools.cache
def compiled(environment: jinja2.Environment, source: str) -> jinja2.Template:
    """A template of an environment, which compiles it once."""
    return environment.from_string(source)


def reach(environment: jinja2.Environment, way: str, name: str, value: Any) -> list[Any]:
    """What a template reaches: values, or the class of the error that ended it."""
    seen = Seen()
    try:
        template = compiled(environment, WAYS[way].replace("ATTR", name))
        variables = {"x": value, "see": seen, "name": name}
        if isinstance(environment, TracingEnvironment):
            run_template(template, variables, 5.0)
        else:
            template.render(variables)
    except Exception as error:
        seen.values.append(type(error))
    return seen.values


def kind_of(value: Any) -> str:
    """`refused`, `format` for a method in the sandbox's formatter, `method`, or `value`."""
    if isinstance(value, jinja2.Undefined) or (isinstance(value, type) and issubclass(value, Exception)):
        return "refused"
    if isinstance(value, RAW) and isinstance(value.__self__, str) and value.__name__ in ("format", "format_map"):
        return "raw format"
    return "method" if callable(value) else "value"


ALLOWED = {"refused": {"refused"}, "method": {"refused", "method"}, "value": {"refused", "value"}}


def outcome(environment: jinja2.Environment, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """`refused` if the call ends in the sandbox's error, else what it gives as text."""
    template = compiled(environment, "{{ f(*args, **kwargs) }}")
    variables = {"f": function, "args": args, "kwargs": kwargs}
    try:
        if isinstance(environment, TracingEnvironment):
            return "".join(str(piece) for piece, _ in run_template(template, variables, 5.0))
        return template.render(variables)
    except jinja2.exceptions.SecurityError:
        return "refused"
    except Exception as error:
        return type(error).__name__


def names_of(kind: str) -> list[str]:
    """Attributes of the plain and the traced type, and names that internals of the interpreter have."""
    internals = {"mro", "__globals__", "__code__", "__func__", "__self__", "gi_frame", "f_globals", "_r", "_o", "_sub"}
    found = set(dir(type(PLAIN[kind]))) | set(dir(TRACED[kind]())) | internals
    return sorted(found)


@pytest.mark.parametrize("way", sorted(WAYS))
@pytest.mark.parametrize("kind", sorted(PLAIN))
def test_every_attribute_gives_no_more_than_jinjas_sandbox(kind: str, way: str) -> None:
    ours, theirs = both()
    for name in names_of(kind):
        got = reach(ours, way, name, TRACED[kind]())
        wanted = reach(theirs, way, name, PLAIN[kind])
        assert len(got) <= len(wanted) or kind_of(wanted[-1]) != "refused", (name, got, wanted)
        for mine, plain in zip(got, wanted, strict=False):
            assert kind_of(mine) in ALLOWED[kind_of(plain)], (name, mine, plain)
            if kind_of(mine) == "method":
                for args, kwargs in CALLS:
                    allowed = outcome(theirs, plain, args, kwargs)
                    result = outcome(ours, mine, args, kwargs)
                    assert "refused" != allowed or result == "refused", (name, args, result)
                    assert "environ" not in result or "environ" in allowed, (name, args, result)
                    assert "<class" not in result or "<class" in allowed, (name, args, result)


def test_a_raw_method_is_not_called_even_if_a_template_is_given_one() -> None:
    environment = TracingEnvironment()
    for method in (EVIL.format, EVIL.format_map, Traced(EVIL).format, Traced(EVIL).format_map, Markup(EVIL).format):
        assert "refused" == outcome(environment, method, ({"a": len},), {})


DATA = "messages[0].content"
ADVISORIES = {
    "CVE-2016-10745 str.format": "{{ (U[:0] ~ '{a.__globals__}').format(a=lipsum) }}",
    "CVE-2016-10745 str.format of data": "{{ (U[:0] ~ '{0.__class__.__mro__}').format(U) }}",
    "CVE-2019-10906 str.format_map": "{{ (U[:0] ~ '{a.__globals__[os].environ[HOME]}').format_map({'a': lipsum}) }}",
    "CVE-2019-10906 str.format_map of a constant": "{{ '{a.__globals__}'.format_map({'a': lipsum}) }}",
    "CVE-2019-10906 str.format_map of markup": "{{ ((U[:0] ~ '{a.__globals__}')|safe).format_map({'a': lipsum}) }}",
    "CVE-2024-56326 stored format": "{% set f = (U[:0] ~ '{a.__globals__}').format %}{{ f(a=lipsum) }}",
    "CVE-2024-56326 stored in a namespace": "{% set ns = namespace(f=(U[:0] ~ '{a.__globals__}').format_map) %}"
    "{{ ns.f({'a': lipsum}) }}",
    "CVE-2024-56326 passed to a macro": "{% macro m(f) %}{{ f(lipsum) }}{% endmacro %}"
    "{{ m((U[:0] ~ '{0.__globals__}').format) }}",
    "CVE-2024-56326 by map": "{{ ([(U[:0] ~ '{a.__globals__}')]|map(attribute='format_map')|first)({'a': lipsum}) }}",
    "CVE-2025-27516 attr filter": "{{ ((U[:0] ~ '{a.__globals__}')|attr('format'))(a=lipsum) }}",
    "CVE-2025-27516 attr filter, format_map": "{{ ((U[:0] ~ '{a.__globals__}')|attr('format_map'))({'a': lipsum}) }}",
    "CVE-2025-27516 map of attr": "{{ ([U[:0] ~ '{a.__globals__}']|map('attr', 'format_map')|first)({'a': lipsum}) }}",
    "CVE-2024-22195 xmlattr, blank in a key": "{{ {'a onclick=x': 1}|xmlattr }}",
    "CVE-2024-34064 xmlattr, sign in a key": "{{ {'a/onclick=x>': 1}|xmlattr }}",
    "a library beside the template": "{{ (U[:0] ~ '{a.__globals__[sys].modules[ctypes].cdll[x]}')"
    ".format_map({'a': lipsum}) }}",
    "nested in a format's width": "{{ (U[:0] ~ '{0:{a.__globals__[os]}}').format('', a=lipsum) }}",
}


def written(environment: jinja2.Environment, source: str, message: Any) -> str:
    """The text of a template over one message, or `refused`."""
    template = environment.from_string(source)
    try:
        if isinstance(environment, TracingEnvironment):
            return "".join(str(piece) for piece, _ in run_template(template, {"messages": [message]}, 5.0))
        return template.render(messages=[message])
    except (jinja2.exceptions.SecurityError, ValueError):
        return "refused"


@pytest.mark.parametrize("name", sorted(ADVISORIES))
def test_published_advisories_of_jinjas_sandbox(name: str) -> None:
    """Refused, or undefined and so writes nothing: whatever Jinja's own sandbox does."""
    source = ADVISORIES[name].replace("U", DATA)
    message = {"role": "user", "content": "hi"}
    assert written(reference(), source, message) in ("refused", "")
    assert written(reference(), source, message) == written(TracingEnvironment(), source, wrap_message(message, 0, {}))


def test_cve_2024_56201_names_of_templates_do_not_reach_the_compiler() -> None:
    """A template has no name of its own here, and what it includes is not found."""
    with pytest.raises((jinja2.TemplateNotFound, TypeError)):
        run_template(TracingEnvironment().from_string("{% include '{\\n__import__(\"os\")}' %}"), {}, 5.0)


def test_cve_2020_28493_urlize_is_bounded() -> None:
    chat = Conversation(messages=({"role": "user", "content": "hi"},))
    template = ChatTemplate("{{ ('a@' + '.' * 100000 + '!')|urlize|length }}", seconds=5.0)
    with contextlib.suppress(TemplateError):
        assert template.render(chat).text
