"""Text made safe and visible for terminals and pages.

Data may hold control characters and bidirectional overrides, which must not steer what shows them. A line break may
carry loss, so it is shown:

    "Hi\x1b[31m\n"    →    "Hi␛[31m↵" and a line break
"""

from __future__ import annotations

import re
from itertools import pairwise

from rich.text import Text

_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Control characters, invisible characters, and those that turn the direction of the text around them."""

RETURN = "↵"
"""Shown before each line break."""


def visible(text: str) -> str:
    """The text with line breaks marked and unsafe characters spelled out.

    Line feeds and tabs are kept (`↵` is put before a line feed); other control characters become their Unicode symbol
    (`␛`), and bidirectional controls, line separators and lone surrogates become `<U+202E>`.

    >>> visible("a\\x1b[31mb\\n")
    'a␛[31mb↵\\n'
    """
    return spelled(text).replace("\n", RETURN + "\n")


def spelled(text: str) -> str:
    """The text with unsafe characters spelled out; line feeds and tabs are kept as they are.

    >>> spelled("a\\x1b[31mb")
    'a␛[31mb'
    """
    # Most text is printable, which Python sees several times as fast; no unsafe character is.
    if text.replace("\n", "").isprintable():
        return text
    return _UNSAFE.sub(lambda match: _spell(match[0]), text)


def one_line(text: str, width: int | None = None) -> str:
    """The text on one line, cut at `width` characters with an ellipsis.

    >>> one_line("a\\nb", 20)
    'a↵b'
    """
    # After `visible`, each line break has its `↵` before it, which stays.
    line = visible(text).replace("\n", "").replace("\t", "→")
    return line if width is None or len(line) <= width else line[: max(0, width - 1)] + "…"


def on_one_line(text: Text) -> Text:
    """A styled text on one line, its styles kept: `one_line` for what a console prints.

    >>> on_one_line(Text("a\\nb")).plain
    'a↵b'
    """
    plain = text.plain
    if plain == one_line(plain):
        return text
    # Piece by piece: spelling out makes the text longer, and the places of its styles would be off.
    cuts = sorted({0, len(plain), *(at for span in text.spans for at in (span.start, span.end))})
    made = text.blank_copy()
    for start, end in pairwise(cuts):
        piece = Text(one_line(plain[start:end]))
        for span in text.spans:
            if span.start <= start and end <= span.end:
                piece.stylize(span.style)
        made.append_text(piece)
    return made


def around(text: str, start: int, end: int, *, context: int, style: str) -> Text:
    """Characters `[start, end)` of a text in ⟦ ⟧ and a style, on one line.

    Up to `context` characters around are shown.

    >>> around("say yes now", 4, 7, context=20, style="bold").plain
    'say ⟦yes⟧ now'
    """
    first, last = max(0, start - context), min(len(text), end + context)
    found = text[start:end]
    # More of the start than of the end: what a change begins with says what it is.
    cut = found if len(found) <= 4 * context else found[: 2 * context] + " … " + found[-context:]
    return Text.assemble(
        (("…" if first else "") + one_line(text[first:start]), "dim"),
        (f"⟦{one_line(cut)}⟧", style),
        (one_line(text[end:last]) + ("…" if last < len(text) else ""), "dim"),
    )


def pointed(text: str, start: int, end: int, *, style: str) -> Text:
    """A whole text over several lines, its characters `[start, end)` in ⟦ ⟧ and in a style.

    Line breaks are shown, and the closing mark is on the line it closes, after its `↵`.

    >>> pointed("Hi\\nyes", 0, 3, style="bold").plain
    '⟦Hi↵⟧\\nyes'
    """
    marked, broken = visible(text[start:end]), ""
    if marked.endswith("\n"):
        marked, broken = marked[:-1], "\n"
    return Text.assemble(visible(text[:start]), (f"⟦{marked}⟧", style), broken, visible(text[end:]))


def _spell(character: str) -> str:
    code = ord(character)
    # Unicode has a picture for each control character, from U+2400 on.
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    return f"<U+{code:04X}>"
