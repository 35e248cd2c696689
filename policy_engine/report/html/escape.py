"""Text of data and policies as markup, and the assets of pages."""

from __future__ import annotations

import functools
from html import escape
from importlib.resources import files

from policy_engine.report.visible import RETURN, spelled

GOLDEN_ANGLE = 137.508
"""Degrees between the hues of neighbours: they are far apart, however many there are."""


def escaped(text: str) -> str:
    """Text for content and quoted attributes of elements, unsafe characters spelled out.

    >>> escaped("<b>\\x1b")
    '&lt;b&gt;␛'
    """
    return escape(spelled(text), quote=True)


def with_breaks(text: str) -> str:
    """Text for element content with a mark before each line break, which copying leaves out.

    >>> with_breaks("a\\nb")
    'a<u>↵</u>\\nb'
    """
    return escaped(text).replace("\n", f"<u>{RETURN}</u>\n")


def shown_lengths(texts: list[str]) -> list[int]:
    """Lengths of texts as a browser shows them, in UTF-16 units.

    Unsafe characters are spelled out, and breaks are marked.

    >>> shown_lengths(["Hi", "a\\n", "🙂"])
    [2, 3, 2]
    """
    whole = "".join(texts)
    # The common case in one look: plain ASCII is as long shown as it is.
    if whole.isascii() and spelled(whole) == whole:
        return [len(text) + text.count("\n") for text in texts]
    # A script counts UTF-16 units: an emoji is two. Each line break has its `↵` before it.
    return [len(spelled(text).encode("utf-16-le")) // 2 + text.count("\n") for text in texts]


def hue(index: int) -> str:
    """The hue of something by its number, in degrees.

    >>> hue(0), hue(1)
    ('140', '278')
    """
    return f"{(140 + index * GOLDEN_ANGLE) % 360:.0f}"


@functools.cache
def asset(name: str) -> str:
    """The text of a style sheet or script of this folder."""
    return files("policy_engine.report.html").joinpath(name).read_text(encoding="utf-8")
