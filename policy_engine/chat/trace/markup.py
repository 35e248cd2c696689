"""Markup that knows where it came from: the result of `|safe` and `|e`.

Markup escapes what is added to it, so what a method makes of it can differ from what it makes of text:

    {{ u|safe }}                      ->  ‹Hi, Bob›
    {{ '<i>'|safe + u }}              ->  <i>‹Hi, Bob›
    {{ ('%s & %s'|safe) % (u, 1) }}   ->  ‹Hi, Bob› & 1
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from markupsafe import Markup

from policy_engine.chat.trace.origins import LOST, UNKNOWN, Run
from policy_engine.chat.trace.text import Traced, lost, runs_of, text_of, traced


class TracedMarkup(Markup):
    """Markup with runs; it is added to other text by the rules of Markup.

    Escaped text keeps its owner, without offsets.

    Methods give what Markup's do, of the same owner; with offsets where the same method of plain text gives the same.
    """

    _r: tuple[Run, ...]

    def __new__(cls, base: Any = "", *args: Any, **kwargs: Any) -> TracedMarkup:
        made: TracedMarkup = super().__new__(cls, base, *args, **kwargs)
        # Of the same length, nothing was escaped or taken from another object.
        made._r = runs_of(base) if isinstance(base, str) and len(base) == len(made) else ((len(made), UNKNOWN, LOST),)
        return made

    def __str__(self) -> str:
        return traced(str.__str__(self), self._r)

    def __iter__(self) -> Iterator[str]:
        return iter(traced(str.__str__(self), self._r))

    def __add__(self, value: Any) -> Any:
        if not isinstance(value, str) and not hasattr(value, "__html__"):
            return NotImplemented
        right = escape(value) if not isinstance(value, Markup) else value
        return marked_up(str.__str__(self) + str.__str__(right), self._r + runs_of(right))

    def __radd__(self, value: Any) -> Any:
        if not isinstance(value, str) and not hasattr(value, "__html__"):
            return NotImplemented
        left = escape(value) if not isinstance(value, Markup) else value
        return marked_up(str.__str__(left) + str.__str__(self), runs_of(left) + self._r)


def marked_up(text: str, runs: tuple[Run, ...]) -> TracedMarkup:
    """Markup of `text` with `runs`, whose lengths add up to its length."""
    made: TracedMarkup = str.__new__(TracedMarkup, text)
    made._r = runs
    return made


def _as_markup(made: Any, plain: Any, inputs: tuple[Any, ...]) -> Any:
    """Give the result of a method of Markup the runs of the same method of plain text.

    Where the two differ, because something was escaped, the result keeps the owner and no offsets.
    """
    if isinstance(made, list | tuple):
        pairs = zip(made, plain) if len(made) == len(plain) else ((item, None) for item in made)
        return type(made)(_as_markup(item, other, inputs) for item, other in pairs)
    if not isinstance(made, str):
        return made
    text = str.__str__(made)
    runs = runs_of(plain if plain is not None and str.__eq__(text, plain) else lost(text, *inputs))
    return marked_up(text, runs) if isinstance(made, Markup) else traced(text, runs)


def _keeping_method(name: str) -> Callable[..., Any]:
    of_markup, of_text = getattr(Markup, name), getattr(Traced, name)

    def method(self: TracedMarkup, *args: Any, **kwargs: Any) -> Any:
        # Twice: the rules of Markup make the text, the same method of plain text says where it came from.
        made = of_markup(Markup(str.__str__(self)), *args, **kwargs)
        try:
            plain = of_text(traced(str.__str__(self), self._r), *args, **kwargs)
        # Markup takes arguments that plain text refuses, such as Markup in a format.
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


def safe(value: Any) -> Markup:
    """The filter `safe`."""
    return TracedMarkup(text_of(value))


def escape(value: Any) -> Markup:
    """The filters `escape` and `e`: what is escaped keeps its owner, without offsets."""
    if hasattr(value, "__html__"):
        # What says that it is safe is not escaped again.
        return value if isinstance(value, TracedMarkup) else Markup(value.__html__())
    given = text_of(value)
    escaped = str.__str__(Markup.escape(str.__str__(given)))
    same = escaped == given
    return marked_up(escaped, runs_of(given) if same else runs_of(lost(escaped, given)))
