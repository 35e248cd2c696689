"""Text made safe and visible: what data may hold (control characters, bidirectional overrides) must not steer a
terminal or a page, and a newline that carries loss must be seen.
"""

from __future__ import annotations

import re

_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)

RETURN = "↵"
"""Shown before each line break."""


def visible(text: str) -> str:
    """The text with line breaks marked and unsafe characters spelled out.

    Line feeds and tabs are kept (`↵` is put before a line feed); other control characters become their Unicode symbol
    (`␛`), and bidirectional controls, line separators and lone surrogates become `<U+202E>`.
    """
    return _UNSAFE.sub(lambda match: _spell(match[0]), text).replace("\n", RETURN + "\n")


def one_line(text: str, width: int | None = None) -> str:
    """The text on one line, cut at `width` characters with an ellipsis."""
    line = visible(text).replace("\n", "").replace("\t", "→")
    return line if width is None or len(line) <= width else line[: max(0, width - 1)] + "…"


def _spell(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    return f"<U+{code:04X}>"
