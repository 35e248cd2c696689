"""Jinja's filters that would drop where text came from, written so that they keep it."""

from __future__ import annotations

import functools
from collections.abc import Callable, MutableMapping
from typing import Any

import jinja2
import jinja2.filters
import jinja2.utils
from markupsafe import Markup

from policy_engine.chat.trace.origins import LOST, UNKNOWN, Run
from policy_engine.chat.trace.text import Traced, concat, lost, runs_of, traced
from policy_engine.chat.trace.tojson import tojson
from policy_engine.chat.trace.values import text_of


class TracedMarkup(Markup):
    """What `|safe` and `|e` give. Added to other text by Markup's own rules; what is escaped keeps its owner only.

    Methods give what Markup's do, of the same owner; with offsets where the same method of plain text gives the same.
    """

    _r: tuple[Run, ...]

    def __new__(cls, base: Any = "", *args: Any, **kwargs: Any) -> TracedMarkup:
        made: TracedMarkup = super().__new__(cls, base, *args, **kwargs)
        made._r = runs_of(base) if isinstance(base, str) and len(base) == len(made) else ((len(made), UNKNOWN, LOST),)
        return made

    def __str__(self) -> str:
        return traced(str.__str__(self), self._r)

    def __add__(self, value: Any) -> Any:
        if not isinstance(value, str) and not hasattr(value, "__html__"):
            return NotImplemented
        right = _escape(value) if not isinstance(value, Markup) else value
        return _markup(str.__str__(self) + str.__str__(right), self._r + runs_of(right))

    def __radd__(self, value: Any) -> Any:
        if not isinstance(value, str) and not hasattr(value, "__html__"):
            return NotImplemented
        left = _escape(value) if not isinstance(value, Markup) else value
        return _markup(str.__str__(left) + str.__str__(self), runs_of(left) + self._r)


def _markup(text: str, runs: tuple[Run, ...]) -> TracedMarkup:
    made: TracedMarkup = str.__new__(TracedMarkup, text)
    made._r = runs
    return made


def _as_markup(made: Any, plain: Any, inputs: tuple[Any, ...]) -> Any:
    """What a method of Markup made, with the runs of what it made of plain text, or else with the owner."""
    if isinstance(made, list | tuple):
        pairs = zip(made, plain) if len(made) == len(plain) else ((item, None) for item in made)
        return type(made)(_as_markup(item, other, inputs) for item, other in pairs)
    if not isinstance(made, str):
        return made
    text = str.__str__(made)
    runs = runs_of(plain if plain is not None and str.__eq__(text, plain) else lost(text, *inputs))
    return _markup(text, runs) if isinstance(made, Markup) else traced(text, runs)


def _keeping_method(name: str) -> Callable[..., Any]:
    of_markup, of_text = getattr(Markup, name), getattr(Traced, name)

    def method(self: TracedMarkup, *args: Any, **kwargs: Any) -> Any:
        made = of_markup(Markup(str.__str__(self)), *args, **kwargs)
        try:
            plain = of_text(traced(str.__str__(self), self._r), *args, **kwargs)
        except (TypeError, ValueError):
            plain = None
        return _as_markup(made, plain, (self, *args, *kwargs.values()))

    method.__name__ = name
    return method


for _name in (
    "__getitem__", "__mod__", "__mul__", "__rmul__", "capitalize", "center", "expandtabs", "format", "join", "ljust",
    "lower", "lstrip", "partition", "removeprefix", "removesuffix", "replace", "rjust", "rpartition", "rsplit",
    "rstrip", "split", "splitlines", "strip", "swapcase", "title", "translate", "upper", "zfill",
):  # fmt: skip
    setattr(TracedMarkup, _name, _keeping_method(_name))


def _safe(value: Any) -> Markup:
    return TracedMarkup(value) if isinstance(value, str) else Markup(value)


def _escape(value: Any) -> Markup:
    if hasattr(value, "__html__"):
        return Markup(value.__html__())
    given = str(value)
    escaped = str.__str__(Markup.escape(str.__str__(given)))
    same = escaped == given
    return _markup(escaped, runs_of(given) if same else runs_of(lost(escaped, given)))


def _join(environment: jinja2.Environment, value: Any, d: str = "", attribute: Any = None) -> str:
    if attribute is not None:
        value = map(jinja2.filters.make_attrgetter(environment, attribute), value)
    items = [text_of(item) for item in value]
    return Traced.join(Traced(text_of(d)), items)


_join.jinja_pass_arg = jinja2.utils._PassArg.environment  # type: ignore[attr-defined]


def _replace(s: Any, old: Any, new: Any, count: int | None = None) -> str:
    return Traced(text_of(s)).replace(text_of(old), text_of(new), -1 if count is None else count)


def _format(value: Any, *args: Any, **kwargs: Any) -> Any:
    expected = jinja2.filters.do_format(value, *args, **kwargs)
    if isinstance(expected, Markup):
        return expected if isinstance(expected, TracedMarkup) else TracedMarkup(lost(str.__str__(expected), *args))
    return Traced(value) % (kwargs or args)


def _indent(s: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    expected = jinja2.filters.do_indent(str.__str__(s), width, first, blank)
    if not isinstance(s, Traced):
        return expected
    padding = width if isinstance(width, str) else " " * width
    lines = (s + "\n").splitlines()
    pieces: list[str] = [padding] if first else []
    for number, line in enumerate(lines):
        if number:
            pieces += ["\n", padding] if blank or line else ["\n"]
        pieces.append(line)
    made = concat(pieces)
    return made if str.__eq__(made, expected) else lost(expected, s)


def _keep_owner(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter whose result keeps the owner of its input, without offsets."""

    @functools.wraps(function)
    def keeping(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        if not isinstance(result, str):
            return result
        texts = [text_of(arg) for arg in args if isinstance(arg, str | int | float | list | tuple | dict)]
        kept = lost(str.__str__(result), *texts)
        return _markup(str.__str__(result), runs_of(kept)) if isinstance(result, Markup) else kept

    return keeping


def install(filters: MutableMapping[str, Callable[..., Any]]) -> None:
    """Put the keeping filters in place of Jinja's, and transformers' `tojson`."""
    filters["tojson"] = tojson
    filters["safe"] = _safe
    filters["e"] = filters["escape"] = filters["forceescape"] = _escape
    filters["join"] = _join
    filters["replace"] = _replace
    filters["indent"] = _indent
    filters["format"] = _format
    filters["string"] = lambda value: value if isinstance(value, str) else text_of(value)
    for name in (
        "capitalize", "center", "filesizeformat", "pprint", "striptags", "title", "truncate", "urlencode", "urlize",
        "wordwrap", "xmlattr",
    ):  # fmt: skip
        filters[name] = _keep_owner(filters[name])
