"""Several cuts of one field, done in one step of a replay.

    content.split('</think>')[-1].lstrip('\\n')

makes three texts that know where they came from. Here only the ends move, and the last text is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from policy_engine.chat.trace.origins import Origin
from policy_engine.chat.trace.text import Traced, traced

Cut = Callable[[str, int, Any], tuple[str, int]]
"""The text that is left of one, and its place in the field; given are a text and its place."""


def _before(text: str, start: int, separator: str) -> tuple[str, int]:
    at = text.find(separator)
    return (text, start) if at < 0 else (text[:at], start)


def _behind(text: str, start: int, separator: str) -> tuple[str, int]:
    at = text.rfind(separator)
    if at < 0:
        return text, start
    at += len(separator)
    return text[at:], start + at


def _left(text: str, start: int, chars: str | None) -> tuple[str, int]:
    left = text.lstrip(chars)
    return left, start + len(text) - len(left)


def _right(text: str, start: int, chars: str | None) -> tuple[str, int]:
    return text.rstrip(chars), start


def _both(text: str, start: int, chars: str | None) -> tuple[str, int]:
    left = text.lstrip(chars)
    return left.rstrip(chars), start + len(text) - len(left)


CUTS: Final[dict[str, Cut]] = {
    "cut before": _before, "cut behind": _behind, "lstrip": _left, "rstrip": _right, "strip": _both,
}  # fmt: skip
"""The steps that cut a text out of one field, which cannot fail."""


def cut_of(origin: Origin, cuts: Sequence[tuple[Cut, Any]]) -> Callable[[str], Traced]:
    """The function that cuts a text out of the plain text of a field.

    >>> from policy_engine.chat.trace.origins import origin_at
    >>> cut_of(origin_at(1, ("content",)), [(CUTS["cut behind"], "</think>"), (CUTS["lstrip"], None)])("a</think> b")._r
    ((1, Origin(1, ('content',)), 10),)
    """

    def cut(text: str) -> Traced:
        start = 0
        for each, argument in cuts:
            text, start = each(text, start, argument)
        return traced(text, ((len(text), origin, start),))

    return cut
