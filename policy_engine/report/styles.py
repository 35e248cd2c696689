"""Colours of the terminal, each legible on light and on dark backgrounds.

They are of the 256 colours whose look no theme of a terminal changes; where there are only 16, the nearest is taken.
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

MASKED: Final = ""
STRUCTURAL: Final = "underline"
TRUNCATED: Final = "strike"
