"""Several cuts of one field, done in one step of a replay.

    content.split('</think>')[-1].lstrip('\\n')

makes three texts that know where they came from. Here only the ends move, and the last text is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from policy_engine.chat.trace.origins import Origin
from policy_engine.chat.trace.text import Traced, traced

Cut = Callable[[str, int, int, Any], tuple[int, int]]
"""The ends of what is left of a text's characters `[start, end)`."""


def _before(text: str, start: int, end: int, separator: str) -> tuple[int, int]:
    at = text.find(separator, start, end)
    return start, end if at < 0 else at


def _behind(text: str, start: int, end: int, separator: str) -> tuple[int, int]:
    at = text.rfind(separator, start, end)
    return start if at < 0 else at + len(separator), end


def _left(text: str, start: int, end: int, chars: str | None) -> tuple[int, int]:
    return end - len(text[start:end].lstrip(chars)), end


def _right(text: str, start: int, end: int, chars: str | None) -> tuple[int, int]:
    return start, start + len(text[start:end].rstrip(chars))


def _both(text: str, start: int, end: int, chars: str | None) -> tuple[int, int]:
    return _right(text, *_left(text, start, end, chars), chars)


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
        start, end = 0, len(text)
        for each, argument in cuts:
            start, end = each(text, start, end, argument)
        return traced(text[start:end], ((end - start, origin, start),))

    return cut
