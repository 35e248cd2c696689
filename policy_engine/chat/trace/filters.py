"""Filters that keep where text came from, in place of Jinja's.

    {{ [u, v]|join(' + ') }}        ->  ‹Hi, Bob› + «Yes»
    {{ t|map('upper')|first }}      ->  ‹X›
    {{ u|wordwrap(4)|upper }}       ->  ‹HI,⏎BOB›

The first is written again here: each character keeps its origin. `map` and `first` only move values, so they are
Jinja's own. `wordwrap` is Jinja's own too, and what it makes is marked with the owner of what went in.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any, Final

import jinja2
import jinja2.filters
import jinja2.utils
from markupsafe import Markup

from policy_engine.chat.trace.bounds import check_work
from policy_engine.chat.trace.call_bounds import before_any, before_filters, charged, checked
from policy_engine.chat.trace.computed import computed, computed_by_jinja, listed
from policy_engine.chat.trace.markup import TracedMarkup, escape, safe
from policy_engine.chat.trace.origins import LOST, printed_at
from policy_engine.chat.trace.text import Traced, concat, lost, stand_in, text_of, traced
from policy_engine.chat.trace.tojson import tojson
from policy_engine.chat.trace.values import TracedDict, TracedList, TracedMessage

_PASSING_ON: Final = frozenset(
    {
        "batch", "dictsort", "groupby", "items", "list", "map", "max", "min", "random", "reject", "rejectattr",
        "reverse", "select", "selectattr", "slice", "sort", "unique",
    }
)  # fmt: skip
"""Filters that give back what they are given, or part of it, or a list of it."""
_CHEAP: Final = frozenset({"attr", "count", "d", "default", "first", "last", "length", "trim"})
"""Filters that make nothing longer than what they are given, and see to marks themselves."""


def _join(environment: jinja2.Environment, value: Any, d: str = "", attribute: Any = None) -> str:
    # `join(attribute='name')`, as Jinja has it.
    if attribute is not None:
        value = map(jinja2.filters.make_attrgetter(environment, attribute), value)
    items = [text_of(item) for item in value]
    return Traced.join(Traced(text_of(d)), items)


_join.jinja_pass_arg = jinja2.utils._PassArg.environment  # type: ignore[attr-defined]


def _replace(s: Any, old: Any, new: Any, count: int | None = None) -> str:
    return Traced(text_of(s)).replace(text_of(old), text_of(new), -1 if count is None else count)


def _format(value: Any, *args: Any, **kwargs: Any) -> Any:
    # Jinja's own first: it decides about Markup, and raises its own errors.
    expected = jinja2.filters.do_format(value, *args, **kwargs)
    if isinstance(expected, TracedMarkup):
        return expected
    if isinstance(expected, Markup):
        return TracedMarkup(lost(str.__str__(expected), value, *args, *kwargs.values()))
    return Traced(value) % (kwargs or args)


def _indent(s: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    expected = jinja2.filters.do_indent(str.__str__(s), width, first, blank)
    if not isinstance(s, Traced):
        return lost(expected, s, width)
    padding = width if isinstance(width, str) else " " * width
    # As Jinja's code has it, so that a last line without an end counts.
    lines = (s + "\n").splitlines()
    pieces: list[str] = [padding] if first else []
    for number, line in enumerate(lines):
        if number:
            pieces += ["\n", padding] if blank or line else ["\n"]
        pieces.append(line)
    made = concat(pieces)
    return made if str.__eq__(made, expected) else lost(expected, s, width)


def _trim(value: Any, chars: str | None = None) -> str:
    if type(value) is Traced and chars is None:
        return value.strip()
    text = text_of(value)
    # Stripping compares each character at the ends with each of `chars`.
    if isinstance(chars, str):
        check_work(len(text) * len(chars) >> 6)
    made: str = computed(text.strip(chars), value, chars)
    return made


def _truncate(
    environment: jinja2.Environment,
    s: str,
    length: int = 255,
    killwords: bool = False,
    end: str = "...",
    leeway: int | None = None,
) -> str:
    expected = jinja2.filters.do_truncate(environment, s, length, killwords, end, leeway)
    if type(s) is not Traced or str.__eq__(s, expected):
        return expected
    # What is left keeps its places in the field, so that the rest is known to be lost.
    made = s[: len(expected) - len(end)] + stand_in(s, end)
    return made if str.__eq__(made, expected) else lost(expected, s, length, end, leeway)


_truncate.jinja_pass_arg = jinja2.utils._PassArg.environment  # type: ignore[attr-defined]


def _pprint(value: Any) -> str:
    text = jinja2.filters.do_pprint(value)
    if not isinstance(value, TracedDict | TracedList):
        return lost(text, value)
    return traced(text, ((len(text), printed_at(value._o.turn, value._o.path, whole=True), LOST),))


def _string(value: Any) -> str:
    return value if isinstance(value, str) else text_of(value)


def _attr(environment: jinja2.Environment, value: Any, name: Any) -> Any:
    return computed(jinja2.filters.do_attr(environment, value, name), name)


_attr.jinja_pass_arg = jinja2.utils._PassArg.environment  # type: ignore[attr-defined]


def _length(value: Any) -> int:
    # A number of what the data holds is the data's; that of a list the template made is, if its first item is. The
    # messages are counted by templates that number turns: their number is nobody's text.
    size = len(value)
    kind = type(value)
    if kind is list and size and type(value[0]) is not TracedMessage:
        size = computed(size, value[0])
    elif kind is Traced or kind is TracedList or kind is TracedDict:
        size = computed(size, value)
    return size


_OWN: Final[dict[str, Callable[..., Any]]] = {
    "attr": _attr, "count": _length, "e": escape, "escape": escape, "forceescape": escape, "format": _format,
    "indent": _indent, "join": _join, "length": _length, "replace": _replace, "safe": safe, "string": _string,
    "tojson": tojson, "trim": _trim,
}  # fmt: skip
"""Filters that are written again here, so that each character keeps its origin."""


def install(filters: MutableMapping[str, Callable[..., Any]]) -> None:
    """Replace filters by those that keep origins, with checks and marks around the others."""
    filters.update(_OWN)
    # Marked as Jinja's own are: where a part of what they make has no origin, all of it is of one owner.
    filters["truncate"], filters["pprint"] = _truncate, _pprint
    checks = before_filters()
    for name in set(filters) - _CHEAP:
        moves = name in _PASSING_ON
        # A filter that moves values prints nothing, so it needs no check unless one is listed.
        check = checks.get(name, None if moves else before_any)
        mark = None if moves else computed if name in _OWN else computed_by_jinja
        filters[name] = _guarded(filters[name], check, mark, reads=name in ("join", "sum"))


def _guarded(
    function: Callable[..., Any],
    check: Callable[..., Any] | None,
    mark: Callable[..., Any] | None,
    *,
    reads: bool,
) -> Callable[..., Any]:
    """Return `function` with a check before it and a mark on its result.

    One that `reads` its lists to their end is given lists, for example `join` and `sum`.
    """
    passes = getattr(function, "jinja_pass_arg", None)
    skipped = 0 if passes is None else 1

    def guarded(*args: Any, **kwargs: Any) -> Any:
        if reads:
            args = listed(args)
        if check is not None:
            checked(check, args[skipped:], kwargs)
        made = charged(function(*args, **kwargs))
        if mark is None:
            return made
        return mark(made, *args[skipped:], *kwargs.values())

    if passes is not None:
        guarded.jinja_pass_arg = passes  # type: ignore[attr-defined]
    return guarded
