"""Lines of text folded at a width as rich folds them, plain ones in a tenth of its time.

"the quick brown fox"    at 10    →    "the quick " and "brown fox"
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from rich.console import Console
from rich.text import Text

_NARROW: Final = " -~¡-¬®-˿Ͱ-҂‐-‧‰-⁞←-⇿─-╿⟦⟧⟨⟩"
"""Characters that take one column each, none of them a space but the space itself: Latin, Greek, Cyrillic, marks."""
_NARROW_LINE: Final = re.compile(f"[{_NARROW}]*")
_NARROW_TEXT: Final = re.compile(f"[{_NARROW}\n]*")


def fits(line: str, width: int) -> bool:
    """True for a line that is known to need no more columns than `width`."""
    # A wide character takes two columns, so that only narrow lines are known to fit by their length.
    return len(line) <= width and _NARROW_LINE.fullmatch(line) is not None


def folded(text: str, console: Console, width: int) -> Iterator[str]:
    """The lines of a text, those wider than `width` columns in several.

    >>> list(folded("the quick brown fox\\njumps", Console(), 10))
    ['the quick ', 'brown fox', 'jumps']
    """
    # Most texts are narrow as a whole, so that not each of their lines is looked through.
    narrow = _NARROW_TEXT.fullmatch(text) is not None
    for line in text.split("\n"):
        if not narrow and _NARROW_LINE.fullmatch(line) is None:
            yield from (own.plain for own in Text(line).wrap(console, width, overflow="fold"))
        elif len(line) <= width:
            yield line
        elif _longest_word(line) <= width:
            yield from _by_words(line, width)
        else:
            yield from (own.plain for own in Text(line).wrap(console, width, overflow="fold"))


def _longest_word(line: str) -> int:
    """The length of the longest word of a line; spaces that begin it belong to its first word."""
    words = line.lstrip(" ").split(" ")
    return max(len(line) - len(line.lstrip(" ")) + len(words[0]), *map(len, words))


def _by_words(line: str, width: int) -> Iterator[str]:
    """A line folded between its words, none of which is longer than the width.

    A word keeps the spaces after it, up to the width.
    """
    start = 0
    while len(line) - start > width:
        cut = start + width
        if line[cut] == " ":
            # The next word, or the end of the line.
            after = len(line) - len(line[cut:].lstrip(" "))
        else:
            after = line.rfind(" ", start, cut) + 1
        yield line[start:after][:width]
        start = after
    if start < len(line):
        yield line[start:]
