"""Colours of the terminal, each legible on light and on dark backgrounds.

They are of the 256 colours whose look no theme of a terminal changes. Where a terminal has only 16 (`TERM=xterm`, as in
many containers), the nearest of these is white for most of them, so `in_few_colours` names others.
"""

from __future__ import annotations

from typing import Final

GOOD: Final = "color(28)"
BAD: Final = "bold color(196)"
DOUBT: Final = "color(130)"
HINT: Final = "bold color(30)"

# Backgrounds with a colour of their own for the text.
TRAINED: Final = "color(16) on color(114)"
LESS: Final = "color(16) on color(80)"
MORE: Final = "color(16) on color(176)"
AGAINST: Final = "color(231) on color(124)"
STRADDLE: Final = "color(16) on color(222)"
RULES: Final = (
    TRAINED,
    LESS,
    MORE,
    STRADDLE,
    "color(16) on color(110)",
    "color(16) on color(209)",
    "color(16) on color(252)",
    "color(231) on color(25)",
    "color(231) on color(90)",
    AGAINST,
)
"""Backgrounds of rules, by their place in the policy."""

# Numbers below 16 are a theme's own colours: black on green is 0 on 2.
_FEW: Final = {
    TRAINED: "color(0) on color(2)",
    LESS: "color(0) on color(6)",
    MORE: "color(0) on color(5)",
    STRADDLE: "color(0) on color(3)",
    "color(16) on color(110)": "color(0) on color(12)",
    "color(16) on color(209)": "color(0) on color(9)",
    "color(16) on color(252)": "color(0) on color(11)",
    "color(231) on color(25)": "color(15) on color(4)",
    "color(231) on color(90)": "color(0) on color(13)",
    AGAINST: "color(15) on color(1)",
}


def in_few_colours(style: str) -> str:
    """The style for a terminal of 16 colours, on a background that no terminal has by itself.

    >>> in_few_colours(f"bold {TRAINED}"), in_few_colours("dim")
    ('bold color(0) on color(2)', 'dim')
    """
    found = _FEW.get(style.removeprefix("bold "))
    return style if found is None else f"bold {found}" if style.startswith("bold ") else found


MASKED: Final = ""
STRUCTURAL: Final = "underline"
TRUNCATED: Final = "strike"
