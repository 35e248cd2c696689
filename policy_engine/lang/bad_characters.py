"""Diagnostics for characters that begin no token: other quotes, open strings, bad numbers."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from policy_engine.core.diagnostics import Diagnostic, error_at
from policy_engine.core.source import Source, Span

_OTHER_CHARACTERS: Final = (
    ("'‘’`´“”„«»", 'quotes are written `"`'),
    ("&|!", "write `and`, `or`, `not`"),
    ("{}", "a list is written `[…]`, and targets are grouped by `(…)`"),
    ("-", 'a role with a hyphen is written in quotes: `"my-role"`'),
    ("*", "write `everything` for all text"),
    (":", "a policy has no `:`; write `let NAME = TARGETS`, `where FIELD == VALUE`"),
    ("，、；", "write `,` or `;`"),
)
"""Characters that mean something elsewhere, and what to write here."""
_REMOVE: Final = "remove it, or put it in quotes if it belongs to a name"


def unexpected_character(source: Source, at: int, end: int) -> Diagnostic:
    """The diagnostic for the character at `at`, in a statement that ends at `end`.

    >>> error = unexpected_character(Source(name="a.policy", text="train 'assistant'"), 6, 17)
    >>> error.code, error.help
    ('PE103', 'quotes are written `"`')
    """
    rest = source.text[at:end]
    line = rest.split("\n", 1)[0]
    character = rest[:1]
    span = Span(source=source, start=at, end=min(at + 1, end))
    whole = Span(source=source, start=at, end=at + len(line))
    if character == '"':
        return _bad_string(line, source, at)
    if line.startswith(("//", "--")):
        return error_at("PE103", "a comment starts with `#`", whole, f"write `#` instead of `{line[:2]}`")
    if character == "/":
        return error_at(
            "PE105",
            "this regex is never closed",
            whole,
            "end it with `/` on the same line; write `\\/` for a slash in it",
        )
    # `01`, `2.` and `1_000` begin as numbers do, and no terminal takes them.
    if match := re.match(r"-?[0-9][\w.]*", line):
        span = Span(source=source, start=at, end=at + match.end())
        return error_at(
            "PE106", f"`{short(match[0])}` is not a number", span, "write it as JSON does: `2`, `-0.5`, `1e-3`"
        )
    # Letters beyond ASCII: `café` would be readable, and look-alikes of other scripts would not be seen.
    if (match := re.match(r"\w+", line)) and match[0]:
        span = Span(source=source, start=at, end=at + match.end())
        help = f'write a role of that name in quotes: `"{short(match[0])}"`'
        return error_at(
            "PE103", f"`{short(match[0])}` is not a name: names have ASCII letters, digits and `_`", span, help
        )
    return error_at("PE103", f"{_named(character)} has no meaning here", span, _other_character(character))


def _bad_string(line: str, source: Source, at: int) -> Diagnostic:
    match = re.match(r'"(?:[^"\\]|\\.)*"', line)
    if match is None:
        span = Span(source=source, start=at, end=at + len(line))
        return error_at(
            "PE104",
            "this string is never closed",
            span,
            'end it with `"` on the same line; write `\\n` for a line break',
        )
    # The first alternative eats valid escapes, so that what the groups find is invalid.
    for bad in re.finditer(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})|(\\u?.?)|([\x00-\x08\x0a-\x1f])', match[0]):
        if bad[1] or bad[2]:
            span = Span(source=source, start=at + bad.start(), end=at + bad.end())
            help = "strings are JSON's: `\\\"`, `\\\\`, `\\n`, `\\t`, `\\u0041`; write `\\\\` for a backslash"
            return error_at("PE104", f"{_named(bad[0])} is not allowed in a string", span, help)
    span = Span(source=source, start=at, end=at + len(match[0]))
    return error_at("PE101", "a string has no meaning here", span, "remove it")


def _other_character(character: str) -> str:
    found = (help for characters, help in _OTHER_CHARACTERS if character in characters)
    return next(found, "write a plain space" if character.isspace() else _REMOVE)


def _named(text: str) -> str:
    # A character that cannot be seen, or may be mistaken, is named by its number.
    if len(text) == 1 and not (text.isprintable() and text.isascii()):
        name = unicodedata.name(text, "control character")
        shown = f"`{text}` " if text.isprintable() and not unicodedata.combining(text) else ""
        return f"{shown}(U+{ord(text):04X}, {name.lower()})"
    return f"`{short(text)}`"


def short(text: str) -> str:
    """A text on one line, in at most 40 characters."""
    text = text if len(text) <= 40 else text[:39] + "…"
    return text.replace("\n", "\\n")
