"""Generators of texts for the parser: printed policies, damaged ones, soups of words."""

from __future__ import annotations

import re
from typing import Final

from policy_engine.core.vocabulary import GROUPS, KEYWORDS, PART_NAMES
from policy_engine.lang.format import format_policy
from policy_engine.testing.choices import Choices
from policy_engine.testing.policies import policy, raw_policy

_SOUP: Final = (
    *KEYWORDS, *PART_NAMES, *GROUPS, "assistant", "user", "message", "message.train", "turn.index", "\n", "\n", ";",
    ",", "(", ")", "[", "]", ".", "==", "!=", "<", ">=", "=", '"x"', '"', "/a+/i", "/", "\\", "1", "-1.5", "1e999", "0",
    "#", "# c\n", " ", "\t", "\r\n", "\ufeff", "é", "\u2028", "\x00", "日本", "'",
)  # fmt: skip
# Where a newline does not end a statement, as far as strings and regexes allow: a quote behind would be one of either.
_BREAK: Final = re.compile(r"""(?<=, )(?=[^"/]*$)|(?= (?:where|unless|weight|by) [^"/]*$)""")
_COMMENTS: Final = ("", " plain", "# twice", ' with ; and "quotes" and /slashes/', " 日本", "!x", " tab\there ")


def commented_policy_text(choices: Choices) -> str:
    """A policy that parses, with comments on own lines, after statements and in the middle."""
    lines = []
    for line in format_policy(raw_policy(choices)).split("\n"):
        # `range(True)` is one round: a comment or no comment.
        for _ in range(choices.chance(20)):
            lines.append(choices.pick(("", "  ")) + _comment(choices))
        if choices.chance(30):
            line = _broken(choices, line)
        lines.append(f"{line}{choices.pick((' ', '', '   '))}{_comment(choices)}" if choices.chance(20) else line)
    return "\n".join(lines)


def _broken(choices: Choices, line: str) -> str:
    """A statement over several lines, with comments at the ends of some and on lines between."""
    pieces = _BREAK.split(line)
    out = pieces[0]
    for piece in pieces[1:]:
        if choices.chance(50):
            out += choices.pick((" ", "")) + (_comment(choices) if choices.chance(60) else "") + "\n"
            while choices.chance(25):
                out += f"  {_comment(choices)}\n"
            piece = f"  {piece.lstrip()}"
        out += piece
    return out


def _comment(choices: Choices) -> str:
    return "#" + choices.pick(_COMMENTS)


def policy_text(choices: Choices) -> str:
    """Any text, mostly like a policy: printed, damaged, a soup of its words, or arbitrary."""
    # Mostly damaged policies: they get far into the parser before they fail.
    kind = choices.integer(0, 9)
    if kind == 9:
        return choices.characters(40)
    if kind >= 6:
        return choices.pick((" ", "", " ")).join(choices.many(lambda c: c.pick(_SOUP), 0, 25))
    text = commented_policy_text(choices) if kind >= 4 else format_policy(policy(choices, most=3))
    for _ in range(choices.integer(0, 3)):
        text = _damaged(choices, text)
    return text


def _damaged(choices: Choices, text: str) -> str:
    at = choices.integer(0, len(text))
    end = min(len(text), at + choices.integer(0, 6))
    how = choices.integer(0, 4)
    if how == 0:
        return text[:at] + text[end:]
    if how == 1:
        return text[:at] + choices.pick(_SOUP) + text[at:]
    if how == 2:
        return text[:at] + choices.pick(_SOUP) + text[end:]
    if how == 3:
        return text[:end] + text[at:]
    return text[:at]
