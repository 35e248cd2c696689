"""Finds the statements and comments of a policy text without parsing it.

The parser reads a whole text; only when that fails are its statements parsed one by one, so that every error of a file
is reported at once. Both agree on where a statement ends because this scanner follows the terminals `_END`, `_OPEN` and
`_MORE` of the grammar.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from policy_engine.core.source import Source, Span
from policy_engine.core.vocabulary import CONTINUATIONS
from policy_engine.lang.ast import Comment

# A comment could hide a rule behind them, a string be read as another one.
HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]|\r(?!\n)|(?<!^)\ufeff"
)
"""Invisible characters, and characters that some editors render as a line break."""
_TOKEN = re.compile(
    r"""(?P<comment>\#[^\n]*)
      | (?P<string>"(?:[^"\\\n]|\\[^\n])*"?)
      | (?P<regex>/(?:[^/\\\n]|\\[^\n])*/?)
      | (?P<end>[;\n])
      | (?P<blank>[ \t\r\ufeff]+)
      | (?P<word>\w+)
      | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_CONTINUES = frozenset({*CONTINUATIONS, "and", "or", ")", "]"})
"""A newline before one of these does not end a statement."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A text's statements, without blanks and comments around them, and its comments."""

    statements: tuple[tuple[int, int], ...]
    comments: tuple[Comment, ...]


def words_before(text: str, end: int) -> tuple[str, str, int]:
    """The last two tokens of `text[:end]`, or empty strings, and the start of the last one.

    >>> words_before("train assi", 10)
    ('train', 'assi', 6)
    """
    before, last, start = "", "", 0
    # From the start of the text: only so is it known whether a quote opens a string or closes one.
    for match in _TOKEN.finditer(text, 0, end):
        if match.lastgroup not in ("blank", "comment", "end"):
            before, last, start = last, match[0], match.start()
    return before, last, start


def split(source: Source) -> Parts:
    """Find statements and comments. Total: any text can be split.

    >>> split(Source(name="a.policy", text="train user; mask tool  # no")).statements
    ((0, 10), (12, 21))
    """
    statements: list[tuple[int, int]] = []
    comments: list[Comment] = []
    start: int | None = None  # of the statement being read
    end = 0  # of its last token
    opened = False  # its last token is a comma or an open bracket
    newline = False  # a newline is after its last token
    line_is_blank = True
    for match in _TOKEN.finditer(source.text):
        kind = match.lastgroup
        if kind == "comment":
            text = match[0].rstrip()
            span = Span(source=source, start=match.start(), end=match.start() + len(text))
            comments.append(Comment(text=text[1:], own_line=line_is_blank, span=span))
        elif kind == "end" and match[0] == "\n":
            # After a comma or an open bracket a newline means nothing, as `_OPEN` of the grammar has it.
            newline = not opened
            line_is_blank = True
        elif kind == "end":
            if start is not None:
                statements.append((start, end))
            start, opened, newline, line_is_blank = None, False, False, False
        elif kind != "blank":
            # The newline is judged by the token behind it, as `_MORE` of the grammar does.
            if start is not None and newline and match[0] not in _CONTINUES:
                statements.append((start, end))
                start = None
            if start is None:
                start = match.start()
            end, newline, line_is_blank = match.end(), False, False
            opened = kind == "other" and match[0] in ",(["
    if start is not None:
        statements.append((start, end))
    return Parts(statements=tuple(statements), comments=tuple(comments))
